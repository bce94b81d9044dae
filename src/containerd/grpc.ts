/**
 * gRPC to a containerd over its unix socket, on node:http2: calls with one request, and one answer
 * or a stream of them (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). No
 * compression.
 *
 * Every call has a deadline. An answer that streams has it from message to message, as its length
 * is not known, and is read no faster than it is used.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2, constants } from 'node:http2';
import { connect } from 'node:net';
import { Code, LaminaError, messageOf } from '../base/index.js';
import { connectionError, socketPathOf } from './address.js';
import { Deframer, frame } from './grpc-frame.js';

/** Encodes and decodes one kind of message. */
interface MessageType<T> {
  encode(message: T): { finish(): Uint8Array };
  decode(bytes: Uint8Array): T;
}

/** A method as ts-proto's `generic-definitions` describe it. */
interface Method {
  readonly name: string;
  readonly requestType: MessageType<unknown>;
  readonly requestStream: boolean;
  readonly responseType: MessageType<unknown>;
  readonly responseStream: boolean;
}

interface Service {
  readonly fullName: string;
  readonly methods: Readonly<Record<string, Method>>;
}

type RequestOf<M> = M extends { readonly requestType: MessageType<infer T> } ? T : never;
type ResponseOf<M> = M extends { readonly responseType: MessageType<infer T> } ? T : never;

/** What may be said about one call. */
export interface GrpcCallOptions {
  /** Of the whole call, or from message to message of a stream. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

type Call<M> = (
  request: RequestOf<M>,
  options?: GrpcCallOptions,
) => M extends { readonly responseStream: true } ? AsyncGenerator<ResponseOf<M>> : Promise<ResponseOf<M>>;

/** One function per method: a promise of the answer, or an iterable of the messages of a stream. */
export type GrpcClient<S extends Service> = { readonly [K in keyof S['methods']]: Call<S['methods'][K]> };

export interface GrpcOptions {
  /** Sent with each call; names in lower case. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Of a call that does not say; default: 30 s. */
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 30_000;
const CODES: ReadonlySet<number> = new Set(Object.values(Code));

/** A connection, made with the first call. It does not keep the process alive between calls. */
export class GrpcConnection implements Disposable {
  /** As it was given. */
  readonly address: string;
  readonly #path: string;
  readonly #options: GrpcOptions;
  #session: ClientHttp2Session | undefined;
  /** What ended the session. */
  #failure: Error | undefined;

  /** @throws LaminaError InvalidArgument for what is no address */
  constructor(address: string, options: GrpcOptions = {}) {
    this.address = address;
    this.#path = socketPathOf(address);
    this.#options = options;
  }

  [Symbol.dispose](): void {
    this.#session?.destroy();
    this.#session = undefined;
  }

  /**
   * @param metadata added to the connection's own Calls throw LaminaError: with containerd's code
   * and message, or Unavailable, PermissionDenied, DeadlineExceeded.
   */
  client<S extends Service>(service: S, metadata: Readonly<Record<string, string>> = {}): GrpcClient<S> {
    const client: Record<string, unknown> = {};
    for (const [key, method] of Object.entries(service.methods)) {
      const call = (request: unknown, options: GrpcCallOptions = {}): AsyncGenerator =>
        this.#call(service.fullName, method, request, metadata, options);
      client[key] = method.responseStream
        ? call
        : (request: unknown, options?: GrpcCallOptions) => this.#single(method.name, call(request, options));
    }
    // The loop gives every key of `methods` its function; TypeScript cannot follow that.
    return client as GrpcClient<S>;
  }

  async #single(name: string, answers: AsyncGenerator): Promise<unknown> {
    let answer: { readonly message: unknown } | undefined;
    for await (const message of answers) answer = { message };
    if (answer === undefined) throw this.#error(Code.Internal, name, 'it answered with no message');
    return answer.message;
  }

