/**
 * The client's side of one connection, independent of sockets.
 *
 * INVARIANTS: a stream is in #streams from its request until its outcome is known or its caller
 * gave up; stream ids are odd, rise in the order in which requests are sent, and are never used
 * twice; after end() nothing is sent.
 */
import { Code, LaminaError, type Logger, messageOf, silentLogger } from '../base/index.js';
import { type FrameChannel, PauseGate } from './channel.js';
import { startDeadline } from './deadline.js';
import { encodeRequest, setStreamId } from './envelope.js';
import { bodyOf, Flag, FrameType, HEADER_LENGTH, MAX_PAYLOAD, readHeader } from './frame.js';
import { Response } from './gen/ttrpc/ttrpc.js';
import type { Interceptor } from './interceptor.js';
import type { Metadata } from './metadata.js';
import { abortError, closedError, fromStatus, oversizedError } from './status.js';

/** What is known of a call, and may be changed by an interceptor through `next`. */
export interface ClientCall {
  readonly service: string;
  readonly method: string;
  readonly metadata: Metadata | undefined;
  readonly timeoutMs: number | undefined;
  readonly signal: AbortSignal | undefined;
}

export interface ClientConnectionOptions {
  /** Around every call; the first is the outermost. */
  readonly interceptors?: readonly Interceptor<ClientCall>[];
  /** Called once when the connection is over, whoever ended it; with the error if there was one. */
  readonly onClose?: (error: unknown) => void;
  /**
   * How long a reader may leave a full receive buffer untouched before its stream fails. Default
   * 1000.
   */
  readonly stallTimeoutMs?: number;
  /**
   * The id of the first stream: odd. Default 1; for a connection that was used before by someone
   * else.
   */
  readonly firstStreamId?: number;
  readonly log?: Logger;
}

/** What a stream's owner is told. `onReply` and `onFail` are final. */
export interface StreamEvents {
  /** The response without an error; its payload. */
  onReply(payload: Uint8Array): void;
  onFail(error: unknown): void;
  /**
   * The server streams. Absent where it must not. `undefined` says that nothing more will come, and
   * is final.
   */
  readonly onData?: (body: Uint8Array | undefined) => void;
}

interface Stream {
  readonly events: StreamEvents;
  /** Stops timer and listener. */
  readonly forget: () => void;
}

const MAX_STREAM_ID = 0xffffffff;
const MAX_TIMEOUT_NANO = 2 ** 63 - 1024;
const DEFAULT_STALL_TIMEOUT_MS = 1000;

export class ClientConnection {
  readonly interceptors: readonly Interceptor<ClientCall>[];
  readonly stallTimeoutMs: number;
  /** Pauses reading while a stream's buffer is full. */
  readonly gate: PauseGate;
  readonly #channel: FrameChannel;
  readonly #onClose: ((error: unknown) => void) | undefined;
  readonly #log: Logger;
  /** Stream id → stream, removed when its outcome is known or its caller gave up. */
  readonly #streams = new Map<number, Stream>();
  #nextStreamId: number;
  #isEnded = false;

  constructor(channel: FrameChannel, options: ClientConnectionOptions = {}) {
    this.#channel = channel;
    this.gate = new PauseGate(channel);
    this.interceptors = options.interceptors ?? [];
    this.stallTimeoutMs = options.stallTimeoutMs ?? DEFAULT_STALL_TIMEOUT_MS;
    this.#onClose = options.onClose;
    this.#nextStreamId = options.firstStreamId ?? 1;
    this.#log = options.log ?? silentLogger;
  }

  get isClosed(): boolean {
    return this.#isEnded;
  }

  /** Calls whose outcome is open. */
  get openStreams(): number {
    return this.#streams.size;
  }

