/**
 * The server's side of one connection, independent of sockets: frames come in through receive(), go
 * out through a FrameChannel.
 *
 * INVARIANTS: a stream is in #calls from its request until its final frame is sent, and gets
 * exactly one; a call that is settled sends nothing more, whatever its handler still does; after
 * end() nothing is sent at all. They hold between all parts of the class, which is why it is one
 * file, over the usual length.
 */
import { Code, LaminaError, type Logger, messageOf, silentLogger } from '../base/index.js';
import { type FrameChannel, PauseGate } from './channel.js';
import { type CallContext, ServerContext } from './context.js';
import { bodyOf, Flag, type FrameHeader, FrameType, HEADER_LENGTH, MAX_PAYLOAD, readHeader } from './frame.js';
import { Request } from './gen/ttrpc/ttrpc.js';
import { Inbox } from './inbox.js';
import type { Interceptor } from './interceptor.js';
import type { Route, Router } from './router.js';
import {
  type Call,
  dataFrame,
  decodeMessage,
  describe,
  endFrame,
  failureFrame,
  intercept,
  replyFrame,
  requireIterable,
} from './server-call.js';
import { closedError, oversizedError, toStatus } from './status.js';

export interface ServerConnectionOptions {
  /** Around every call; the first is the outermost. */
  readonly interceptors?: readonly Interceptor<CallContext>[];
  /**
   * How long a streaming handler may leave a full receive buffer untouched before its stream fails.
   * Default 1000.
   */
  readonly stallTimeoutMs?: number;
  /** Gets failed calls and protocol violations, with causes. Default: nothing is logged. */
  readonly log?: Logger;
}

export interface ConnectionStats {
  /** Streams not answered yet. */
  readonly streams: number;
  /**
   * Handlers that have not returned; more than `streams` while some outlive their call's deadline.
   */
  readonly handlers: number;
  /** Received stream messages nobody has read yet, and their size. */
  readonly queuedMessages: number;
  readonly queuedBytes: number;
}

const DEFAULT_STALL_TIMEOUT_MS = 1000;

function invalid(message: string): LaminaError {
  return new LaminaError(Code.InvalidArgument, message);
}

export class ServerConnection {
  readonly #router: Router;
  readonly #channel: FrameChannel;
  readonly #gate: PauseGate;
  readonly #interceptors: readonly Interceptor<CallContext>[];
  readonly #stallTimeoutMs: number;
  readonly #log: Logger;
  /** Stream id → call, removed when it is settled. */
  readonly #calls = new Map<number, Call>();
  #state: 'open' | 'draining' | 'ended' = 'open';
  #lastStreamId = 0;
  #handlers = 0;
  #unsent = 0;
  #onIdle: (() => void)[] = [];

  constructor(router: Router, channel: FrameChannel, options: ServerConnectionOptions = {}) {
    this.#router = router;
    this.#channel = channel;
    this.#gate = new PauseGate(channel);
    this.#interceptors = options.interceptors ?? [];
    this.#stallTimeoutMs = options.stallTimeoutMs ?? DEFAULT_STALL_TIMEOUT_MS;
    this.#log = options.log ?? silentLogger;
  }

  /**
   * Takes one whole frame, header included; of an oversized one the header alone. Never throws,
   * whatever the bytes.
   * @param tag the caller's name for this frame, given back through the channel's `send` or
   *   `released`
   */
  receive(frame: Uint8Array, tag?: number): void {
    if (this.#state === 'ended') return;
    if (frame.length < HEADER_LENGTH) {
      this.#release(tag);
      return;
    }
    const header = readHeader(frame);
    if (header.length > MAX_PAYLOAD) this.#onOversized(header, tag);
    else if (header.length !== frame.length - HEADER_LENGTH)
      this.#reject(header, tag, 'frame length does not match its header');
    else if (header.streamId % 2 === 0) this.#reject(header, tag, 'StreamID must be odd for client initiated streams');
    else if (header.type === FrameType.Request) this.#onRequest(header, bodyOf(frame), tag);
    else if (header.type === FrameType.Data) this.#onData(header, bodyOf(frame), tag);
    else this.#release(tag);
  }

  /** The peer is gone: aborts all calls. Nothing is sent or released after this. */
  end(cause?: unknown): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    const error = closedError(cause);
    for (const call of calls) {
      call.isSettled = true;
      call.context.abort(error);
      call.inbox?.discard(error);
    }
    this.#checkIdle();
  }

