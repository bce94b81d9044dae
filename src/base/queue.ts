/**
 * Runs asynchronous jobs one after the other.
 *
 * INVARIANTS: at most one job runs at a time; jobs start in the order they were added; a failed job
 * fails only its own promise. A job must never await another job of the same queue (that would wait
 * for itself).
 */
export class SerialQueue {
  #tail: Promise<unknown> = Promise.resolve();
  #pending = 0;

  /** How many jobs run or wait. */
  get size(): number {
    return this.#pending;
  }

  /** Adds a job; resolves or rejects with its outcome. */
  run<T>(job: () => Promise<T>): Promise<T> {
    this.#pending += 1;
    const result = this.#tail.then(job).finally(() => {
      this.#pending -= 1;
    });
    this.#tail = result.catch(() => undefined);
    return result;
  }

  /** Resolves when every job added so far has ended, whatever its outcome. */
  async drain(): Promise<void> {
    await this.#tail;
  }
}
