/**
 * Runs collections when `Schedule` says so. It owns the timer, the waiters and the one collection
 * under way; what a collection is, it is given.
 */
import { Code, createDeferred, type Deferred, LaminaError } from '../base/index.js';
import { Schedule, type ScheduleParameters } from '../gc/index.js';

/** Time and timers: real ones, or a test's. */
export interface Clock {
  /** Milliseconds of a clock that is never set. */
  monotonic(): number;
  /** Milliseconds since the epoch. */
  wall(): number;
  /** @returns stops the timer */
  after(ms: number, work: () => void): () => void;
}

export const realClock: Clock = {
  monotonic: () => performance.now(),
  wall: () => Date.now(),
  after: (ms, work) => {
    const timer = setTimeout(work, ms);
    return () => clearTimeout(timer);
  },
};

/** What the loop must know of a collection. */
export interface Collected {
  /** How long writers waited, altogether. */
  readonly pauseMs: number;
  /** When something expires next, in milliseconds since the epoch. */
  readonly nextExpiry: number | undefined;
  /** It was stopped before it was through: there is more to collect. */
  readonly isPartial: boolean;
}

export interface LoopOptions<Result extends Collected> {
  readonly collect: () => Promise<Result>;
  /** Called with the error of a collection; nothing else hears of one that is not waited for. */
  readonly onFailure?: (error: unknown) => void;
  readonly parameters?: Partial<ScheduleParameters>;
  readonly clock?: Clock;
  readonly random?: () => number;
}

/**
 * Timers are set for so long at most: the wall clock, by which things expire, may be set meanwhile.
 */
const LONGEST_SLEEP_MS = 60_000;
/** A timer's least time: what is due now runs in a turn of its own. */
const SHORTEST_SLEEP_MS = 1;

export class Loop<Result extends Collected> {
  readonly #options: LoopOptions<Result>;
  readonly #clock: Clock;
  readonly #schedule: Schedule;
  #stopTimer: () => void = () => undefined;
  /** Wait for the next collection that begins. */
  #waiters: Deferred<Result>[] = [];
  #running: Promise<void> | undefined;
  /** Wall clock. */
  #nextExpiry: number | undefined;
  #isClosed = false;

  constructor(options: LoopOptions<Result>) {
    this.#options = options;
    this.#clock = options.clock ?? realClock;
    this.#schedule = new Schedule(this.#clock.monotonic(), options.parameters ?? {}, options.random ?? Math.random);
    this.#plan();
  }

  /** The pause between two collections that only the pause threshold decides, in milliseconds. */
  get intervalMs(): number {
    return this.#schedule.intervalMs;
  }

  /** The metadata was changed. @param isDirty something was deleted */
  mutated(isDirty: boolean): void {
    this.#schedule.mutated(this.#clock.monotonic(), isDirty);
    this.#plan();
  }

  /** A collection is asked for, and not waited for. */
  trigger(): void {
    this.#schedule.triggered(this.#clock.monotonic());
    this.#plan();
  }

  /**
   * When something expires next, if that is earlier than what is known. @param at milliseconds
   * since the epoch
   */
  expires(at: number): void {
    this.#nextExpiry = Math.min(this.#nextExpiry ?? at, at);
    this.#plan();
  }

  /**
   * Runs a collection that begins after this call.
   * @throws what the collection throws; LaminaError Unavailable when this is closed first
   */
  async collectNow(): Promise<Result> {
    if (this.#isClosed) throw closed();
    const waiter = createDeferred<Result>();
    this.#waiters.push(waiter);
    this.#schedule.asked(this.#clock.monotonic());
    this.#plan();
    return await waiter.promise;
  }

  /**
   * Ends the timers, refuses those who wait, and resolves when the collection under way is over.
   */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#stopTimer();
    for (const waiter of this.#waiters.splice(0)) waiter.reject(closed());
    await this.#running;
  }

  #plan(): void {
    this.#stopTimer();
    this.#stopTimer = () => undefined;
    if (this.#isClosed || this.#running !== undefined) return;
    const now = this.#clock.monotonic();
    // By the wall clock as it is now: it may have been set.
    const expiresInMs = this.#nextExpiry === undefined ? undefined : this.#nextExpiry - this.#clock.wall();
    // "After" that time, as the scan has it: the moment itself is not past.
    this.#schedule.expires(expiresInMs === undefined ? undefined : now + expiresInMs + 1);
    const nextMs = this.#schedule.nextMs;
    if (nextMs === undefined) return;
    const sleepMs = Math.min(Math.max(nextMs - now, SHORTEST_SLEEP_MS), LONGEST_SLEEP_MS);
    this.#stopTimer = this.#clock.after(sleepMs, () => this.#tick());
  }

  #tick(): void {
    if (!this.#isClosed && this.#running === undefined && this.#schedule.tick(this.#clock.monotonic())) {
      this.#running = this.#collect();
    }
    this.#plan();
  }

  async #collect(): Promise<void> {
    this.#schedule.began();
    const waiters = this.#waiters;
    this.#waiters = [];
    try {
      const result = await this.#options.collect();
      this.#nextExpiry = result.nextExpiry;
      this.#schedule.succeeded(this.#clock.monotonic(), result.pauseMs);
      if (result.isPartial) this.#schedule.mutated(this.#clock.monotonic(), true);
      for (const waiter of waiters) waiter.resolve(result);
    } catch (error) {
      this.#schedule.failed(this.#clock.monotonic());
      for (const waiter of waiters) waiter.reject(error);
      this.#options.onFailure?.(error);
    } finally {
      this.#running = undefined;
      this.#plan();
    }
  }
}

function closed(): LaminaError {
  return new LaminaError(Code.Unavailable, 'collect: the housekeeper is closed', { subject: 'housekeeper' });
}
