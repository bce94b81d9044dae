/**
 * One connection to a message bus or to systemd itself: authentication, replies matched to calls,
 * signals, a deadline for everything.
 *
 * It keeps the process alive only while an answer is awaited, and without one it has no timer.
 */
import { connect, type Socket } from 'node:net';
import { Code, createDeferred, type Deferred, isErrno, LaminaError, messageOf } from '../../base/index.js';
import type { BusAddress } from './address.js';
import { type BusCall, type BusCodec, type BusMessage, loadBusCodec, MessageType } from './bus.js';
import { ConnectionLostError, SystemdError } from './errors.js';

/** A moment after which nothing is waited for any more. */
export interface Deadline {
  /** As performance.now() counts. */
  readonly at: number;
  /** What was granted, for error texts. */
  readonly timeoutMs: number;
}

export function deadlineIn(timeoutMs: number): Deadline {
  return { at: performance.now() + timeoutMs, timeoutMs };
}

export function remainingMs(deadline: Deadline): number {
  return Math.max(0, Math.ceil(deadline.at - performance.now()));
}

/**
 * A peer with a full backlog says EAGAIN; it is asked again after 100 ms, and each time after twice
 * as long.
 */
const CONNECT_ATTEMPTS = 8;
const FIRST_DELAY_MS = 100;
/** So that many clients of a busy bus do not all come back at once. */
const JITTER = 0.125;

const BUS_NAME = 'org.freedesktop.DBus';
const MAX_LINE = 4096;

/** The call's subject in errors. */
export interface CallSubject {
  readonly unit?: string | undefined;
}

interface Pending {
  readonly reply: Deferred<readonly unknown[]>;
  readonly fail: (message: BusMessage) => unknown;
  readonly timer: NodeJS.Timeout;
}

export class BusConnection {
  readonly isPrivate: boolean;
  readonly #socket: Socket;
  readonly #codec: BusCodec;
  #serial = 0;
  #lost: ConnectionLostError | undefined;
  // Serial → the call that waits for its reply; removed by the reply, the deadline, or the end of
  // the connection.
  readonly #pending = new Map<number, Pending>();
  readonly #signalListeners = new Set<(message: BusMessage) => void>();
  readonly #lossListeners = new Set<(error: ConnectionLostError) => void>();

