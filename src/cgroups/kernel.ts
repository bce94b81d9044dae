/** The few system calls behind notifications, as this folder uses them; tests and embedders may bring their own. */
import { binding, type InotifyEvent, POLLIN, sharedPoller } from '../sys/index.js';

export interface CgroupKernel {
  inotifyInit(): number;
  inotifyAdd(fd: number, path: string, mask: number): number;
  inotifyRemove(fd: number, wd: number): void;
  inotifyRead(fd: number): InotifyEvent[];
  eventfd(): number;
  readEventfd(fd: number): bigint;
  /** Calls back while fd is readable, until disposed. Does not keep the process alive. */
  watchReadable(fd: number, onReadable: () => void): Disposable;
}

/** The native addon and the poller everybody shares. @throws {LaminaError} Unavailable when there is no addon */
export function systemKernel(): CgroupKernel {
  const native = binding();
  return {
    inotifyInit: () => native.inotifyInit(),
    inotifyAdd: (fd, path, mask) => native.inotifyAdd(fd, path, mask),
    inotifyRemove: (fd, wd) => native.inotifyRemove(fd, wd),
    inotifyRead: (fd) => native.inotifyRead(fd),
    eventfd: () => native.eventfd(),
    readEventfd: (fd) => native.readEventfd(fd),
    watchReadable: (fd, onReadable) => sharedPoller().watch(fd, POLLIN, onReadable, { ref: false }),
  };
}
