/**
 * A process of the same user in the same pid, mount and user namespace as this one: neither a
 * container's nor another user's. Nothing is ever taken from another process, neither a path nor
 * its environment: what it says of itself it may have made up.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { isErrno } from '../base/index.js';
import { Pidfd, parseProcessStat } from '../sys/index.js';

const NAMESPACES = ['pid', 'mnt', 'user'];
/** Whether it is there at all. */
const NO_SIGNAL = 0;

export class OwnProcess {
  readonly pid: number;
  readonly #handle: Pidfd;
  #hasEnded = false;

  private constructor(pid: number, handle: Pidfd) {
    this.pid = pid;
    this.#handle = handle;
    handle.exited.then(
      () => {
        this.#hasEnded = true;
      },
      () => undefined,
    );
  }

  /**
   * Holds on to a process and then looks whose it is, so that all that follows is about this one,
   * however often its pid is used again.
   * @returns undefined for one that is gone, another user's, or in another namespace
   */
  static open(pid: number): OwnProcess | undefined {
    if (pid <= 1 || pid === process.pid) return undefined;
    const handle = reading(() => Pidfd.open(pid, { ref: false }));
    if (handle === undefined) return undefined;
    // Signal 0 last: as it is still there, what was read is of no other.
    const isOwn = reading(() => isOfThisUser(pid) && isHere(pid)) === true && handle.signal(NO_SIGNAL);
    if (isOwn) return new OwnProcess(pid, handle);
    handle[Symbol.dispose]();
    return undefined;
  }

  /** @returns false when it has ended, reaped or not */
  get isRunning(): boolean {
    return !this.#hasEnded && this.#handle.signal(NO_SIGNAL);
  }

  /** Sends a signal to this process and no other. Nothing happens when it has ended. */
  signal(signal: number): void {
    this.#handle.signal(signal);
  }

  /**
   * When it was started, in clock ticks since the machine was: field 22 of /proc/PID/stat. Empty
   * when it is gone.
   */
  get startTime(): string {
    const text = reading(() => readFileSync(`/proc/${this.pid}/stat`, 'latin1')) ?? '';
    return parseProcessStat(text).startTime;
  }

  /**
   * Whether a word is in its command line. A process chooses that itself: it can only narrow down
   * what is known otherwise.
   */
  hasWord(word: string): boolean {
    const words = reading(() => readFileSync(`/proc/${this.pid}/cmdline`, 'utf8')) ?? '';
    return words.split('\0').includes(word);
  }

  /** Lets go of it. */
  [Symbol.dispose](): void {
    this.#handle[Symbol.dispose]();
  }
}

/** Real, effective, saved and file system uid: a setuid program is still its caller's. */
function isOfThisUser(pid: number): boolean {
  const line = /^Uid:\s+(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? '';
  const uids = line.split(/\s+/).map(Number);
  return uids.length === 4 && uids.every((uid) => uid === process.geteuid?.());
}

function isHere(pid: number): boolean {
  return NAMESPACES.every((name) => readlinkSync(`/proc/${pid}/ns/${name}`) === readlinkSync(`/proc/self/ns/${name}`));
}

/** Reads of a process that may end at any moment, or be another user's. */
function reading<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH', 'EACCES', 'EPERM')) return undefined;
    throw error;
  }
}
