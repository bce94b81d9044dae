import type { InitExit, OnOom } from './cgroup.js';
import type { KernelLogWatch } from './kmsg.js';

/** One reading of a group's counters. */
export interface OomReading {
  readonly kills: bigint;
  /**
   * How often memory has run out, whether or not somebody was killed; 0 where the kernel does not
   * tell.
   */
  readonly shortages: bigint;
}

/** What is watched, and for whom. */
export interface OomPlace {
  readonly dir: string;
  /** From the root of the hierarchy that limits memory. */
  readonly path: string;
  readonly onOom: OnOom;
  /** The count up to which an earlier watch has reported; default: what it is now. */
  readonly from?: bigint | undefined;
  /**
   * An earlier watch has reported a shortage in which nobody was killed, and that may still last.
   */
  readonly wasShort?: boolean | undefined;
}

export interface OomCounterOptions extends Omit<OomPlace, 'dir' | 'wasShort'> {
  /** The counters now; undefined if the group has gone. */
  readonly read: () => OomReading | undefined;
  /**
   * Asked when the counters have gone; undefined where the log cannot be read. Disposed by `end`.
   */
  readonly log: KernelLogWatch | undefined;
}

/**
 * Turns readings of an oom_kill counter into reports: one per rise, none lost between readings. The
 * first reading, when the watch begins, is the baseline, unless an earlier watch has one.
 */
export class OomCounter {
  readonly #options: OomCounterOptions;
  #last: OomReading;
  /** Shortages when a kill was reported last: those are accounted for. */
  #explained: bigint;
  #reported = 0n;
  #ended: boolean = false;
  /** A notification came and the counter could not be read any more. */
  #missed = false;

  constructor(options: OomCounterOptions) {
    this.#options = options;
    const now = options.read() ?? { kills: 0n, shortages: 0n };
    this.#last = { ...now, kills: options.from ?? now.kills };
    this.#explained = this.#last.shortages;
  }

  /** The value up to which all kills were reported. */
  get counted(): bigint {
    return this.#last.kills;
  }

  /**
   * Reports a rise since the last report. To be called when notified.
   * @returns false if there was none
   */
  check(): boolean {
    if (this.#ended) return false;
    const rise = this.#readRise();
    if (rise === undefined) this.#missed = true;
    return this.#report(rise ?? 0n);
  }

  /**
   * Reads once more; what a group that has gone can no longer tell is settled by other evidence.
   */
  drain(exit: InitExit | undefined): void {
    if (this.#ended) return;
    this.#report(this.#readRise() ?? (exit === undefined ? 0n : this.#killsOfTheGone(exit)));
  }

  /** Reports nothing from now on. */
  end(): void {
    this.#ended = true;
    this.#options.log?.[Symbol.dispose]();
  }

  /** Kills since the last reading; undefined if the group has gone. */
  #readRise(): bigint | undefined {
    const now = this.#options.read();
    if (now === undefined) return undefined;
    const kills = now.kills - this.#last.kills;
    this.#last = now;
    return kills;
  }

  #report(kills: bigint): boolean {
    if (kills <= 0n) return false;
    this.#reported += kills;
    this.#explained = this.#last.shortages;
    this.#missed = false;
    this.#options.onOom(kills);
    return true;
  }

  /** How many kills were not reported. */
  #killsOfTheGone({ pid, wasKilled, wasKillAsked }: InitExit): bigint {
    const logged = this.#options.log?.oomKills(this.#options.path, pid);
    if (logged !== undefined) return BigInt(logged) - this.#reported;
    const wasShort = this.#missed || this.#last.shortages > this.#explained;
    return wasKilled && !wasKillAsked && wasShort ? 1n : 0n;
  }
}
