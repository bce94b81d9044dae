/**
 * The streams of one process, whatever carries them.
 *
 * Everything that must outlive the engine is in the keeper's hands under names that begin with `io/<container>/<exec>/`:
 *   entries  `stdin-hold`   write end of the stdin FIFO, so that clients may come and go without an end of file
 *            `stdout-hold`, `stderr-hold`  read ends, so that a departed reader neither kills the writer nor loses bytes
 *            `console`      the pty master, which the relays use too: the keeper has one descriptor of it, until all three have ended
 *            and until the start has been recorded, so that one that is tried again, or is found done, goes on with the same streams:
 *            `err-src`, `err-dst`  the ends of the `err` relay, which begins once the process has been started
 *            `stdin-pipe`   the process's end of the pipe, so that input moved already is not lost
 *            `stdin-reader`, `stdout-writer`  the FIFO, so that its client sees no end of file and can go on writing; for stderr `err-dst` is that
 *            `console-socket`, `console-connection`  where the runtime sends the terminal, with the path: what was sent is not lost with the engine
 *   relays   `in`, `out`, `err`
 * A successor engine finds them again by those names (`ProcessIo.restore`).
 */
import { closeSync, fstatSync } from 'node:fs';
import { Code, createDeferred, type Deferred, LaminaError } from '../../base/index.js';
import { ConsoleSocket, type Process, type SpawnedProcess } from '../../oci/index.js';
import { binding } from '../../sys/index.js';
import { isPlainPath } from '../fields.js';
import type { KeeperLink } from '../keeper-link.js';
import type { RelayState } from '../keeper-messages.js';
import { endLogger, loggerName } from './logger.js';

export type RelayStream = 'in' | 'out' | 'err';
/** What is needed until the start has been recorded. */
const OF_START = [
  'stdin-pipe',
  'stdin-reader',
  'stdout-writer',
  'err-src',
  'err-dst',
  'console-socket',
  'console-connection',
] as const;
/** What a start that is tried again goes on with; its streams replace the entries one by one. */
const CARRIED_ON = [
  'stdin-hold',
  'stdout-hold',
  'stderr-hold',
  'err-dst',
  'stdin-pipe',
  'stdin-reader',
  'stdout-writer',
] as const;
const OF_PROCESS = ['stdin-hold', 'stdout-hold', 'stderr-hold', 'console'] as const;
export type HeldStream = (typeof OF_START)[number] | (typeof OF_PROCESS)[number];

/** A copy that has not begun. Its descriptors are ours; an end without one is the terminal. */
interface WaitingRelay {
  readonly stream: RelayStream;
  readonly src: number | undefined;
  readonly dst: number | undefined;
}

/** The prefix of everything a process's streams are called in the keeper. */
export function ioPrefix(containerId: string, execId: string): string {
  return `io/${containerId}/${execId}/`;
}

/** What a predecessor left of all processes' streams. */
export interface LeftStreams {
  /** All entries; of those not taken over, the descriptors are closed. */
  readonly entries: ReadonlyMap<string, { readonly bytes: Buffer; readonly fd: number | undefined }>;
  readonly relays: ReadonlyMap<string, RelayState>;
  /** exec id → OCI process, of those not yet started, or why it cannot be read. */
  readonly specs: ReadonlyMap<string, Process | LaminaError>;
  /** Gets the names of the entries whose descriptors were taken over. */
  readonly taken: Set<string>;
}

export class ProcessIo {
  readonly #link: KeeperLink;
  readonly #prefix: string;
  /**
   * Copies that begin once the process has been started: what the runtime says of a failed start is
   * not the process's output.
   */
  #waiting: WaitingRelay[] = [];
  /** relay → settles when it has ended; entries stay until dispose. */
  readonly #relays = new Map<RelayStream, Deferred<void>>();
  readonly #held = new Set<HeldStream>();
  #hasEnded = false;
  /** It may have written what its reader has not taken; false is certain once it has ended. */
  #isUnread = false;
  /** 0, 1, 2 of the process; undefined is /dev/null. Ours until `releaseChildEnds`. */
  #child: (number | undefined)[] = [undefined, undefined, undefined];
  #console: number | undefined;
  #logger: SpawnedProcess | undefined;
  /** What a predecessor had for a start that was under way. */
  #stdinPipe: number | undefined;
  #consoleSocket: ConsoleSocket | undefined;

