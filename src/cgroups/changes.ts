/**
 * Notification of changed cgroup files. All watches share one inotify instance (a node allows a
 * user 128 of them), which exists while there is a watch.
 */
import { closeSync } from 'node:fs';
import { posix } from 'node:path';
import { apart, createDeferred, isErrno, ownWork } from '../base/index.js';
import { CgroupFileError } from './errors.js';
import type { CgroupKernel } from './kernel.js';

const IN_MODIFY = 0x2;
const IN_DELETE = 0x200;
const IN_IGNORED = 0x8000;
const IN_Q_OVERFLOW = 0x4000;

/**
 * The removal of a group raises no event on its files, so a waiter looks by itself now and then.
 */
const RECHECK_MS = 250;

interface Instance {
  readonly fd: number;
  readonly poll: Disposable;
}

/** @param names what was removed, when a directory is watched */
type Listener = (names: readonly string[]) => void;

export class FileChanges {
  readonly kernel: CgroupKernel;
  #instance: Instance | undefined;
  // Watch descriptor → its listeners; removed with the last listener, or when the kernel has
  // dropped the watch.
  readonly #listeners = new Map<number, Set<Listener>>();

  constructor(kernel: CgroupKernel) {
    this.kernel = kernel;
  }

  /**
   * Calls `onChange` after every modification of the file; several may share one call.
   * @throws {CgroupFileError}
   */
  watch(path: string, onChange: () => void): Disposable {
    return this.#watch(path, IN_MODIFY, () => onChange());
  }

  /**
   * Calls back when a group is removed. Removals through another mount of the hierarchy (that of
   * another cgroup namespace) go unnoticed.
   * @throws {CgroupFileError} if the group above it is not there
   */
  watchRemoval(dir: string, onRemoved: () => void): Disposable {
    const name = posix.basename(dir);
    return this.#watch(posix.dirname(dir), IN_DELETE, (names) => {
      if (names.includes(name)) onRemoved();
    });
  }

  /** All watches of one path have the same mask, as one is a directory's and one a file's. */
  #watch(path: string, mask: number, onEvent: Listener): Disposable {
    this.#instance ??= this.#open();
    const { fd } = this.#instance;
    const wd = this.#add(fd, path, mask);
    const listeners = this.#listeners.get(wd) ?? new Set();
    this.#listeners.set(wd, listeners);
    // Wrapped, so that the same function may watch twice, and as the watcher's own work: all share
    // one instance.
    const listener: Listener = ownWork((names) => onEvent(names));
    listeners.add(listener);
    return {
      [Symbol.dispose]: () => {
        if (!listeners.delete(listener) || listeners.size > 0 || this.#listeners.get(wd) !== listeners) return;
        this.#listeners.delete(wd);
        this.#removeWatch(fd, wd);
        this.#closeIfUnused();
      },
    };
  }

  /**
   * Delivers the notifications that have come so far, without waiting for the event loop to do it.
   */
  flush(): void {
    if (this.#instance !== undefined) this.#dispatch(this.#instance.fd);
  }

  /**
   * Waits until `isDone`, which is asked at once and after every change of the file.
   * @returns false if the time is over. Rejects with what `isDone` throws.
   */
  async waitFor(path: string, isDone: () => boolean, timeoutMs: number): Promise<boolean> {
    if (isDone()) return true;
    const { promise, resolve, reject } = createDeferred<boolean>();
    const check = (): void => {
      try {
        if (isDone()) resolve(true);
      } catch (error) {
        reject(error);
      }
    };
    const watch = this.watch(path, check);
    const recheck = setInterval(check, RECHECK_MS);
    const deadline = setTimeout(() => resolve(false), timeoutMs);
    try {
      check(); // What happened before the watch existed.
      return await promise;
    } finally {
      clearTimeout(deadline);
      clearInterval(recheck);
      watch[Symbol.dispose]();
    }
  }

  #open(): Instance {
    const fd = this.kernel.inotifyInit();
    return { fd, poll: apart(() => this.kernel.watchReadable(fd, () => this.#dispatch(fd))) };
  }

  #add(fd: number, path: string, mask: number): number {
    try {
      return this.kernel.inotifyAdd(fd, path, mask);
    } catch (error) {
      this.#closeIfUnused();
      throw new CgroupFileError('watch', path, error);
    }
  }

  #removeWatch(fd: number, wd: number): void {
    try {
      this.kernel.inotifyRemove(fd, wd);
    } catch (error) {
      // EINVAL: the file has gone and the kernel dropped the watch already.
      if (!isErrno(error, 'EINVAL')) throw error;
    }
  }

  #dispatch(fd: number): void {
    const due = new Map<Set<Listener>, string[]>();
    const add = (listeners: Set<Listener>, name: string): void => {
      due.set(listeners, [...(due.get(listeners) ?? []), name]);
    };
    for (const event of this.kernel.inotifyRead(fd)) {
      const listeners = this.#listeners.get(event.wd);
      if ((event.mask & IN_Q_OVERFLOW) !== 0) for (const each of this.#listeners.values()) add(each, '');
      else if (listeners !== undefined) add(listeners, event.name);
      if ((event.mask & IN_IGNORED) !== 0) this.#listeners.delete(event.wd);
    }
    // A set is walked as it is by then: whoever an earlier call-back has disposed is not called any
    // more.
    for (const [listeners, names] of due) for (const listener of listeners) listener(names);
    this.#closeIfUnused();
  }

  #closeIfUnused(): void {
    if (this.#instance === undefined || this.#listeners.size > 0) return;
    this.#instance.poll[Symbol.dispose]();
    closeSync(this.#instance.fd);
    this.#instance = undefined;
  }
}
