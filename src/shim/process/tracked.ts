/**
 * What init and exec processes have in common: a pid held by pidfd, streams, and an exit that
 * anybody may wait for.
 */
import { closeSync } from 'node:fs';
import { Code, codeOf, isErrno, LaminaError, messageOf } from '../../base/index.js';
import { binding } from '../../sys/index.js';
import type { ProcessIo } from '../io/process-io.js';
import type { StdioRequest } from '../io/stdio.js';
import type { HeldProcess } from '../keeper-children.js';

/** How a process ended, as clients see it. */
export interface Exit {
  /** 0 to 255; 128 + signal for a killed process. */
  readonly code: number;
  /** Nanoseconds since the epoch. */
  readonly timeNs: bigint;
}

/** The exit code of something that never ran, or whose status nobody can know any more. */
export const UNKNOWN_EXIT_CODE = 255;

export function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}

export class TrackedProcess {
  readonly stdio: StdioRequest;
  io: ProcessIo | undefined;
  /** Host pid; 0 before it was started. Stays after the exit. */
  pid = 0;
  /** The process has ended and was reaped; its exit may not have been announced yet. */
  reaped: Exit | undefined;
  /** The announced exit. */
  exit: Exit | undefined;
  /**
   * Settles when the start under way has ended, however; undefined when none was begun by this
   * engine.
   */
  starting: Promise<void> | undefined;
  #pidfd: number | undefined;
  #holdAgain: (() => Promise<HeldProcess>) | undefined;
  /** What waiters get, once there is something. */
  #outcome: Exit | undefined;
  /** Called once each with the outcome; a waiter that gave up is removed. */
  readonly #waiters = new Set<(exit: Exit) => void>();

  constructor(stdio: StdioRequest) {
    this.stdio = stdio;
  }

  /** It has ended, and that is not announced yet: what is said of it now will not hold. */
  get isEnding(): boolean {
    return this.reaped !== undefined && this.exit === undefined;
  }

  /**
   * Holds the running process.
   * @param pidfd belongs to this object from now on; undefined while there is none
   * @param holdAgain gets one then, when it is needed
   */
  hold(pid: number, pidfd: number | undefined, holdAgain?: () => Promise<HeldProcess>): void {
    this.#closePidfd();
    this.pid = pid;
    this.#pidfd = pidfd;
    this.#holdAgain = holdAgain;
  }

  /** Announces the exit and wakes the waiters; only the first call counts. */
  settle(exit: Exit): void {
    if (this.exit !== undefined) return;
    this.exit = exit;
    this.#closePidfd();
    this.io?.processEnded();
    this.giveUp(exit);
  }

  /** Wakes the waiters, also of a process that will never run; its state stays as it is. */
  giveUp(outcome: Exit): void {
    this.#outcome ??= outcome;
    for (const wake of this.#waiters) wake(this.#outcome);
    this.#waiters.clear();
  }

  /** Resolves with the exit; rejects when the signal fires first. */
  wait(signal: AbortSignal): Promise<Exit> {
    if (this.#outcome !== undefined) return Promise.resolve(this.#outcome);
    if (signal.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const wake = (exit: Exit): void => {
        signal.removeEventListener('abort', onAbort);
        resolve(exit);
      };
      const onAbort = (): void => {
        this.#waiters.delete(wake);
        reject(signal.reason);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiters.add(wake);
    });
  }

  /**
   * Signals this very process, never another that got its pid later. At once, if it is held.
   * @throws LaminaError NotFound `process already finished` when it has ended; ResourceExhausted
   *   when there is no descriptor to hold it with
   */
  async signal(signal: number, prefix = ''): Promise<void> {
    if (this.#pidfd === undefined) await this.#ensureHeld(prefix);
    if (this.reaped !== undefined || this.exit !== undefined || this.#pidfd === undefined) throw finished('');
    try {
      binding().pidfdSendSignal(this.#pidfd, signal);
    } catch (error) {
      if (isErrno(error, 'ESRCH')) throw finished(prefix);
      const why = isErrno(error, 'EINVAL') ? `invalid signal ${signal}` : messageOf(error);
      throw new LaminaError(Code.Unknown, `${prefix}unknown error after kill: ${why}`, { cause: error });
    }
  }

  /** Lets go of the streams and the pidfd, and of whoever still waits. */
  dispose(): void {
    this.io?.dispose();
    this.#closePidfd();
    this.giveUp({ code: UNKNOWN_EXIT_CODE, timeNs: nowNs() });
  }

  async #ensureHeld(prefix: string): Promise<void> {
    if (this.reaped !== undefined || this.exit !== undefined) return;
    try {
      const held = await this.#holdAgain?.();
      if (held === undefined) return;
      if (this.#pidfd === undefined && this.reaped === undefined && held.pid === this.pid) this.#pidfd = held.pidfd;
      else closeSync(held.pidfd);
    } catch (error) {
      if (codeOf(error) === Code.NotFound) throw finished(prefix);
      throw error;
    }
  }

  #closePidfd(): void {
    if (this.#pidfd !== undefined) closeSync(this.#pidfd);
    this.#pidfd = undefined;
  }
}

function finished(prefix: string): LaminaError {
  return new LaminaError(Code.NotFound, `${prefix}process already finished: not found`);
}