  constructor(link: KeeperLink, prefix: string) {
    this.#link = link;
    this.#prefix = prefix;
  }

  /** Descriptors for the process's 0, 1 and 2; undefined stands for /dev/null. */
  get childFds(): readonly (number | undefined)[] {
    return this.#child;
  }

  get hasConsole(): boolean {
    return this.#console !== undefined;
  }

  /**
   * Gives the process a descriptor of its own for 0, 1 or 2. It is closed here after the process
   * was started.
   * @throws LaminaError Internal for anything but a pipe or FIFO: what else there is belongs to the
   *   host
   */
  setChildFd(index: 0 | 1 | 2, fd: number): void {
    this.#child[index] = fd;
    if (fstatSync(fd).isFIFO()) return;
    throw new LaminaError(Code.Internal, `descriptor ${index} of a process would be something of the host's`);
  }

  /** Puts a descriptor into the keeper's keeping and closes it here. */
  hold(stream: HeldStream, fd: number): void {
    this.keep(stream, fd);
    closeSync(fd);
  }

  /** Puts a duplicate of a descriptor into the keeper's keeping. */
  keep(stream: HeldStream, fd: number, bytes: Uint8Array = Buffer.alloc(0)): void {
    this.#link.put(this.#prefix + stream, bytes, fd);
    this.#held.add(stream);
  }

  /** As `keep`, before anything else is done. */
  keepNow(stream: HeldStream, fd: number, bytes?: Uint8Array): void {
    this.keep(stream, fd, bytes);
    this.#link.flush();
  }

  /** Has the keeper open a FIFO, by any descriptor of it, and keep it. */
  async keepFifo(stream: HeldStream, fd: number): Promise<void> {
    this.#held.add(stream);
    await this.#link.putFifo(this.#prefix + stream, fd);
  }

  /**
   * Prepares a copy by the keeper, which begins with `startRelays`. Both descriptors belong to this
   * object from now on.
   */
  relay(stream: RelayStream, src: number, dst: number): void {
    this.#waiting.push({ stream, src, dst });
    if (stream !== 'err') return;
    // It waits until the process has been started; a successor engine must be able to begin it. The
    // FIFO's writer first: its reader sees it already.
    this.keep('err-dst', dst);
    this.keep('err-src', src);
  }

  /** As `relay`, between the terminal and a descriptor. */
  relayConsole(stream: 'in' | 'out', fd: number): void {
    this.#waiting.push(stream === 'in' ? { stream, src: fd, dst: undefined } : { stream, src: undefined, dst: fd });
  }

  /**
   * @throws LaminaError ResourceExhausted when the keeper could not take all that was put into its
   *   keeping, as told by its next answer
   */
  assertKept(): void {
    this.#link.assertKept(this.#prefix);
  }

  /** Whether a relay of this name is running or has run. */
  hasRelay(stream: RelayStream): boolean {
    return this.#relays.has(stream);
  }