  private constructor(socket: Socket, codec: BusCodec, isPrivate: boolean, rest: Buffer) {
    this.#socket = socket;
    this.#codec = codec;
    this.isPrivate = isPrivate;
    const decode = codec.decoder((message) => this.#receive(message));
    const take = (chunk: Buffer): void => {
      try {
        decode(chunk);
      } catch (error) {
        this.#lose(new ConnectionLostError(messageOf(error), error));
      }
    };
    socket.on('data', take);
    socket.on('error', (error) => this.#lose(new ConnectionLostError(messageOf(error), error)));
    socket.on('close', () => this.#lose(new ConnectionLostError('closed by the other side')));
    if (rest.length > 0) take(rest);
    socket.unref();
  }

  /**
   * Connects, authenticates and, on a bus, says hello.
   * @throws {LaminaError} Unavailable, PermissionDenied or DeadlineExceeded
   */
  static async open(address: BusAddress, deadline: Deadline): Promise<BusConnection> {
    const codec = await loadBusCodec();
    const socket = await connectTo(address.path, deadline);
    let connection: BusConnection;
    try {
      const rest = await authenticate(socket, address.path, deadline);
      connection = new BusConnection(socket, codec, address.isPrivate, rest);
    } catch (error) {
      socket.destroy();
      throw error;
    }
    if (address.isPrivate) return connection;
    try {
      await connection.callBus('Hello', deadline);
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  get isLost(): boolean {
    return this.#lost !== undefined;
  }

  /**
   * Sends a call and waits for its answer.
   * @param subject named in errors
   * @throws {SystemdError} with the error's name, or DeadlineExceeded; {ConnectionLostError}
   */
  async call(call: BusCall, deadline: Deadline, subject: CallSubject = {}): Promise<readonly unknown[]> {
    if (this.#lost !== undefined) throw this.#lost;
    const about = { unit: subject.unit, method: call.member };
    const serial = this.#nextSerial();
    const data = this.#codec.encode(call, serial);
    const reply = createDeferred<readonly unknown[]>();
    const timer = setTimeout(() => {
      this.#pending.delete(serial);
      reply.reject(
        new SystemdError(`no answer within ${deadline.timeoutMs} ms`, { ...about, code: Code.DeadlineExceeded }),
      );
    }, remainingMs(deadline));
    const fail = ({ errorName = 'unknown error', body }: BusMessage): unknown =>
      new SystemdError(typeof body[0] === 'string' ? body[0] : errorName, { ...about, errorName });
    this.#pending.set(serial, { reply, fail, timer });
    this.#socket.ref();
    this.#socket.write(data);
    try {
      return await reply.promise;
    } finally {
      clearTimeout(timer);
      if (this.#pending.size === 0) this.#socket.unref();
    }
  }

  /** Sends a call that is not answered. Nothing happens on a lost connection. */
  send(call: BusCall): void {
    if (this.#lost === undefined)
      this.#socket.write(this.#codec.encode({ ...call, noReply: true }, this.#nextSerial()));
  }

  /** Calls the message bus. @throws as `call` */
  async callBus(member: string, deadline: Deadline, argument?: string): Promise<readonly unknown[]> {
    return await this.call(busCall(member, argument), deadline);
  }

  /** Tells the message bus something. */
  sendBus(member: string, argument?: string): void {
    this.send(busCall(member, argument));
  }

  /** Calls back for every signal, until disposed. */
  onSignal(listener: (message: BusMessage) => void): Disposable {
    this.#signalListeners.add(listener);
    return { [Symbol.dispose]: () => void this.#signalListeners.delete(listener) };
  }

  /** Calls back when the connection is lost, until disposed. */
  onLost(listener: (error: ConnectionLostError) => void): Disposable {
    this.#lossListeners.add(listener);
    return { [Symbol.dispose]: () => void this.#lossListeners.delete(listener) };
  }

  close(): void {
    this.#lose(new ConnectionLostError('closed'));
  }

  #nextSerial(): number {
    // 0 is no serial.
    this.#serial = this.#serial === 0xffff_ffff ? 1 : this.#serial + 1;
    return this.#serial;
  }

  #receive(message: BusMessage): void {
    if (message.type === MessageType.Signal) {
      for (const listener of [...this.#signalListeners]) listener(message);
      return;
    }
    const { replySerial = 0 } = message;
    const pending = this.#pending.get(replySerial);
    if (pending === undefined) return;
    this.#pending.delete(replySerial);
    if (message.type === MessageType.MethodReturn) pending.reply.resolve(message.body);
    else pending.reply.reject(pending.fail(message));
  }

  #lose(error: ConnectionLostError): void {
    if (this.#lost !== undefined) return;
    this.#lost = error;
    this.#socket.destroy();
    for (const { reply, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reply.reject(error);
    }
    this.#pending.clear();
    for (const listener of [...this.#lossListeners]) listener(error);
  }
}

function busCall(member: string, argument: string | undefined): BusCall {
  const body = argument === undefined ? {} : { signature: 's', body: [argument] };
  return { destination: BUS_NAME, path: '/org/freedesktop/DBus', interface: BUS_NAME, member, ...body };
}

/** Connects, again when the listener's backlog is full. */
async function connectTo(path: string, deadline: Deadline): Promise<Socket> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await connectOnce(path, deadline);
    } catch (error) {
      const delay = FIRST_DELAY_MS * 2 ** (attempt - 1) * (1 + JITTER * (2 * Math.random() - 1));
      if (!isErrno(error, 'EAGAIN') || attempt === CONNECT_ATTEMPTS || delay > remainingMs(deadline)) {
        throw connectError(path, error);
      }
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }
}

function connectError(path: string, cause: unknown): unknown {
  if (cause instanceof LaminaError) return cause;
  const code = isErrno(cause, 'EACCES', 'EPERM') ? Code.PermissionDenied : Code.Unavailable;
  return new LaminaError(code, `cannot connect to systemd: ${messageOf(cause)}`, { subject: path, cause });
}

function connectOnce(path: string, deadline: Deadline): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    const timer = setTimeout(() => {
      socket.destroy();
      reject(timeoutError('connect', path, deadline));
    }, remainingMs(deadline));
    // Stays: whoever has the socket hears of errors by its close, too.
    socket.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    socket.once('connect', () => {
      clearTimeout(timer);
      resolve(socket);
    });
  });
}

function timeoutError(what: string, path: string, deadline: Deadline): LaminaError {
  const text = `systemd: ${what} ${path}: no answer within ${deadline.timeoutMs} ms`;
  return new LaminaError(Code.DeadlineExceeded, text, { subject: path });
}

/**
 * Authenticates as whom the kernel says this process is: EXTERNAL without a name, so that a process
 * in a user namespace need not find out its uid outside. All in one write: systemd does not look at
 * a message that it has read together with BEGIN until more bytes come, so BEGIN must be behind us
 * when the first message goes out.
 * @returns what came after the last line
 */
async function authenticate(socket: Socket, path: string, deadline: Deadline): Promise<Buffer> {
  const lines = new LineReader(socket, path, deadline);
  try {
    socket.write('\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n');
    // One line for each but BEGIN.
    const asked = await lines.next();
    const answer = asked === 'DATA' || asked.startsWith('OK') ? await lines.next() : asked;
    if (!/^OK( |$)/.test(answer)) {
      const what = `systemd: ${path}: authentication refused: ${JSON.stringify(answer)}`;
      throw new LaminaError(Code.PermissionDenied, what, { subject: path });
    }
    return lines.rest();
  } finally {
    lines.end();
  }
}

/** Reads lines of the authentication. */
class LineReader {
  readonly #socket: Socket;
  readonly #path: string;
  readonly #timer: NodeJS.Timeout;
  #bytes: Buffer = Buffer.alloc(0);
  #failure: unknown;
  #wake: () => void = () => undefined;

  constructor(socket: Socket, path: string, deadline: Deadline) {
    this.#socket = socket;
    this.#path = path;
    this.#timer = setTimeout(() => this.#fail(timeoutError('authenticate at', path, deadline)), remainingMs(deadline));
    socket.on('data', this.#onData);
    socket.on('close', this.#onClose);
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    this.#wake();
  };

  readonly #onClose = (): void => this.#fail(new ConnectionLostError('closed while authenticating'));

  async next(): Promise<string> {
    for (;;) {
      const end = this.#bytes.indexOf('\r\n');
      if (end >= 0) {
        const line = this.#bytes.toString('latin1', 0, end);
        this.#bytes = this.#bytes.subarray(end + 2);
        return line.trimEnd();
      }
      if (this.#bytes.length > MAX_LINE) {
        this.#fail(new LaminaError(Code.DataLoss, `no D-Bus at ${this.#path}`, { subject: this.#path }));
      }
      if (this.#failure !== undefined) throw this.#failure;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** What has come after the last line. */
  rest(): Buffer {
    return this.#bytes;
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#socket.off('data', this.#onData);
    this.#socket.off('close', this.#onClose);
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    this.#wake();
  }
}
