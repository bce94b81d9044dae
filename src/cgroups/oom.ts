import type { OnOom } from './cgroup.js';

/**
 * Turns readings of an oom_kill counter into reports: one per rise, none lost between readings. The first reading, when the
 * watch begins, is the baseline.
 */
export class OomCounter {
  readonly #read: () => bigint | undefined;
  readonly #onOom: OnOom;
  #last: bigint;
  #ended: boolean = false;
  /** A notification came and the counter could not be read any more. */
  #missed = false;

  /** @param read the counter now; undefined if the group has gone */
  constructor(read: () => bigint | undefined, onOom: OnOom) {
    this.#read = read;
    this.#onOom = onOom;
    this.#last = read() ?? 0n;
  }

  /** Reports a rise since the last report. @returns false if there was none */
  check(): boolean {
    if (this.#ended) return false;
    const now = this.#read();
    if (now === undefined) this.#missed = true;
    if (now === undefined || now <= this.#last) return false;
    const kills = now - this.#last;
    this.#last = now;
    this.#onOom(kills);
    return true;
  }

  /** Reports one kill if a notification came whose reading the end of the group has prevented. */
  reportMissed(): void {
    if (this.#missed && !this.#ended) this.#onOom(1n);
    this.#missed = false;
  }

  /** Reports nothing from now on. */
  end(): void {
    this.#ended = true;
  }
}
