/**
 * The one interface of the native addon (native/addon), typed by hand; a unit test compares its keys with the real exports.
 *
 * Every function is a thin system call. Errors are Node's own kind: `code` ('EPERM'), negative `errno`, `syscall`, `path` where
 * there is one; wrong argument types throw a TypeError with code ERR_INVALID_ARG_TYPE. Descriptors are plain numbers, always
 * close-on-exec; whoever receives one closes it (fs.closeSync).
 */
export interface Received {
  /** The packet's bytes (SEQPACKET) or what was available (STREAM); empty at end of file. */
  readonly data: Buffer;
  /** Descriptors that came along. */
  readonly fds: number[];
}

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

export interface InotifyEvent {
  readonly wd: number;
  readonly mask: number;
  readonly name: string;
}

/** Watches descriptors with epoll on a thread of its own; edge of the event loop, keeps it alive only while referenced. */
export interface NativePoller {
  /** Watches fd (events: POLLIN 1, POLLPRI 2, POLLOUT 4). One-shot: after each call-back the fd is silent until rearmed. */
  add(fd: number, events: number): void;
  /** Arms fd again, with these events. */
  rearm(fd: number, events: number): void;
  /** Stops watching; no call-back for fd comes after it returns. */
  remove(fd: number): void;
  ref(): void;
  unref(): void;
  close(): void;
}

export interface NativeBinding {
  /** onReady gets pairs [fd, events, fd, events, ...]: all that became ready since the last call. */
  createPoller(onReady: (ready: number[]) => void): NativePoller;

  /** Sends one message with descriptors; false when the socket is full (EAGAIN). */
  sendMessage(fd: number, data: Uint8Array, fds: readonly number[]): boolean;
  /** Receives one message without waiting; null when there is none (EAGAIN). Truncated messages or descriptors throw EMSGSIZE. */
  recvMessage(fd: number, maxBytes: number): Received | null;
  /** type: 'stream' | 'seqpacket'; a path starting with NUL is abstract; mode is applied to path sockets. Non-blocking. */
  listenUnix(path: string, type: string, backlog: number, mode: number): number;
  connectUnix(path: string, type: string): number;
  /** null when no connection waits. Non-blocking descriptor. */
  acceptUnix(fd: number): number | null;
  socketPair(type: string): [number, number];
  peerCredentials(fd: number): PeerCredentials;

  pipe(): [read: number, write: number];
  dupFd(fd: number): number;
  setNonBlocking(fd: number, on: boolean): void;
  /** FIONREAD: bytes that can be read now. */
  bytesReadable(fd: number): number;
  /** An anonymous file holding `content`, offset 0. */
  memfd(name: string, content: Uint8Array): number;
  eventfd(): number;
  /** Reads and resets an eventfd's counter; 0n when it is not signaled. */
  readEventfd(fd: number): bigint;

  pidfdOpen(pid: number): number;
  /** @throws ESRCH when the process has ended and was reaped. */
  pidfdSendSignal(pidfd: number, signal: number): void;
  /** Exit status in wait(2) format through PIDFD_GET_INFO (Linux 6.15), null when it is not (or not yet) available. */
  pidfdExitStatus(pidfd: number): number | null;
  /** kill(2). */
  kill(pid: number, signal: number): void;

  setWindowSize(fd: number, columns: number, rows: number): void;
  windowSize(fd: number): [columns: number, rows: number];
  openPty(): [master: number, slavePath: string];

  inotifyInit(): number;
  inotifyAdd(fd: number, path: string, mask: number): number;
  inotifyRemove(fd: number, wd: number): void;
  inotifyRead(fd: number): InotifyEvent[];

  /** mount(2) on the thread pool; flags are the MS_* bits. */
  mount(source: string, target: string, type: string, flags: number, data: string): Promise<void>;
  /** As mount, with the worker's cwd changed to `cwd` first (own fs_struct), so that relative paths in data may be short. */
  mountAt(cwd: string, source: string, target: string, type: string, flags: number, data: string): Promise<void>;
  /** umount2(2) on the thread pool. */
  umount(target: string, flags: number): Promise<void>;
  /** Attaches a file to a free loop device (autoclear) and returns its path and a descriptor to hold until it is mounted. */
  loopAttach(file: string, readOnly: boolean): Promise<[device: string, fd: number]>;
  /** prctl(PR_SET_CHILD_SUBREAPER). */
  setSubreaper(on: boolean): void;
  /** flock(2): 'shared' | 'exclusive' | 'unlock', never waits; false when another holds it. */
  flock(fd: number, how: string): boolean;
}