  /** Takes no more requests (they get Unavailable); resolves when all handlers have returned. */
  drain(): Promise<void> {
    if (this.#state === 'open') this.#state = 'draining';
    return new Promise((resolve) => {
      this.#onIdle.push(resolve);
      this.#checkIdle();
    });
  }

  /** Aborts all calls and closes the channel. */
  close(): void {
    this.end();
    this.#channel.close();
  }

  stats(): ConnectionStats {
    let queuedMessages = 0;
    let queuedBytes = 0;
    for (const { inbox } of this.#calls.values()) {
      queuedMessages += inbox?.messages ?? 0;
      queuedBytes += inbox?.bytes ?? 0;
    }
    return { streams: this.#calls.size, handlers: this.#handlers, queuedMessages, queuedBytes };
  }

  #onOversized(header: FrameHeader, tag: number | undefined): void {
    const error = oversizedError(header.length, MAX_PAYLOAD);
    const call = header.type === FrameType.Data ? this.#calls.get(header.streamId) : undefined;
    if (call === undefined) {
      this.#reject(header, tag, error);
    } else {
      this.#release(tag);
      this.#abort(call, error);
    }
  }

  #onRequest(header: FrameHeader, body: Uint8Array, tag: number | undefined): void {
    const { streamId } = header;
    if (streamId <= this.#lastStreamId) {
      this.#reject(header, tag, 'StreamID cannot be re-used and must increment');
      return;
    }
    this.#lastStreamId = streamId;
    if (this.#state !== 'open') {
      this.#reject(header, tag, new LaminaError(Code.Unavailable, 'ttrpc: server is shutting down'));
      return;
    }
    let request: Request;
    try {
      request = Request.decode(body);
    } catch (error) {
      this.#reject(header, tag, `unmarshal request error: ${messageOf(error)}`);
      return;
    }
    let route: Route;
    try {
      route = this.#router.find(request.service, request.method);
    } catch (error) {
      this.#reject(header, tag, error);
      return;
    }
    this.#start(header, request, route, tag);
  }

  #start(header: FrameHeader, request: Request, route: Route, tag: number | undefined): void {
    const { method } = route;
    const timeoutMs = request.timeoutNano > 0n ? Number(request.timeoutNano) / 1e6 : undefined;
    const context = new ServerContext(request, timeoutMs, () => {
      this.#abort(call, new LaminaError(Code.DeadlineExceeded, 'context deadline exceeded'));
    });
    const inbox = method.requestStream ? this.#createInbox(route, () => call) : undefined;
    const call: Call = { streamId: header.streamId, tag, route, context, inbox, isSettled: false };
    this.#calls.set(call.streamId, call);

