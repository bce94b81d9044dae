/**
 * The queue between what raises events and who iterates over them.
 *
 * It is bounded however slow the reader: rises of one counter become one event, a state that
 * changes back and forth keeps the changes that matter (at most two), a pressure threshold that is
 * passed again is reported once.
 */
import { createDeferred, type Deferred } from '../base/index.js';
import type { CgroupEvent } from './events.js';

/**
 * Notifications may be missed (another mount's removal, a file that goes with its group), so a
 * waiter looks by itself now and then.
 */
const RECHECK_MS = 250;

type Result = IteratorResult<CgroupEvent, undefined>;
const DONE: Result = { done: true, value: undefined };

/** What raises events. */
export interface EventSource extends Disposable {
  /** Looks for changes that no notification has told. */
  check(): void;
}

/** What a source says. */
export interface EventSink {
  readonly hasEnded: boolean;
  push(event: CgroupEvent): void;
  /** The group has gone: what is pending is still delivered. */
  end(): void;
}

export class EventStream implements AsyncIterableIterator<CgroupEvent>, EventSink {
  // What it is about → its events not yet delivered, in the order in which they began; removed when
  // delivered.
  readonly #pending = new Map<string, CgroupEvent[]>();
  readonly #waiters: Deferred<Result>[] = [];
  readonly #source: EventSource;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => void this.return();
  #recheck: NodeJS.Timeout | undefined;
  #ended: boolean = false;

  /** @param open begins to watch; what it reports is delivered even before anybody asks */
  constructor(open: (sink: EventSink) => EventSource, signal?: AbortSignal) {
    this.#signal = signal;
    this.#source = open(this);
    if (this.#ended) this.#source[Symbol.dispose]();
    if (signal?.aborted === true) this.#onAbort();
    else signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  get hasEnded(): boolean {
    return this.#ended;
  }

  /** Looks at once for what no notification has told yet. */
  check(): void {
    if (!this.#ended) this.#source.check();
  }

  push(event: CgroupEvent): void {
    if (this.#ended) return;
    const key = keyOf(event);
    const waiting = this.#pending.get(key);
    if (waiting === undefined) this.#pending.set(key, [event]);
    else this.#pending.set(key, merge(waiting, event));
    this.#deliver();
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    // Undefined while `open` runs.
    this.#source?.[Symbol.dispose]();
    this.#deliver();
  }

  next(): Promise<Result> {
    const waiter = createDeferred<Result>();
    this.#waiters.push(waiter);
    this.#deliver();
    return waiter.promise;
  }

  /** Ends it; what is pending is forgotten. */
  return(): Promise<Result> {
    this.#pending.clear();
    this.end();
    return Promise.resolve(DONE);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #deliver(): void {
    while (this.#waiters.length > 0) {
      const event = this.#take();
      if (event === undefined && !this.#ended) break;
      this.#waiters.shift()?.resolve(event === undefined ? DONE : { done: false, value: event });
    }
    this.#setRecheck(this.#waiters.length > 0);
  }

  #take(): CgroupEvent | undefined {
    const [first] = this.#pending;
    if (first === undefined) return undefined;
    const [key, [event, ...rest]] = first;
    this.#pending.delete(key);
    if (rest.length > 0) this.#pending.set(key, rest);
    return event;
  }

  /** Referenced: it is what keeps a process alive that waits for nothing else. */
  #setRecheck(on: boolean): void {
    if (on) this.#recheck ??= setInterval(() => this.check(), RECHECK_MS);
    else {
      clearInterval(this.#recheck);
      this.#recheck = undefined;
    }
  }
}

function keyOf(event: CgroupEvent): string {
  if (event.type !== 'pressure') return event.type;
  const { resource, kind, stallUsec, windowUsec } = event.threshold;
  return `pressure ${resource} ${kind} ${stallUsec} ${windowUsec}`;
}

function merge(waiting: readonly CgroupEvent[], event: CgroupEvent): CgroupEvent[] {
  // There and back: with the third change, what the first has said is true again.
  if (event.type === 'populated' || event.type === 'frozen') {
    return waiting.length < 2 ? [...waiting, event] : waiting.slice(0, 1);
  }
  const [first] = waiting;
  if (event.type === 'pressure' || first === undefined || !('count' in first)) return [event];
  return [{ ...event, count: first.count + event.count }];
}
