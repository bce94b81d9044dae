/**
 * The second half of a collection: garbage goes into the trash, in batches. Each batch is a
 * transaction of some milliseconds that looks first what writers have changed, and between two of
 * them writers get their turn. What refers goes before what it refers to, so after each batch
 * nothing left refers to what is gone.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Code, codeOf } from '../base/index.js';
import { describeResource, type Resource, removalOrder } from '../gc/index.js';
import type { Actor } from '../store/index.js';
import { type Changes, isMetadata } from './changes.js';
import type { Reading } from './reading.js';
import { reasonsOf } from './reasons.js';
import type { CollectStore, CollectTransaction } from './store.js';

export interface SweepOptions {
  readonly by: Actor;
  /** How long a batch may take, in milliseconds, its commit not counted. */
  readonly batchMs: number;
  /** How long writers get the lock between two batches. */
  readonly gapMs: number;
  /** True ends the sweep before the next batch. */
  readonly isOver: () => boolean;
  /** Only these are removed; others that refer to them are not waited for. */
  readonly only?: ReadonlySet<number>;
}

/** With these defaults a writer gets the lock at least two thirds of the time. */
export const PACE = { batchMs: 5, gapMs: 20 };

/** More changes than this are caught up with before a batch, where no writer waits for it. */
const FEW_CHANGES = 30;
const CATCH_UP_ROUNDS = 5;
/** So many batches that failed one after the other end the sweep: the disk is full, or broken. */
const MOST_FAILED_BATCHES = 3;

/** Why what a failed removal has left is a root for the rest of the collection. */
const STAYS = 'it could not be removed';

type Outcome = 'removed' | 'changed';

/** What a batch has done; counted when it is committed. */
interface Batch {
  /** Groups that were dealt with. */
  groups: number;
  readonly outcomes: (readonly [id: number, outcome: Outcome])[];
  readonly failures: (readonly [id: number, error: unknown])[];
  readonly plugins: number[];
}

export class Sweep {
  readonly #store: CollectStore;
  readonly #reading: Reading;
  readonly #changes: Changes;
  readonly #options: SweepOptions;
  readonly #groups: readonly (readonly number[])[];
  readonly #reason: (id: number) => string;
  readonly #removed = new Set<number>();
  /** Garbage of plug-ins, which is removed afterwards. */
  readonly #plugins: number[] = [];
  #next = 0;

  constructor(store: CollectStore, reading: Reading, changes: Changes, options: SweepOptions) {
    this.#store = store;
    this.#reading = reading;
    this.#changes = changes;
    this.#options = options;
    const { only } = options;
    const groups = removalOrder(reading.scan, reading.marking);
    this.#groups = groups.map((group) => (only === undefined ? group : group.filter((id) => only.has(id))));
    this.#reason = reasonsOf(reading.scan, reading.marking);
  }

  /** What has gone into the trash. */
  get removed(): ReadonlySet<number> {
    return this.#removed;
  }

  /** Resources of plug-ins that nothing kept when the sweep came by. */
  get plugins(): readonly number[] {
    return this.#plugins;
  }

  get isDone(): boolean {
    return this.#next >= this.#groups.length;
  }

  /** @throws LaminaError Unavailable when other writers hold the lock for too long; Aborted */
  async run(): Promise<void> {
    let failed = 0;
    let limit = Number.POSITIVE_INFINITY;
    while (!this.isDone && !this.#options.isOver()) {
      this.catchUp();
      try {
        this.#commit(limit);
        failed = 0;
        limit = Number.POSITIVE_INFINITY;
      } catch (error) {
        if (codeOf(error) === Code.Unavailable || codeOf(error) === Code.Aborted) throw error;
        // One item is tried alone next, so that it does not keep the others.
        if (limit > 1) {
          limit = 1;
          continue;
        }
        failed += 1;
        if (failed >= MOST_FAILED_BATCHES) throw error;
        for (const id of this.#groups[this.#next] ?? []) this.#fail(id, error);
        this.#next += 1;
      }
      if (!this.isDone) await delay(this.#options.gapMs);
    }
  }

  /** Marks what writers have changed, outside of any transaction, until little is left. */
  catchUp(): void {
    for (let round = 0; round < CATCH_UP_ROUNDS; round += 1) {
      if (this.#store.read((view) => this.#changes.catchUp(view)) <= FEW_CHANGES) return;
    }
  }

  /** One batch. @param limit groups at most */
  #commit(limit: number): void {
    const batch: Batch = { groups: 0, outcomes: [], failures: [], plugins: [] };
    let begin = performance.now();
    this.#store.write(this.#options.by, (transaction) => {
      begin = performance.now();
      this.#changes.catchUp(transaction);
      do {
        this.#remove(transaction, this.#groups[this.#next + batch.groups] ?? [], batch);
        batch.groups += 1;
      } while (
        batch.groups < limit &&
        this.#next + batch.groups < this.#groups.length &&
        performance.now() - begin < this.#options.batchMs
      );
    });
    const { tally, scan } = this.#reading;
    tally.pause(performance.now() - begin);
    this.#next += batch.groups;
    for (const id of batch.plugins) this.#plugins.push(id);
    for (const [id, outcome] of batch.outcomes) {
      if (outcome === 'removed') this.#removed.add(id);
      tally.add(scan.graph.resource(id).type, outcome, outcome === 'removed' ? scan.bytes(id) : 0);
    }
    for (const [id, error] of batch.failures) this.#fail(id, error);
  }

  /** In a cycle a snapshot may come before its children: it waits until they have gone. */
  #remove(transaction: CollectTransaction, group: readonly number[], batch: Batch): void {
    let left: readonly number[] = group;
    for (let before = -1; left.length > 0 && left.length !== before; ) {
      before = left.length;
      left = left.filter((id) => !this.#removeOne(transaction, id, batch, group.length > 1));
    }
    for (const id of left) this.#removeOne(transaction, id, batch, false);
  }

  /** @returns false when it has children, and may wait for them */
  #removeOne(transaction: CollectTransaction, id: number, batch: Batch, mayWait: boolean): boolean {
    const { marking, scan } = this.#reading;
    if (marking.isReached(id)) {
      batch.outcomes.push([id, 'changed']);
      return true;
    }
    const resource = scan.graph.resource(id);
    if (!isMetadata(resource)) {
      batch.plugins.push(id);
      return true;
    }
    try {
      transaction.toTrash(resource, this.#reason(id));
      batch.outcomes.push([id, 'removed']);
    } catch (error) {
      switch (codeOf(error)) {
        // Another has removed it.
        case Code.NotFound:
          batch.outcomes.push([id, 'changed']);
          break;
        // Something has it as its parent.
        case Code.FailedPrecondition:
          if (mayWait) return false;
          batch.failures.push([id, error]);
          marking.reach(id, STAYS);
          break;
        // Its record is damaged.
        case Code.DataLoss:
        case Code.InvalidArgument:
          batch.failures.push([id, error]);
          // It stays, and so does what it refers to.
          marking.reach(id, STAYS);
          break;
        default:
          throw error;
      }
    }
    return true;
  }

  #fail(id: number, error: unknown): void {
    const resource: Resource = this.#reading.scan.graph.resource(id);
    this.#reading.tally.fail(describeResource(resource), error, resource);
    this.#reading.marking.reach(id, STAYS);
  }
}
