/**
 * When to collect: containerd's rules (plugins/gc/scheduler.go) as a state without timers, with
 * what they lack: the clock of expiring leases and images, jitter, an average over the last
 * collections only, and ever longer pauses after failures.
 *
 * All times are milliseconds of one monotonic clock.
 */

export interface ScheduleParameters {
  /** Share of time that collections may pause writers, 0 to 0.5. */
  readonly pauseThreshold: number;
  /**
   * So many deletions schedule a collection at once; 0: any deletion lets the next tick collect.
   */
  readonly deletionThreshold: number;
  /** So many mutations let the next tick collect; 0: never. */
  readonly mutationThreshold: number;
  /** How long "at once" waits. */
  readonly scheduleDelayMs: number;
  /** When the first collection comes; 0: with the first event. */
  readonly startupDelayMs: number;
}

export const DEFAULT_PARAMETERS: ScheduleParameters = {
  pauseThreshold: 0.02,
  deletionThreshold: 0,
  mutationThreshold: 100,
  scheduleDelayMs: 0,
  startupDelayMs: 100,
};

/** Before anything is known of how long a collection takes. */
const FIRST_INTERVAL_MS = 1_000;
/**
 * A collection counts for at least this, so that fast ones do not follow each other without end.
 */
const SHORTEST_PAUSE_MS = 5;
/** How many collections the average is of. */
const WINDOW = 32;
/** Of an interval, added at random, so that the nodes of a fleet do not collect together. */
const JITTER = 0.1;
const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 300_000;

export class Schedule {
  readonly #parameters: ScheduleParameters;
  readonly #random: () => number;
  #nextMs: number | undefined;
  /** When the next lease, image or ingest expires. */
  #expiryMs: number | undefined;
  #lastMs: number | undefined;
  /** Earlier than this no expiry is looked at. */
  #notBeforeMs = Number.NEGATIVE_INFINITY;
  #intervalMs = FIRST_INTERVAL_MS;
  readonly #pausesMs: number[] = [];
  #isTriggered = false;
  #deletions = 0;
  #mutations = 0;
  #failures = 0;

  /** @param random 0 to 1, for the jitter */
  constructor(nowMs: number, parameters: Partial<ScheduleParameters> = {}, random: () => number = Math.random) {
    const given = { ...DEFAULT_PARAMETERS, ...parameters };
    this.#parameters = {
      pauseThreshold: Math.min(Math.max(given.pauseThreshold, 0), 0.5),
      deletionThreshold: Math.max(given.deletionThreshold, 0),
      mutationThreshold: Math.max(given.mutationThreshold, 0),
      scheduleDelayMs: Math.max(given.scheduleDelayMs, 0),
      startupDelayMs: Math.max(given.startupDelayMs, 0),
    };
    this.#random = random;
    if (this.#parameters.startupDelayMs > 0) this.#nextMs = nowMs + this.#parameters.startupDelayMs;
  }

  /** When `tick` is to be called; undefined: not before something happens. */
  get nextMs(): number | undefined {
    if (this.#expiryMs === undefined) return this.#nextMs;
    // What has expired and could not be removed must not make collections follow each other.
    const expiryMs = Math.max(this.#expiryMs, this.#notBeforeMs);
    return this.#nextMs === undefined ? expiryMs : Math.min(this.#nextMs, expiryMs);
  }

  /** The pause between two collections that nothing but the pause threshold decides. */
  get intervalMs(): number {
    return this.#intervalMs;
  }

  /** When something expires next, as the metadata says; undefined: nothing does. */
  expires(atMs: number | undefined): void {
    this.#expiryMs = atMs;
  }

  /**
   * The metadata was changed. @param isDirty something was deleted, so that there may be garbage
   */
  mutated(atMs: number, isDirty: boolean): void {
    if (this.#isOld(atMs)) return;
    this.#mutations += 1;
    if (isDirty) this.#deletions += 1;
    this.#plan(atMs);
  }

  /** A collection is asked for. */
  triggered(atMs: number): void {
    this.#isTriggered = true;
    this.#plan(atMs);
  }

  /**
   * A caller waits for a collection. After failures it comes sooner than by itself, but not within
   * a second of the last.
   */
  asked(atMs: number): void {
    this.triggered(atMs);
    if (this.#failures === 0) return;
    const earliestMs = Math.max(atMs, (this.#lastMs ?? atMs) + FIRST_RETRY_MS);
    this.#nextMs = Math.min(this.#nextMs ?? earliestMs, earliestMs);
  }

  /** @returns whether to collect now; if not, `nextMs` says when to ask again */
  tick(nowMs: number): boolean {
    if (nowMs < (this.nextMs ?? Number.POSITIVE_INFINITY)) return false;
    const { mutationThreshold } = this.#parameters;
    const isNeeded =
      this.#isTriggered ||
      this.#lastMs === undefined ||
      this.#deletions > 0 ||
      (mutationThreshold > 0 && this.#mutations >= mutationThreshold) ||
      (this.#expiryMs !== undefined && this.#expiryMs <= nowMs);
    if (!isNeeded) this.#nextMs = nowMs + this.#jittered(this.#intervalMs);
    return isNeeded;
  }

  /** A collection has begun: what is asked for from now on is for the next one. */
  began(): void {
    this.#isTriggered = false;
    this.#deletions = 0;
    this.#mutations = 0;
    this.#nextMs = undefined;
  }

  /** @param pauseMs how long writers waited */
  succeeded(nowMs: number, pauseMs: number): void {
    this.#pausesMs.push(pauseMs);
    if (this.#pausesMs.length > WINDOW) this.#pausesMs.shift();
    const { pauseThreshold } = this.#parameters;
    if (pauseThreshold > 0) {
      const sum = this.#pausesMs.reduce((total, pause) => total + pause, 0);
      const average = Math.max(sum / this.#pausesMs.length, SHORTEST_PAUSE_MS);
      this.#intervalMs = average / pauseThreshold - average;
    }
    this.#failures = 0;
    this.#lastMs = nowMs;
    this.#notBeforeMs = nowMs + this.#intervalMs;
    const delayMs = this.#isTriggered ? this.#parameters.scheduleDelayMs : this.#jittered(this.#intervalMs);
    this.#nextMs = nowMs + delayMs;
  }

  failed(nowMs: number): void {
    const delayMs = Math.min(FIRST_RETRY_MS * 2 ** this.#failures, LONGEST_RETRY_MS);
    this.#failures += 1;
    this.#lastMs = nowMs;
    this.#isTriggered = true;
    this.#nextMs = nowMs + this.#jittered(delayMs);
    this.#notBeforeMs = this.#nextMs;
  }

  /** It came before the end of the last collection, which has seen it. */
  #isOld(atMs: number): boolean {
    return this.#lastMs !== undefined && this.#lastMs > atMs;
  }

  #plan(nowMs: number): void {
    const { deletionThreshold, mutationThreshold, scheduleDelayMs } = this.#parameters;
    const isDue =
      this.#isTriggered ||
      (deletionThreshold > 0 && this.#deletions >= deletionThreshold) ||
      (this.#nextMs === undefined &&
        ((deletionThreshold === 0 && this.#deletions > 0) ||
          (mutationThreshold > 0 && this.#mutations >= mutationThreshold)));
    // After failures the pause is kept, whatever is asked for.
    if (!isDue || this.#failures > 0) return;
    this.#nextMs = Math.min(this.#nextMs ?? Number.POSITIVE_INFINITY, nowMs + scheduleDelayMs);
  }

  #jittered(delayMs: number): number {
    return delayMs * (1 + JITTER * this.#random());
  }
}