  async *#call(
    service: string,
    method: Method,
    request: unknown,
    metadata: Readonly<Record<string, string>>,
    { timeoutMs = this.#options.timeoutMs ?? TIMEOUT_MS, signal }: GrpcCallOptions,
  ): AsyncGenerator {
    signal?.throwIfAborted();
    const body = frame(method.requestType.encode(request).finish());
    const stream = this.#open(`/${service}/${method.name}`, metadata, method.responseStream ? undefined : timeoutMs);
    const status = new CallStatus(stream);
    const late = new LaminaError(
      Code.DeadlineExceeded,
      `containerd at ${this.address}: no answer to ${method.name} within ${timeoutMs} ms: it is busy or hangs; look at its log, or allow more with --timeout`,
      { subject: this.address },
    );
    const timer = setTimeout(() => stream.destroy(late), timeoutMs);
    const abort = (): void => {
      stream.destroy(signal?.reason instanceof Error ? signal.reason : undefined);
    };
    signal?.addEventListener('abort', abort, { once: true });
    try {
      stream.end(body);
      const messages = new Deframer();
      for await (const chunk of stream) {
        status.checkHttp(this);
        for (const message of messages.push(chunk as Buffer)) {
          yield method.responseType.decode(message);
          timer.refresh();
        }
      }
      signal?.throwIfAborted();
      status.check(this, method.name, messages.rest);
    } catch (error) {
      throw this.#explained(error, method.name);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
      // Also when the messages are not read to their end.
      if (!stream.destroyed) stream.close(constants.NGHTTP2_CANCEL);
    }
  }

  #open(path: string, metadata: Readonly<Record<string, string>>, timeoutMs: number | undefined): ClientHttp2Stream {
    const session = this.#connected();
    const stream = session.request({
      ':method': 'POST',
      ':path': path,
      // Strict servers take nothing else over a unix socket.
      ':authority': 'localhost',
      'content-type': 'application/grpc',
      te: 'trailers',
      ...(timeoutMs === undefined ? {} : { 'grpc-timeout': `${Math.min(Math.ceil(timeoutMs), 99_999_999)}m` }),
      ...this.#options.metadata,
      ...metadata,
    });
    // It is reported by the iteration; without a listener it would also end the process.
    stream.on('error', () => undefined);
    return stream;
  }

  #connected(): ClientHttp2Session {
    const session = this.#session;
    if (session !== undefined && !session.destroyed && !session.closed) return session;
    this.#failure = undefined;
    const fresh = connectHttp2('http://localhost', { createConnection: () => connect(this.#path) });
    fresh.on('error', (error) => {
      this.#failure ??= error;
    });
    fresh.on('goaway', (code) => {
      if (code !== constants.NGHTTP2_NO_ERROR) this.#failure ??= new Error(`it ended the connection with code ${code}`);
    });
    this.#session = fresh;
    return fresh;
  }

  #explained(error: unknown, method: string): unknown {
    if (error instanceof LaminaError) {
      return error.subject === undefined ? this.#error(error.code, method, error.message) : error;
    }
    if (error instanceof Error && error.name === 'AbortError') return error;
    const cause = this.#failure ?? error;
    const errno = cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : undefined;
    return connectionError(this.address, errno, cause);
  }

  #error(code: Code, method: string, text: string): LaminaError {
    return new LaminaError(code, `containerd at ${this.address}: ${method}: ${text}`, { subject: this.address });
  }

  /** @internal What an answer's status means; undefined for success. */
  failureOf(method: string, status: number, text: string): LaminaError | undefined {
    if (status === Code.Ok) return undefined;
    return this.#error(CODES.has(status) ? (status as Code) : Code.Unknown, method, text || `status ${status}`);
  }
}

/** What the headers and trailers of an answer say. */
class CallStatus {
  readonly #headers: Record<string, unknown> = {};

  constructor(stream: ClientHttp2Stream) {
    // A call that fails at once has its status in the first headers.
    const note = (more: object): void => {
      Object.assign(this.#headers, more);
    };
    stream.on('response', note);
    stream.on('trailers', note);
  }

  /** What answers with another status is no gRPC server. @throws LaminaError */
  checkHttp({ address }: GrpcConnection): void {
    const http = this.#headers[':status'];
    if (http === undefined || http === 200) return;
    throw connectionError(address, 'ERR_HTTP2_ERROR', new Error(`HTTP status ${http}`));
  }

  /** @param rest bytes of a message that was cut off @throws LaminaError */
  check(connection: GrpcConnection, method: string, rest: number): void {
    this.checkHttp(connection);
    const text = this.#headers['grpc-status'];
    // An answer that breaks off has no status.
    if (text === undefined) {
      throw connectionError(connection.address, undefined, new Error(`${method}: the answer broke off`));
    }
    const failure = connection.failureOf(method, Number(text), decodeMessage(this.#headers['grpc-message']));
    if (failure !== undefined) throw failure;
    if (rest > 0) throw connection.failureOf(method, Code.DataLoss, 'a message was cut off');
  }
}

/** Percent-encoded, where the server keeps to the protocol. */
function decodeMessage(value: unknown): string {
  const text = value === undefined ? '' : String(value);
  try {
    return decodeURIComponent(text);
  } catch (error) {
    return `${text} (${messageOf(error)})`;
  }
}
