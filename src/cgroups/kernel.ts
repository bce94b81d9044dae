/**
 * The few system calls behind notifications, as this folder uses them; tests and embedders may
 * bring their own.
 */
import { closeSync, constants, openSync, readlinkSync, readSync } from 'node:fs';
import { fsPath, isErrno, pathFromBytes } from '../base/index.js';
import { binding, type InotifyEvent, POLLERR, POLLIN, sharedPoller } from '../sys/index.js';

export interface CgroupKernel {
  inotifyInit(): number;
  /**
   * Paths, and the names `inotifyRead` returns, are strings as everywhere in this folder: see
   * `pathFromBytes`.
   */
  inotifyAdd(fd: number, path: string, mask: number): number;
  inotifyRemove(fd: number, wd: number): void;
  inotifyRead(fd: number): InotifyEvent[];
  eventfd(): number;
  readEventfd(fd: number): bigint;
  /**
   * Opens the kernel log behind its last record, which closeLog closes; undefined if this process
   * is not in the first pid and cgroup namespaces, whose names the log uses. @throws errno EPERM
   * without CAP_SYSLOG
   */
  openLog(): number | undefined;
  /**
   * The next record, undefined if there is none yet.
   * @throws errno EPIPE: records were overwritten; reading on finds the oldest left
   */
  readLog(fd: number): string | undefined;
  closeLog(fd: number): void;
  /** Calls back while fd is readable, until disposed. Does not keep the process alive. */
  watchReadable(fd: number, onReadable: () => void): Disposable;
  /**
   * Calls back for every event of a pressure trigger's descriptor (POLLPRI), until disposed. Does
   * not keep the process alive.
   * @param onEvent gets false when the trigger's group has gone (POLLERR): nothing follows
   */
  watchPriority(fd: number, onEvent: (isAlive: boolean) => void): Disposable;
}

/**
 * The native addon and the poller everybody shares.
 * @throws {LaminaError} Unavailable when there is no addon
 */
export function systemKernel(): CgroupKernel {
  const native = binding();
  return {
    inotifyInit: () => native.inotifyInit(),
    inotifyAdd: (fd, path, mask) => native.inotifyAdd(fd, fsPath(path), mask),
    inotifyRemove: (fd, wd) => native.inotifyRemove(fd, wd),
    inotifyRead: (fd) => native.inotifyRead(fd).map((event) => ({ ...event, name: nameOf(event.name) })),
    eventfd: () => native.eventfd(),
    readEventfd: (fd) => native.readEventfd(fd),
    openLog: () => {
      if (!isInFirstNamespaces()) return undefined;
      const fd = openSync('/dev/kmsg', constants.O_RDONLY | constants.O_NONBLOCK);
      native.seekToEnd(fd);
      return fd;
    },
    readLog: readLogRecord,
    closeLog: (fd) => closeSync(fd),
    watchReadable: (fd, onReadable) => sharedPoller().watch(fd, POLLIN, onReadable, { ref: false }),
    watchPriority: (fd, onEvent) => {
      const watch = native.watchPriority(fd, ([, events = 0]) => onEvent((events & POLLERR) === 0));
      return { [Symbol.dispose]: () => watch.close() };
    },
  };
}

function nameOf(bytes: string): string {
  return pathFromBytes(Buffer.from(bytes, 'latin1'));
}

/** The numbers of the namespaces a kernel starts with (include/linux/proc_ns.h). */
const FIRST_NAMESPACES = { pid: 'pid:[4026531836]', cgroup: 'cgroup:[4026531835]' };

function isInFirstNamespaces(): boolean {
  return Object.entries(FIRST_NAMESPACES).every(([name, first]) => readlinkSync(`/proc/self/ns/${name}`) === first);
}

/** The kernel refuses to read a record into less room than it needs, and makes none longer. */
const LOG_RECORD_BYTES = 8192;
const record = Buffer.allocUnsafeSlow(LOG_RECORD_BYTES);

function readLogRecord(fd: number): string | undefined {
  try {
    return record.toString('latin1', 0, readSync(fd, record));
  } catch (error) {
    if (isErrno(error, 'EAGAIN')) return undefined;
    throw error;
  }
}
