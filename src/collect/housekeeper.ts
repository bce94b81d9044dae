/**
 * Collects by itself, in a service: by containerd's schedule, when something expires, when the
 * owner of a lease ends.
 */
import { expiryOf, type ScheduleParameters } from '../gc/index.js';
import type { JournalEntry } from '../store/index.js';
import { type CollectOptions, collect } from './collect.js';
import { type Clock, Loop, realClock } from './loop.js';
import { OwnerWatch } from './owners.js';
import type { CollectionResult } from './result.js';
import type { CollectStore, CollectView } from './store.js';

export interface HousekeeperOptions extends Omit<CollectOptions, 'budgetMs' | 'dryRun'> {
  readonly schedule?: Partial<ScheduleParameters>;
  /**
   * How often the journal is looked at for what other processes did, in milliseconds. Default
   * 1,000.
   */
  readonly pollMs?: number;
  /** Called with each collection's result. */
  readonly onResult?: (result: CollectionResult) => void;
  /** Called with the error of a collection, or of a look at the store. */
  readonly onFailure?: (error: unknown) => void;
  readonly clock?: Clock;
  readonly random?: () => number;
}

const POLL_MS = 1_000;
/** More entries of the journal than this count as so many. */
const MOST_ENTRIES = 10_000;
/** How often the store's files are tended. */
const MAINTENANCE_MS = 600_000;
/** Removals by collections themselves: they call for no further one. */
const OWN_RULES = new Set(['collect', 'trash']);

export class Housekeeper implements AsyncDisposable {
  readonly #store: CollectStore;
  readonly #options: HousekeeperOptions;
  readonly #clock: Clock;
  readonly #owners: OwnerWatch;
  readonly #abort = new AbortController();
  #loop: Loop<CollectionResult> | undefined;
  #stopPoll: () => void = () => undefined;
  #sequence = 0;
  #maintainedMs = Number.NEGATIVE_INFINITY;

  constructor(store: CollectStore, options: HousekeeperOptions) {
    this.#store = store;
    this.#options = options;
    this.#clock = options.clock ?? realClock;
    this.#owners = new OwnerWatch(() => this.#loop?.trigger());
  }

  /** Begins: the first collection comes after the schedule's startup delay. Idempotent. */
  start(): void {
    if (this.#loop !== undefined) return;
    const { schedule: parameters = {}, random, onFailure, onResult } = this.#options;
    const isOver = this.#abort.signal;
    this.#loop = new Loop<CollectionResult>({
      parameters,
      clock: this.#clock,
      ...(random === undefined ? {} : { random }),
      ...(onFailure === undefined ? {} : { onFailure }),
      collect: async () => {
        const signal = this.#options.signal === undefined ? isOver : AbortSignal.any([this.#options.signal, isOver]);
        const result = await collect(this.#store, { ...this.#options, signal });
        onResult?.(result);
        this.#maintain();
        return result;
      },
    });
    this.#look(true);
  }

  /** Asks for a collection, without waiting for it. */
  trigger(): void {
    this.start();
    this.#loop?.trigger();
  }

  /**
   * Runs a collection that begins after this call: containerd's ScheduleAndWait.
   * @throws what the collection throws; LaminaError Unavailable when this is closed first
   */
  async collectNow(): Promise<CollectionResult> {
    this.start();
    const loop = this.#loop as Loop<CollectionResult>;
    return await loop.collectNow();
  }

  /** Ends. A collection under way stops where that leaves everything whole, and is waited for. */
  async close(): Promise<void> {
    this.#abort.abort();
    this.#stopPoll();
    this.#owners[Symbol.dispose]();
    await this.#loop?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * After a collection, as that is when there is something to give back. Its trouble is not the
   * collection's.
   */
  #maintain(): void {
    const now = this.#clock.monotonic();
    if (now - this.#maintainedMs < MAINTENANCE_MS) return;
    this.#maintainedMs = now;
    try {
      this.#store.maintain?.();
    } catch (error) {
      this.#options.onFailure?.(error);
    }
  }

  /** Looks what others have changed. @param isFirst also at everything that is there */
  #look(isFirst = false): void {
    if (this.#abort.signal.aborted) return;
    try {
      this.#store.read((view) => {
        const last = view.sequence();
        if (isFirst || last !== this.#sequence) this.#see(view, isFirst);
        this.#sequence = last;
      });
      this.#owners.look();
    } catch (error) {
      this.#options.onFailure?.(error);
    }
    this.#stopPoll = this.#clock.after(this.#options.pollMs ?? POLL_MS, () => this.#look());
  }

  #see(view: CollectView, isFirst: boolean): void {
    const entries = isFirst ? [] : view.journal({ after: this.#sequence, limit: MOST_ENTRIES });
    for (const entry of entries) {
      if (entry.rule !== undefined && OWN_RULES.has(entry.rule)) continue;
      this.#loop?.mutated(isDeletion(entry));
      const expiry = expiryOfEntry(view, entry);
      if (expiry !== undefined) this.#loop?.expires(expiry);
    }
    if (!isFirst && !entries.some(({ kind }) => kind === 'lease')) return;
    const leases = view.namespaces().flatMap((namespace) => view.leases(namespace));
    this.#owners.watch(leases.map(({ owner }) => owner).filter((owner) => owner !== undefined));
    for (const { expiresAt } of isFirst ? leases : []) if (expiresAt !== undefined) this.#loop?.expires(expiresAt);
  }
}

/** What may have made garbage: containerd counts the same. */
function isDeletion({ kind, action, proof }: JournalEntry): boolean {
  if (action === 'delete' || action === 'trash') return kind !== 'namespace' && kind !== 'sandbox';
  return kind === 'lease' && action === 'update' && proof?.startsWith('-') === true;
}

function expiryOfEntry(view: CollectView, { kind, namespace, key }: JournalEntry): number | undefined {
  if (kind === 'lease') return view.lease(namespace, key)?.expiresAt;
  if (kind === 'ingest') return view.ingest(namespace, key)?.expiresAt;
  const image = kind === 'image' ? view.image(namespace, key) : undefined;
  return image && expiryOf(image.labels);
}
