/** What a collection has done. */
import { messageOf } from '../base/index.js';
import { type Resource, typeName } from '../gc/index.js';
import type { Collected } from './loop.js';

export type Phase = 'collectors' | 'read' | 'mark' | 'catch_up' | 'sweep' | 'remove' | 'free';

/** Something that went wrong with one item or one collector; the rest went on. */
export interface Failure {
  /** `content sha256:… of default`, `collector of mount: start`. */
  readonly subject: string;
  readonly message: string;
}

/** Of one type of resources. */
export interface TypeCounts {
  readonly kept: number;
  readonly removed: number;
  /** Garbage at first, and in use again, gone or replaced when it was its turn. */
  readonly changed: number;
  readonly failed: number;
  /** Size of what was removed. */
  readonly bytes: number;
}

export interface CollectionResult extends Collected {
  /** `stopped`: the budget was used up, or the signal came; what was done is whole. */
  readonly result: 'success' | 'stopped';
  /** `content`, `snapshot`, … → what became of them. */
  readonly types: Readonly<Record<string, TypeCounts>>;
  /** How many resources can be reached, those that do not exist included. */
  readonly markedCount: number;
  /** Milliseconds. */
  readonly phases: Readonly<Record<Phase, number>>;
  /** The transactions in which other writers had to wait, in milliseconds. */
  readonly pauses: { readonly count: number; readonly longestMs: number; readonly eachMs: readonly number[] };
  readonly failures: readonly Failure[];
  /** Bytes that were given back to the file system: what was in the trash long enough. */
  readonly freedBytes: number;
  readonly trash: { readonly items: number; readonly bytes: number };
  /** Of the leases that are left, in milliseconds; empty without metrics. */
  readonly leaseAges: readonly number[];
}

type Counter = { -readonly [Field in keyof TypeCounts]: number };

/** Failures of a result are so many at most; the counts have all of them. */
const MOST_FAILURES = 1_000;

/** Counts while a collection runs. */
export class Tally {
  readonly #types = new Map<string, Counter>();
  readonly #failures: Failure[] = [];
  readonly #phases: Record<Phase, number> = {
    collectors: 0,
    read: 0,
    mark: 0,
    catch_up: 0,
    sweep: 0,
    remove: 0,
    free: 0,
  };
  readonly #pauses: number[] = [];

  get failures(): readonly Failure[] {
    return this.#failures;
  }

  get types(): ReadonlyMap<string, TypeCounts> {
    return this.#types;
  }

  get phases(): Readonly<Record<Phase, number>> {
    return this.#phases;
  }

  get pauses(): readonly number[] {
    return this.#pauses;
  }

  add(type: number, outcome: Exclude<keyof TypeCounts, 'bytes'>, bytes = 0): void {
    const name = typeName(type);
    let counter = this.#types.get(name);
    if (counter === undefined) {
      counter = { kept: 0, removed: 0, changed: 0, failed: 0, bytes: 0 };
      this.#types.set(name, counter);
    }
    counter[outcome] += 1;
    counter.bytes += bytes;
  }

  fail(subject: string, error: unknown, resource?: Resource): void {
    if (resource !== undefined) this.add(resource.type, 'failed');
    if (this.#failures.length < MOST_FAILURES) this.#failures.push({ subject, message: messageOf(error) });
  }

  pause(ms: number): void {
    this.#pauses.push(ms);
  }

  /** Adds the time that work takes to a phase. */
  async during<T>(phase: Phase, work: () => T | Promise<T>): Promise<T> {
    const begin = performance.now();
    try {
      return await work();
    } finally {
      this.#phases[phase] += performance.now() - begin;
    }
  }
}