    if (inbox !== undefined) {
      // A client that streams may send its first message with the request. An empty payload is
      // none, as in Go.
      if (request.payload.length > 0) inbox.push(request.payload);
      // Without the flag there will be no data: a unary caller, or one with nothing more to say.
      if ((header.flags & Flag.RemoteOpen) === 0) inbox.close();
      this.#run(call, inbox);
      return;
    }
    let message: unknown;
    try {
      message = decodeMessage(route, request.payload);
    } catch (error) {
      this.#fail(call, error);
      return;
    }
    this.#run(call, message);
  }

  #createInbox(route: Route, call: () => Call): Inbox<unknown> {
    return new Inbox<unknown>({
      decode: (body) => decodeMessage(route, body),
      gate: this.#gate,
      stallTimeoutMs: this.#stallTimeoutMs,
      onStall: () => {
        this.#abort(call(), new LaminaError(Code.ResourceExhausted, 'ttrpc: stream buffer full'));
      },
      onRelease: (tag) => this.#release(tag),
    });
  }

  #onData(header: FrameHeader, body: Uint8Array, tag: number | undefined): void {
    const call = this.#calls.get(header.streamId);
    if (call === undefined) {
      this.#reject(header, tag, 'StreamID is no longer active');
      return;
    }
    const { inbox } = call;
    const { requestStream, responseStream } = call.route.method;
    if (!requestStream && !responseStream) {
      this.#release(tag);
      this.#abort(call, invalid('data is not allowed on a unary stream'));
      return;
    }
    if ((header.flags & Flag.NoData) !== 0) {
      this.#release(tag);
    } else if (inbox?.isOpen !== true) {
      this.#release(tag);
      this.#abort(call, invalid('data handling error: ttrpc: stream closed'));
      return;
    } else {
      inbox.push(body, tag);
    }
    if ((header.flags & Flag.RemoteClosed) !== 0) {
      inbox?.close();
      if (body.length > 0) this.#abort(call, invalid('data close message cannot include data'));
    }
  }

  /** Calls the handler and sends what it returns. */
  #run(call: Call, request: unknown): void {
    const { method } = call.route;
    this.#handlers += 1;
    let result: unknown;
    try {
      result =
        this.#interceptors.length === 0
          ? call.route.handle(request, call.context)
          : intercept(this.#interceptors, call, request);
    } catch (error) {
      this.#fail(call, error);
      this.#returned();
      return;
    }
    if (method.responseStream) {
      void this.#pump(call, result);
    } else if (result instanceof Promise) {
      result.then(
        (message) => {
          this.#reply(call, message);
          this.#returned();
        },
        (error) => {
          this.#fail(call, error);
          this.#returned();
        },
      );
    } else {
      this.#reply(call, result);
      this.#returned();
    }
  }

  /** Sends a streamed reply, no faster than the peer takes it. */
  async #pump(call: Call, result: unknown): Promise<void> {
    let messages: AsyncIterator<unknown> | undefined;
    try {
      const iterator = requireIterable(await result)[Symbol.asyncIterator]();
      messages = iterator;
      while (!call.isSettled) {
        const { done, value } = await iterator.next();
        if (done === true) {
          messages = undefined;
          this.#settle(call, endFrame(call));
        } else if (!call.isSettled) {
          await this.#transmit(dataFrame(call, value));
        }
      }
    } catch (error) {
      this.#fail(call, error);
    }
    try {
      // The call ended before the handler did: let its `finally` blocks run.
      await messages?.return?.();
    } catch (error) {
      this.#log.debug({ ...describe(call), error }, 'handler failed after its call had ended');
    }
    this.#returned();
  }

  #reply(call: Call, message: unknown): void {
    if (call.isSettled) return;
    try {
      this.#settle(call, replyFrame(call, message));
    } catch (error) {
      this.#fail(call, error);
    }
  }

  /** Ends a call on our own account, while its handler may still run. */
  #abort(call: Call, error: LaminaError): void {
    this.#fail(call, error);
    call.context.abort(error);
  }

  #fail(call: Call, error: unknown): void {
    if (call.isSettled) return;
    const status = toStatus(error);
    const cause = error instanceof Error ? error.cause : undefined;
    const isOurs = status.code === Code.Unknown || status.code === Code.Internal;
    this.#log[isOurs ? 'warn' : 'debug']({ ...describe(call), code: status.code, error, cause }, 'call failed');
    this.#settle(call, failureFrame(call.streamId, error), error);
  }

  /** Sends a call's final frame. */
  #settle(call: Call, frame: Uint8Array, reason?: unknown): void {
    if (call.isSettled) return;
    call.isSettled = true;
    this.#calls.delete(call.streamId);
    call.context.settle();
    // Errors are dear, because of their stacks: the usual call, which has no inbox, must not make
    // one.
    call.inbox?.discard(reason ?? closedError());
    void this.#transmit(frame, call.tag, reason === undefined && call.context.reusable);
  }

  /** Answers a frame that belongs to no call. */
  #reject(header: FrameHeader, tag: number | undefined, problem: unknown): void {
    const error = typeof problem === 'string' ? invalid(problem) : problem;
    this.#log.debug({ streamId: header.streamId, type: header.type, error }, 'frame refused');
    void this.#transmit(failureFrame(header.streamId, error), tag);
  }

  /** Sends a frame; what is returned resolves when the peer has room for more. Never throws. */
  #transmit(frame: Uint8Array, answers?: number, reusable = false): Promise<void> | undefined {
    if (this.#state === 'ended') return undefined;
    try {
      const sent = this.#channel.send(frame, answers, reusable);
      return sent === undefined ? undefined : this.#waitForPeer(sent);
    } catch (error) {
      this.#lose(error);
      return undefined;
    }
  }

  async #waitForPeer(sent: Promise<void>): Promise<void> {
    this.#unsent += 1;
    // A peer that does not read its replies gets no more requests in, so that they cannot pile up
    // here.
    if (this.#unsent === 1) this.#gate.hold();
    try {
      await sent;
    } catch (error) {
      this.#lose(error);
    }
    this.#unsent -= 1;
    if (this.#unsent === 0) this.#gate.release();
  }

  #lose(error: unknown): void {
    if (this.#state === 'ended') return;
    this.#log.debug({ error }, 'connection lost');
    this.end(error);
    this.#channel.close();
  }

  #release(tag: number | undefined): void {
    if (tag !== undefined && this.#state !== 'ended') this.#channel.released?.(tag);
  }

  #returned(): void {
    this.#handlers -= 1;
    this.#checkIdle();
  }

  #checkIdle(): void {
    if (this.#handlers > 0 || this.#state === 'open') return;
    const waiting = this.#onIdle;
    this.#onIdle = [];
    for (const resolve of waiting) resolve();
  }
}
