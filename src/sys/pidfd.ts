/**
 * A process by descriptor: what is signaled or waited for is never a stranger that got the same
 * number.
 *
 * @see pidfd_open(2)
 */
import { closeSync } from 'node:fs';
import { Code, createDeferred, isErrno, LaminaError } from '../base/index.js';
import { binding } from './load-binding.js';
import { POLLIN, type Poller, type Registration, sharedPoller } from './poller.js';

export interface PidfdOptions {
  readonly poller?: Poller;
  /** Whether waiting for `exited` keeps the event loop alive. Default true. */
  readonly ref?: boolean;
}

export class Pidfd {
  /** The descriptor, owned by this object. */
  readonly fd: number;
  readonly #poller: Poller | undefined;
  readonly #ref: boolean;
  #exited: Promise<void> | undefined;
  #watch: Registration | undefined;
  #onDispose: ((error: Error) => void) | undefined;
  #disposed: boolean = false;

  /** Takes over a pidfd that came from elsewhere. */
  constructor(fd: number, options: PidfdOptions = {}) {
    this.fd = fd;
    this.#poller = options.poller;
    this.#ref = options.ref ?? true;
  }

  /** @throws errno ESRCH when there is no such process */
  static open(pid: number, options: PidfdOptions = {}): Pidfd {
    return new Pidfd(binding().pidfdOpen(pid), options);
  }

  /**
   * Sends a signal.
   * @returns false when the process was reaped already (a zombie takes signals and ignores them)
   * @throws errno EPERM, EINVAL for an unknown signal number; LaminaError FailedPrecondition after
   *   dispose
   */
  signal(signal: number): boolean {
    this.#check();
    try {
      binding().pidfdSendSignal(this.fd, signal);
      return true;
    } catch (error) {
      if (isErrno(error, 'ESRCH')) return false;
      throw error;
    }
  }

  /**
   * Resolves when the process has terminated, reaped or not; rejects (Canceled) when this object is
   * disposed first. Watching begins with the first use.
   */
  get exited(): Promise<void> {
    this.#exited ??= this.#waitForExit();
    return this.#exited;
  }

  /**
   * Exit status in wait(2) format. Null while the process lives or is a zombie, and always before
   * Linux 6.15 or when the pidfd was opened after the reaping.
   */
  exitStatus(): number | null {
    this.#check();
    return binding().pidfdExitStatus(this.fd);
  }

  /** Closes the descriptor. Idempotent. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#stopWatching();
    closeSync(this.fd);
    this.#onDispose?.(
      new LaminaError(Code.Canceled, 'wait for exit: the pidfd was closed', { subject: `pidfd ${this.fd}` }),
    );
  }

  #check(): void {
    if (!this.#disposed) return;
    throw new LaminaError(Code.FailedPrecondition, 'use pidfd: it is closed', { subject: `pidfd ${this.fd}` });
  }

  #stopWatching(): void {
    this.#watch?.[Symbol.dispose]();
    this.#watch = undefined;
  }

  #waitForExit(): Promise<void> {
    this.#check();
    const { promise, resolve, reject } = createDeferred<void>();
    // Being disposed of is no accident: whoever awaits hears of it, nobody else needs to.
    promise.catch(() => undefined);
    this.#onDispose = reject;
    const onReady = (): void => {
      this.#stopWatching();
      resolve();
    };
    this.#watch = (this.#poller ?? sharedPoller()).watch(this.fd, POLLIN, onReady, { ref: this.#ref });
    return promise;
  }
}