  /**
   * Takes one whole frame, header included; of an oversized one the header alone. Never throws,
   * whatever the bytes.
   */
  receive(frame: Uint8Array): void {
    if (this.#isEnded || frame.length < HEADER_LENGTH) return;
    const header = readHeader(frame);
    const stream = this.#streams.get(header.streamId);
    if (stream === undefined) {
      this.#log.debug({ streamId: header.streamId, type: header.type }, 'ttrpc: received message on inactive stream');
    } else if (header.length > MAX_PAYLOAD) {
      this.#settle(header.streamId)?.onFail(oversizedError(header.length, MAX_PAYLOAD));
    } else if (header.type === FrameType.Response) {
      this.#onResponse(header.streamId, bodyOf(frame));
    } else if (header.type === FrameType.Data) {
      this.#onData(header.streamId, stream.events, header.flags, bodyOf(frame));
    }
  }

  /** The connection is gone: every pending call fails with `ttrpc: closed`. */
  end(error?: unknown): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    const streams = [...this.#streams.values()];
    this.#streams.clear();
    for (const { events, forget } of streams) {
      forget();
      events.onFail(closedError(error));
    }
    this.#onClose?.(error);
  }

  /** Ends the connection; pending calls fail. */
  close(): void {
    this.end();
    this.#channel.close();
  }

  /**
   * Sends a request and registers for its answer.
   * @returns the stream's id
   * @throws {LaminaError} before anything is sent: ResourceExhausted (too large), Canceled or
   *   DeadlineExceeded (given up already), Unavailable (connection closed, or its ids are used up)
   */
  open(
    request: { readonly flags: number; readonly target: Uint8Array; readonly payload: Uint8Array },
    call: ClientCall,
    events: StreamEvents,
  ): number {
    if (call.signal?.aborted === true) throw abortError(call.signal.reason);
    if (call.timeoutMs !== undefined && !(call.timeoutMs > 0)) throw deadlineError();
    if (this.#isEnded) throw closedError();
    const streamId = this.#nextStreamId;
    if (streamId > MAX_STREAM_ID) {
      throw new LaminaError(Code.Unavailable, 'ttrpc: stream ids of this connection are used up');
    }
    const timeoutNano = (call.timeoutMs ?? Number.POSITIVE_INFINITY) * 1e6;
    const frame = encodeRequest(request.flags, {
      target: request.target,
      payload: request.payload,
      timeoutNano: timeoutNano < MAX_TIMEOUT_NANO ? BigInt(Math.ceil(timeoutNano)) : 0n,
      metadata: call.metadata,
    });
    const length = frame.length - HEADER_LENGTH;
    if (length > MAX_PAYLOAD) throw oversizedError(length, MAX_PAYLOAD);

    this.#nextStreamId += 2;
    setStreamId(frame, streamId);
    this.#streams.set(streamId, { events, forget: this.#watch(streamId, call) });
    void this.send(frame);
    return streamId;
  }

  /** True until the stream's outcome is known or its caller gave up. */
  isOpen(streamId: number): boolean {
    return this.#streams.has(streamId);
  }

  /** Gives a stream up: whatever still comes for it is dropped, and `onFail` is called. */
  abandon(streamId: number, error: unknown): void {
    this.#settle(streamId)?.onFail(error);
  }

  /** Sends a frame; what is returned resolves when the peer has room for more. Never throws. */
  send(frame: Uint8Array): Promise<void> | undefined {
    if (this.#isEnded) return undefined;
    try {
      const sent = this.#channel.send(frame);
      return sent?.catch((error: unknown) => this.#lose(error));
    } catch (error) {
      this.#lose(error);
      return undefined;
    }
  }

  #lose(error: unknown): void {
    if (this.#isEnded) return;
    this.end(error);
    this.#channel.close();
  }

  /** Fails the stream when its caller's signal or deadline says so. */
  #watch(streamId: number, { signal, timeoutMs }: ClientCall): () => void {
    const onAbort = (): void => this.abandon(streamId, abortError(signal?.reason));
    signal?.addEventListener('abort', onAbort, { once: true });
    const hasLimit = timeoutMs !== undefined && timeoutMs < Number.POSITIVE_INFINITY;
    const stop = hasLimit ? startDeadline(timeoutMs, () => this.abandon(streamId, deadlineError())) : undefined;
    return () => {
      signal?.removeEventListener('abort', onAbort);
      stop?.();
    };
  }

  #settle(streamId: number): StreamEvents | undefined {
    const stream = this.#streams.get(streamId);
    this.#streams.delete(streamId);
    stream?.forget();
    return stream?.events;
  }

  #onResponse(streamId: number, body: Uint8Array): void {
    const events = this.#settle(streamId);
    let response: Response;
    try {
      response = Response.decode(body);
    } catch (error) {
      events?.onFail(
        new LaminaError(Code.Internal, `ttrpc: error unmarshalling response: ${messageOf(error)}`, { cause: error }),
      );
      return;
    }
    if (response.status !== undefined && response.status.code !== Code.Ok) events?.onFail(fromStatus(response.status));
    else events?.onReply(response.payload);
  }

  #onData(streamId: number, events: StreamEvents, flags: number, body: Uint8Array): void {
    if (events.onData === undefined) {
      this.abandon(streamId, new LaminaError(Code.Internal, 'received data from non-streaming server'));
      return;
    }
    if ((flags & Flag.NoData) === 0) events.onData(body);
    if ((flags & Flag.RemoteClosed) !== 0) this.#settle(streamId)?.onData?.(undefined);
  }
}

function deadlineError(): LaminaError {
  return new LaminaError(Code.DeadlineExceeded, 'context deadline exceeded');
}
