/**
 * The one interface of the native addon (native/addon), typed by hand; a unit test compares its
 * keys with the real exports.
 *
 * Every function is a thin system call. Errors are Node's own kind: `code` ('EPERM'), negative
 * `errno`, `syscall`, `path` where there is one; wrong argument types throw a TypeError with code
 * ERR_INVALID_ARG_TYPE. Descriptors are plain numbers, always close-on-exec; whoever receives one
 * closes it (fs.closeSync).
 */
export interface Received {
  /** The packet's bytes (SEQPACKET) or what was available (STREAM); empty at end of file. */
  readonly data: Buffer;
  /** Descriptors that came along. */
  readonly fds: number[];
  /** There were some, and this process could not take them all (EMFILE, ENFILE): none was taken. */
  readonly lost?: true;
}

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

export interface InotifyEvent {
  readonly wd: number;
  readonly mask: number;
  /**
   * A character for each byte (latin1), as names need not be UTF-8; empty for the watched file
   * itself.
   */
  readonly name: string;
}

/**
 * Watches descriptors with an epoll instance that the event loop waits for. Unreferenced at first:
 * it keeps the event loop alive only between ref() and unref(). An exception thrown by onReady is
 * an uncaught one.
 */
export interface NativePoller {
  /**
   * Watches fd (events: POLLIN 1, POLLPRI 2, POLLOUT 4). One-shot: after each call-back the fd is
   * silent until rearmed.
   */
  add(fd: number, events: number): void;
  /** Arms fd again, with these events. @throws ENOENT when fd is not watched */
  rearm(fd: number, events: number): void;
  /**
   * Stops watching; no call of onReady that begins after it returns has fd. Unknown descriptors are
   * fine. Call it before closing fd.
   */
  remove(fd: number): void;
  ref(): void;
  unref(): void;
  /** Stops watching everything. Idempotent. */
  close(): void;
}

export interface AttachedPrograms {
  /** BPF_F_*; 0 when nothing is attached. */
  readonly flags: number;
  readonly ids: number[];
}

export interface NativeBinding {
  /**
   * onReady gets pairs [fd, events, fd, events, ...]: all that became ready since the last call.
   */
  createPoller(onReady: (ready: number[]) => void): NativePoller;
  /**
   * Watches one descriptor for POLLPRI, directly in Node's own loop, until close(): for pressure
   * triggers, whose event the poller would lose. onReady gets [fd, events], with POLLERR once the
   * trigger's group has gone, and nothing after that.
   */
  watchPriority(fd: number, onReady: (ready: number[]) => void): Pick<NativePoller, 'ref' | 'unref' | 'close'>;

  /**
   * Sends one message with descriptors (at most 253); false when the socket is full (EAGAIN). Never
   * waits. On a stream socket that takes only a part: EMSGSIZE.
   */
  sendMessage(fd: number, data: Uint8Array, fds: readonly number[]): boolean;
  /**
   * Receives one message without waiting; null when there is none (EAGAIN). Truncated messages
   * throw EMSGSIZE.
   */
  recvMessage(fd: number, maxBytes: number): Received | null;
  /**
   * type: 'stream' | 'seqpacket'; a path starting with NUL is abstract; mode is applied to path
   * sockets. Non-blocking.
   */
  listenUnix(path: string, type: string, backlog: number, mode: number): number;
  connectUnix(path: string, type: string): number;
  /** null when no connection waits. Non-blocking descriptor. */
  acceptUnix(fd: number): number | null;
  /** Both ends non-blocking. */
  socketPair(type: string): [number, number];
  peerCredentials(fd: number): PeerCredentials;

  /** Both ends blocking (setNonBlocking changes one without the other). */
  pipe(): [read: number, write: number];
  dupFd(fd: number): number;
  setNonBlocking(fd: number, on: boolean): void;
  /** lseek(2) behind everything that is there. */
  seekToEnd(fd: number): void;
  /** FIONREAD: bytes that can be read now. */
  bytesReadable(fd: number): number;
  /** An anonymous file holding `content`, offset 0. */
  memfd(name: string, content: Uint8Array): number;
  /** Non-blocking, counter 0. */
  eventfd(): number;
  /** Reads and resets an eventfd's counter; 0n when it is not signaled. */
  readEventfd(fd: number): bigint;

  pidfdOpen(pid: number): number;
  /** @throws ESRCH when the process has ended and was reaped. */
  pidfdSendSignal(pidfd: number, signal: number): void;
  /**
   * Exit status in wait(2) format through PIDFD_GET_INFO (Linux 6.15), null when it is not (or not
   * yet) available.
   */
  pidfdExitStatus(pidfd: number): number | null;
  /**
   * Signals the process group that this process leads.
   * @param pid its number, for kernels before 6.9, on which a leader that was reaped has no group
   *   any more
   * @throws ESRCH when the group has ended
   */
  pidfdSignalGroup(pidfd: number, pid: number, signal: number): void;

  setWindowSize(fd: number, columns: number, rows: number): void;
  windowSize(fd: number): [columns: number, rows: number];
  openPty(): [master: number, slavePath: string];

  /** Non-blocking. */
  inotifyInit(): number;
  /** @param path a string, or the bytes of a path that is not UTF-8 */
  inotifyAdd(fd: number, path: string | Uint8Array, mask: number): number;
  inotifyRemove(fd: number, wd: number): void;
  /** What is there now, at most 16 KiB of it; empty when nothing is. */
  inotifyRead(fd: number): InotifyEvent[];

  /** prctl(PR_SET_CHILD_SUBREAPER). */
  setSubreaper(on: boolean): void;
  /**
   * Unmaps the pages of this process's programs and libraries that nothing writes to, and gives
   * free heap back. Those that are used again are mapped again one by one: a page fault each, no
   * reading as long as the file is cached.
   */
  releaseProgram(): void;
  /** flock(2): 'shared' | 'exclusive' | 'unlock', never waits; false when another holds it. */
  flock(fd: number, how: string): boolean;

  /**
   * Loads an eBPF program of type BPF_PROG_TYPE_CGROUP_DEVICE (struct bpf_insn, 8 bytes each) and
   * returns its descriptor.
   * @param unlimitedMemlock lifts RLIMIT_MEMLOCK during the call where that is allowed; kernels
   *   before 5.11 answer EPERM when it is too low
   * @throws an errno error with `log`, what the verifier said (empty unless EINVAL or EACCES);
   *   EAGAIN: a signal came, try again
   */
  bpfLoadDevice(program: Uint8Array, unlimitedMemlock: boolean): number;
  /**
   * Attaches a device program to the cgroup2 directory open as `cgroup`. flags are BPF_F_*:
   * ALLOW_MULTI 2, REPLACE 4 (Linux 5.6, with the descriptor of the program to be replaced; it is
   * not looked at without the flag).
   */
  bpfAttachDevice(cgroup: number, program: number, flags: number, replaced: number): void;
  /**
   * Detaches a device program.
   * @throws ENOENT when it is not attached to this group, or by a link
   */
  bpfDetachDevice(cgroup: number, program: number): void;
  /**
   * The device programs attached to this very group, not to its ancestors, and the flags they were
   * attached with.
   */
  bpfQueryDevice(cgroup: number): AttachedPrograms;
  /** A descriptor of the loaded program with that id. @throws ENOENT when it was unloaded since */
  bpfOpenProgram(id: number): number;
}