  /**
   * Lets the keeper copy. stdin and stdout may flow before the process has been started, stderr
   * only after. Resolves when what has been written so far is on its way.
   */
  async startRelays(isStarted: boolean): Promise<void> {
    const isDue = ({ stream }: WaitingRelay): boolean => isStarted || stream !== 'err';
    const begun = this.#waiting.filter(isDue).map((relay) => {
      this.#relays.set(relay.stream, createDeferred());
      return this.#startRelay(relay);
    });
    this.#closeWaiting(isDue);
    await Promise.all(begun);
  }

  setLogger(logger: SpawnedProcess): void {
    this.#logger = logger;
  }

  /** Takes over the pty master: the keeper keeps it, the engine uses it for sizes. */
  setConsole(master: number): void {
    this.#console = master;
    // At once: it hangs up the process when its last holder goes.
    this.keepNow('console', master);
  }

  /** The pty master, which stays with this object. */
  get console(): number | undefined {
    return this.#console;
  }

  /**
   * The process's end of a stdin pipe that input flows into since an earlier try of this start;
   * belongs to the caller.
   */
  takeStdinPipe(): number | undefined {
    const pipe = this.#stdinPipe;
    this.#stdinPipe = undefined;
    return pipe;
  }

  /**
   * The socket to which the runtime may have sent the terminal under a predecessor; belongs to the
   * caller.
   */
  takeConsoleSocket(): ConsoleSocket | undefined {
    const socket = this.#consoleSocket;
    this.#consoleSocket = undefined;
    return socket;
  }

  /** Nothing more is read from the connection on which the terminal came, or was to come. */
  consoleReceived(): void {
    this.#release('console-connection');
  }

  /** The start is recorded, or was never begun: nobody will try it again. */
  startRecorded(): void {
    // All copies have begun: from now on the report of the exit says it.
    if (!this.#hasEnded) this.#isUnread = false;
    for (const stream of OF_START) this.#release(stream);
    this.#closeOfStart();
  }

  /**
   * What a further try of the start goes on with: whoever reads the output must see no end of file
   * in between, and input that was moved is not lost. Everything else is ended here.
   */
  carryOn(): ProcessIo {
    const next = new ProcessIo(this.#link, this.#prefix);
    for (const stream of CARRIED_ON) if (this.#held.delete(stream)) next.#held.add(stream);
    const input = this.#relays.get('in');
    // Without the copy nothing would ever come through the pipe.
    if (input !== undefined && this.#stdinPipe !== undefined) {
      this.#relays.delete('in');
      next.#relays.set('in', input);
      next.#stdinPipe = this.takeStdinPipe();
    }
    this.dispose();
    return next;
  }

  /** Closes what belongs to the process now that it has been started, or never will be. */
  releaseChildEnds(): void {
    for (const fd of new Set(this.#child)) if (fd !== undefined) closeSync(fd);
    this.#child = [undefined, undefined, undefined];
  }

  /** Sets the terminal's size in characters; without a terminal nothing happens. */
  resize(columns: number, rows: number): void {
    if (this.#console !== undefined) binding().setWindowSize(this.#console, columns & 0xffff, rows & 0xffff);
  }

  /**
   * Gives up the shim's own hold on stdin: the process sees end of file once the clients have
   * closed too.
   */
  closeStdin(): void {
    this.#release('stdin-hold');
  }

  /** The keeper reports that one of this process's relays ended. */
  relayEnded(stream: RelayStream, state: RelayState): void {
    this.#relays.get(stream)?.resolve();
    // The end of input hangs up a terminal, after what is still on its way out.
    if (stream === 'in' && this.#console !== undefined && state.error === undefined) this.#hangUp();
  }

  /**
   * The process was reaped.
   * @param isUnread it may have written what its reader has not taken yet
   */
  reaped(isUnread: boolean): void {
    this.#hasEnded = true;
    if (isUnread) this.#isUnread = true;
  }

  /**
   * Of a process that has ended: resolves when its readers have taken all it wrote, at the latest
   * after `timeoutMs`; undefined when they have. Never rejects.
   */
  outputRead(timeoutMs: number): Promise<void> | undefined {
    if (!this.#isUnread || !(this.#held.has('stdout-hold') || this.#held.has('stderr-hold'))) return undefined;
    this.#isUnread = false;
    // Without its keeper nothing is left to be told.
    return this.#link.outputRead(this.#prefix, timeoutMs).catch(() => undefined);
  }

  /**
   * Its exit is told: nothing reads its stdin or sets its terminal's size any more. What is on its
   * way out of a terminal keeps that open.
   */
  processEnded(): void {
    this.#closeWaiting(({ stream }) => stream === 'in');
    this.#dropRelay('in');
    this.#release('stdin-hold');
    this.#release('console');
    this.#closeConsole();
  }

  /** Waits until the output written so far has been passed on, at most `timeoutMs`. */
  async drain(timeoutMs: number): Promise<void> {
    const pending = (['out', 'err'] as const).filter((stream) => this.#relays.has(stream));
    if (pending.length === 0) return;
    for (const stream of pending) this.#link.finishRelay(this.#prefix + stream);
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
    });
    await Promise.race([Promise.all(pending.map((stream) => this.#relays.get(stream)?.promise)), timeout]);
    clearTimeout(timer);
  }

  /** Ends everything that is left. A logger gets SIGTERM and then its grace. */
  dispose(): void {
    this.releaseChildEnds();
    this.#closeWaiting(() => true);
    for (const stream of ['in', 'out', 'err'] as const) this.#dropRelay(stream);
    for (const stream of this.#held) this.#link.del(this.#prefix + stream);
    this.#held.clear();
    this.#closeConsole();
    this.#closeOfStart();
    const logger = this.#logger;
    this.#logger = undefined;
    if (logger !== undefined) endLogger(this.#link, logger);
  }

  /** Rebuilds the streams of a process from what a predecessor left in the keeper. */
  static restore(link: KeeperLink, prefix: string, left: LeftStreams): ProcessIo {
    const io = new ProcessIo(link, prefix);
    const take = (stream: HeldStream): { readonly bytes: Buffer; readonly fd: number | undefined } | undefined => {
      if (!io.#held.has(stream)) return undefined;
      left.taken.add(prefix + stream);
      return left.entries.get(prefix + stream);
    };
    for (const stream of [...OF_PROCESS, ...OF_START]) if (left.entries.has(prefix + stream)) io.#held.add(stream);
    io.#console = take('console')?.fd;
    io.#stdinPipe = take('stdin-pipe')?.fd;
    const connection = take('console-connection');
    const socket = connection ?? take('console-socket');
    const path = socket?.bytes.toString() ?? '';
    if (socket?.fd !== undefined && isPlainPath(path)) {
      io.#consoleSocket = new ConsoleSocket({}, { fd: socket.fd, path, isConnected: connection !== undefined });
    } else if (socket?.fd !== undefined) closeSync(socket.fd);
    io.#logger = link.children.inheritedRun(loggerName(prefix));
    io.#restoreErr(left);
    for (const stream of ['in', 'out', 'err'] as const) {
      const state = left.relays.get(prefix + stream);
      if (state === undefined) continue;
      io.#relays.set(stream, createDeferred());
      if (state.ended) io.relayEnded(stream, state);
    }
    return io;
  }

  /**
   * A predecessor died between the start and the beginning of this relay: it waits for
   * `startRelays` again.
   */
  #restoreErr(left: LeftStreams): void {
    const ends = ['err-src', 'err-dst'] as const;
    const [src, dst] = ends.map((end) => left.entries.get(this.#prefix + end)?.fd);
    if (src === undefined || dst === undefined || left.relays.has(`${this.#prefix}err`)) return;
    for (const end of ends) left.taken.add(this.#prefix + end);
    this.#waiting.push({ stream: 'err', src, dst });
  }

  async #startRelay({ stream, src, dst }: WaitingRelay): Promise<void> {
    const console = { entry: `${this.#prefix}console`, fd: this.#console ?? -1 };
    try {
      const hasMoved = await this.#link.relay(this.#prefix + stream, src ?? console, dst ?? console);
      if (hasMoved && stream !== 'in') this.#isUnread = true;
    } catch (error) {
      // An entry that the keeper could not take is not there.
      this.assertKept();
      throw error;
    }
  }

  #closeWaiting(which: (relay: WaitingRelay) => boolean): void {
    for (const { src, dst } of this.#waiting.filter(which)) {
      if (src !== undefined) closeSync(src);
      if (dst !== undefined) closeSync(dst);
    }
    this.#waiting = this.#waiting.filter((relay) => !which(relay));
  }

  #hangUp(): void {
    if (this.#relays.has('out')) this.#link.finishRelay(`${this.#prefix}out`);
    this.#release('console');
    this.#closeConsole();
  }

  #release(stream: HeldStream): void {
    if (this.#held.delete(stream)) this.#link.del(this.#prefix + stream);
  }

  #dropRelay(stream: RelayStream): void {
    const relay = this.#relays.get(stream);
    if (relay === undefined) return;
    this.#relays.delete(stream);
    this.#link.dropRelay(this.#prefix + stream);
    relay.resolve();
  }

  #closeOfStart(): void {
    const pipe = this.takeStdinPipe();
    if (pipe !== undefined) closeSync(pipe);
    this.takeConsoleSocket()?.[Symbol.dispose]();
  }

  #closeConsole(): void {
    if (this.#console !== undefined) closeSync(this.#console);
    this.#console = undefined;
  }
}
