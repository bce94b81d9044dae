/** What init and exec processes have in common: a pid held by pidfd, streams, and an exit that anybody may wait for. */
import { closeSync } from 'node:fs';
import { Code, createDeferred, isErrno, LaminaError, messageOf } from '../../base/index.js';
import { binding } from '../../sys/index.js';
import type { ProcessIo } from '../io/process-io.js';
import type { StdioRequest } from '../io/stdio.js';

/** How a process ended, as clients see it. */
export interface Exit {
  /** 0 to 255; 128 + signal for a killed process. */
  readonly code: number;
  /** Nanoseconds since the epoch. */
  readonly timeNs: bigint;
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
  #pidfd: number | undefined;
  readonly #waiters = createDeferred<Exit>();

  constructor(stdio: StdioRequest) {
    this.stdio = stdio;
  }

  /** Holds the running process. The descriptor belongs to this object from now on. */
  hold(pid: number, pidfd: number | undefined): void {
    this.pid = pid;
    this.#pidfd = pidfd;
  }

  /** Announces the exit and wakes the waiters; only the first call counts. */
  settle(exit: Exit): void {
    if (this.exit !== undefined) return;
    this.exit = exit;
    this.#closePidfd();
    this.io?.processEnded();
    this.#waiters.resolve(exit);
  }

  /** Wakes the waiters of a process that will never run; its state stays as it is. */
  giveUp(exit: Exit): void {
    this.#waiters.resolve(exit);
  }

  /** Resolves with the exit; rejects when the signal fires first. */
  wait(signal: AbortSignal): Promise<Exit> {
    if (signal.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const onAbort = (): void => reject(signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
      void this.#waiters.promise.then((exit) => {
        signal.removeEventListener('abort', onAbort);
        resolve(exit);
      });
    });
  }

  /**
   * Signals this very process, never another that got its pid later.
   * @throws LaminaError NotFound `process already finished` when it has ended
   */
  signal(signal: number, prefix = ''): void {
    if (this.reaped !== undefined || this.exit !== undefined) throw finished(prefix);
    try {
      if (this.#pidfd === undefined) binding().kill(this.pid, signal);
      else binding().pidfdSendSignal(this.#pidfd, signal);
    } catch (error) {
      if (isErrno(error, 'ESRCH')) throw finished(prefix);
      const why = isErrno(error, 'EINVAL') ? `invalid signal ${signal}` : messageOf(error);
      throw new LaminaError(Code.Unknown, `${prefix}unknown error after kill: ${why}`, { cause: error });
    }
  }

  /** Lets go of the streams and the pidfd. */
  dispose(): void {
    this.io?.dispose();
    this.#closePidfd();
  }

  #closePidfd(): void {
    if (this.#pidfd !== undefined) closeSync(this.#pidfd);
    this.#pidfd = undefined;
  }
}

function finished(prefix: string): LaminaError {
  return new LaminaError(Code.NotFound, `${prefix}process already finished: not found`);
}
