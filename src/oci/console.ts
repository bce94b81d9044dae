/**
 * Receives a container's terminal: the runtime connects to a socket of ours and sends the master
 * end of the pseudoterminal (`--console-socket`; one message, one descriptor, the pty's name as its
 * bytes).
 */
import { closeSync, lstatSync, mkdtempSync, rmdirSync, rmSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import {
  Code,
  codeOf,
  createDeferred,
  type Deferred,
  isErrno,
  LaminaError,
  messageOf,
  startTimeLimit,
} from '../base/index.js';
import { binding, POLLIN, type Poller, type Registration, sharedPoller } from '../sys/index.js';
import { scratchDir } from './scratch.js';

/** The master end of a pseudoterminal. */
export interface ReceivedConsole {
  /** Belongs to the receiver, who closes it. */
  readonly fd: number;
  /** As the runtime calls it: `/dev/pts/0`, or `/dev/ptmx`. */
  readonly name: string;
}

export interface ConsoleSocketOptions {
  readonly poller?: Poller;
  /**
   * Where it is to be, in a folder that nobody else may enter; what is left there of an earlier one
   * is removed. Default: a folder of its own.
   */
  readonly path?: string | undefined;
  /** The runtime has connected, and nothing was read yet. The descriptor stays with the socket. */
  readonly onConnected?: (fd: number) => void;
}

/** What was made of a socket before. */
export interface MadeConsoleSocket {
  readonly fd: number;
  readonly path: string;
  /** The descriptor is that of the connection. */
  readonly isConnected: boolean;
}

/** The longest path a socket can have: sun_path without its NUL. */
export const MAX_SOCKET_PATH_BYTES = 107;
/** Of one in a folder of its own. */
const SOCKET_NAME = 'pty.sock';
const MAX_NAME_BYTES = 4096;
const RECEIVE_TIMEOUT_MS = 30_000;

/** A listening socket where nobody else comes, for one console. Dispose of it in every case. */
export class ConsoleSocket {
  /** What `--console-socket` gets. */
  readonly path: string;
  readonly #poller: Poller;
  readonly #onConnected: ((fd: number) => void) | undefined;
  #isConnected: boolean;
  /** The listening socket, then the connection. */
  #fd: number | undefined;
  #registration: Registration | undefined;
  #waiting: Deferred<ReceivedConsole> | undefined;

  /**
   * @param made a socket of another process that listens already, or the connection made to it; the
   *   descriptor belongs to this object from now on
   * @throws errno errors of mkdtemp and bind
   */
  constructor(options: ConsoleSocketOptions = {}, made?: MadeConsoleSocket) {
    this.#poller = options.poller ?? sharedPoller();
    if (made === undefined && options.path !== undefined) rmSync(options.path, { force: true });
    this.path = made?.path ?? options.path ?? join(makeSocketDir(), SOCKET_NAME);
    this.#onConnected = options.onConnected;
    this.#isConnected = made?.isConnected === true;
    try {
      this.#fd = made?.fd ?? binding().listenUnix(this.path, 'stream', 1, 0o600);
    } catch (error) {
      this.#remove();
      throw error;
    }
  }

  /** The listening socket, until somebody has connected. */
  get fd(): number | undefined {
    return this.#fd;
  }

  /**
   * Waits for the console, at most 30 s, with 0 as long as it takes; the socket is then closed and
   * removed, whatever came of it.
   * @throws LaminaError DeadlineExceeded; Canceled when it is disposed of meanwhile;
   *   FailedPrecondition when something else than one descriptor and a name of less than 4096 bytes
   *   was sent
   */
  async receive(timeoutMs = RECEIVE_TIMEOUT_MS): Promise<ReceivedConsole> {
    if (this.#fd === undefined || this.#waiting !== undefined)
      throw this.#error(Code.FailedPrecondition, 'it is closed');
    const waiting = createDeferred<ReceivedConsole>();
    this.#waiting = waiting;
    const stop = startTimeLimit(
      timeoutMs,
      () => true,
      () => waiting.reject(this.#error(Code.DeadlineExceeded, `nothing came within ${timeoutMs / 1000} s`)),
    );
    try {
      const fd = this.#fd;
      this.#watch(fd, () => (this.#isConnected ? this.#read(fd) : this.#accept()));
      return await waiting.promise;
    } finally {
      stop();
      this[Symbol.dispose]();
    }
  }

  /**
   * To be called once the runtime has ended: what it was to send is there by now, or never comes.
   * `receive` settles without waiting any longer, unless somebody has connected who has not yet
   * sent anything.
   */
  takeNow(): void {
    if (this.#waiting === undefined || this.#isConnected) return;
    this.#step(() => {
      this.#accept();
      if (!this.#isConnected) throw this.#error(Code.FailedPrecondition, 'the runtime has ended and sent nothing');
    });
  }

  /** Closes the socket and removes it; idempotent. */
  [Symbol.dispose](): void {
    this.#closeFd();
    this.#waiting?.reject(this.#error(Code.Canceled, 'it was closed'));
    this.#remove();
  }

  /** A socket, and the folder that was made for it; whatever else is there stays. */
  #remove(): void {
    quietly(() => {
      if (lstatSync(this.path).isSocket()) unlinkSync(this.path);
    });
    if (basename(this.path) === SOCKET_NAME) quietly(() => rmdirSync(dirname(this.path)));
  }

  #watch(fd: number, step: () => void): void {
    this.#fd = fd;
    this.#registration = this.#poller.watch(fd, POLLIN, () => this.#step(step));
  }

  #step(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#waiting?.reject(error instanceof LaminaError ? error : this.#error(whyNot(error), messageOf(error), error));
      this.#closeFd();
    }
  }

  #closeFd(): void {
    this.#registration?.[Symbol.dispose]();
    this.#registration = undefined;
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #accept(): void {
    if (this.#fd === undefined) return;
    const connection = binding().acceptUnix(this.#fd);
    if (connection === null) return;
    this.#closeFd();
    this.#isConnected = true;
    this.#watch(connection, () => this.#read(connection));
    this.#onConnected?.(connection);
  }

  #read(connection: number): void {
    let received: ReturnType<ReturnType<typeof binding>['recvMessage']>;
    try {
      received = binding().recvMessage(connection, MAX_NAME_BYTES);
    } catch (error) {
      if (isErrno(error, 'EMSGSIZE')) throw this.#error(Code.FailedPrecondition, 'the message is too large', error);
      throw error;
    }
    if (received === null) return;
    const { data, fds, lost } = received;
    if (lost === true) throw this.#error(Code.ResourceExhausted, 'no descriptor is left for it');
    const [fd] = fds;
    if (fd !== undefined && fds.length === 1 && data.length < MAX_NAME_BYTES) {
      this.#waiting?.resolve({ fd, name: data.toString('utf8').replace(/\0+$/, '') });
      this.#closeFd();
      return;
    }
    for (const unwanted of fds) closeSync(unwanted);
    const got =
      data.length === 0 && fds.length === 0 ? 'nothing' : `${fds.length} descriptors and ${data.length} bytes`;
    throw this.#error(Code.FailedPrecondition, `the runtime sent ${got} instead of one descriptor and a name`);
  }

  #error(code: Code, why: string, cause?: unknown): LaminaError {
    return new LaminaError(code, `receive console on ${this.path}: ${why}`, { subject: this.path, cause });
  }
}

/** It has been tidied away, or somebody has put something beside it. */
function quietly(remove: () => void): void {
  try {
    remove();
  } catch (error) {
    if (!isErrno(error)) throw error;
  }
}

// XDG_RUNTIME_DIR may be longer than a socket's path can be.
function makeSocketDir(): string {
  const suffix = `/pty123456/${SOCKET_NAME}`;
  const parent = [scratchDir(), tmpdir(), '/tmp'].find(
    (dir) => Buffer.byteLength(dir) + suffix.length <= MAX_SOCKET_PATH_BYTES,
  );
  return mkdtempSync(join(parent ?? '/tmp', 'pty'));
}

/** What was received was wrong, unless this process had no room for it. */
function whyNot(error: unknown): Code {
  return codeOf(error) === Code.ResourceExhausted ? Code.ResourceExhausted : Code.FailedPrecondition;
}
