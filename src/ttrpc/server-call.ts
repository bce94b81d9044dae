/**
 * One call as its server sees it, and what needs no more than the call: calling its handler, and
 * the frames that answer it.
 */
import { Code, LaminaError, messageOf } from '../base/index.js';
import type { CallContext, ServerContext } from './context.js';
import { encodeFailure, encodeReply } from './envelope.js';
import { encodeFrame, Flag, FrameType, HEADER_LENGTH, MAX_PAYLOAD } from './frame.js';
import type { Inbox } from './inbox.js';
import { chain, type Interceptor, type Payload } from './interceptor.js';
import type { Route } from './router.js';
import { oversizedError, toStatus } from './status.js';

export interface Call {
  readonly streamId: number;
  /** Tag of the request frame. */
  readonly tag: number | undefined;
  readonly route: Route;
  readonly context: ServerContext;
  /** What the client streams; undefined when it sends a single message. */
  readonly inbox: Inbox<unknown> | undefined;
  isSettled: boolean;
}

/** How much of an error message is kept when it does not fit a frame. */
const MESSAGE_TAIL = 64 * 1024;

/** What the log says of a call. */
export function describe(call: Call): { service: string; method: string; streamId: number } {
  return { service: call.route.service, method: call.route.method.name, streamId: call.streamId };
}

/** The request message of a call. @throws {LaminaError} Internal */
export function decodeMessage({ method }: Route, body: Uint8Array): unknown {
  try {
    return method.requestType.decode(body);
  } catch (error) {
    throw new LaminaError(Code.Internal, `ttrpc: error unmarshalling payload: ${messageOf(error)}`, { cause: error });
  }
}

/** Calls the handler through interceptors. */
export async function intercept(
  interceptors: readonly Interceptor<CallContext>[],
  { route: { method, handle }, context }: Call,
  request: unknown,
): Promise<unknown> {
  const invoke = chain<CallContext>(interceptors, async (payload, context): Promise<Payload> => {
    const result = handle(payload.stream ? payload.messages : payload.message, context);
    if (!method.responseStream) return { stream: false, message: await result };
    return { stream: true, messages: requireIterable(result) };
  });
  const payload: Payload = method.requestStream
    ? { stream: true, messages: requireIterable(request) }
    : { stream: false, message: request };
  const reply = await invoke(payload, context);
  return reply.stream ? reply.messages : reply.message;
}

/** @throws {LaminaError} Unknown for what is no stream */
export function requireIterable(value: unknown): AsyncIterable<unknown> {
  if (isAsyncIterable(value)) return value;
  throw new LaminaError(Code.Unknown, 'ttrpc: marshal called with nil');
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value;
}

/** The only message of a reply. @throws {LaminaError} what the peer is to be told */
export function replyFrame(call: Call, message: unknown): Uint8Array {
  const frame = encodeReply(call.streamId, encodeMessage(call, message));
  const length = frame.length - HEADER_LENGTH;
  if (length > MAX_PAYLOAD) throw oversizedError(length, MAX_PAYLOAD);
  return frame;
}

/** A message of a streamed reply. @throws {LaminaError} what the peer is to be told */
export function dataFrame(call: Call, message: unknown): Uint8Array {
  const body = encodeMessage(call, message);
  return encodeFrame({ streamId: call.streamId, type: FrameType.Data, flags: 0 }, body);
}

/** The end of a streamed reply. */
export function endFrame({ streamId }: Call): Uint8Array {
  return encodeFrame({ streamId, type: FrameType.Data, flags: Flag.RemoteClosed | Flag.NoData });
}

/** An error as the answer. */
export function failureFrame(streamId: number, error: unknown): Uint8Array {
  const status = toStatus(error);
  const frame = encodeFailure(streamId, status);
  if (frame.length - HEADER_LENGTH <= MAX_PAYLOAD) return frame;
  // The end of a long text is where a wrapped error says what happened.
  return encodeFailure(streamId, { code: status.code, message: status.message.slice(-MESSAGE_TAIL), details: [] });
}

function encodeMessage(call: Call, message: unknown): Uint8Array {
  if (message === undefined || message === null) {
    throw new LaminaError(Code.Unknown, 'ttrpc: marshal called with nil');
  }
  let body: Uint8Array;
  try {
    body = call.route.method.responseType.encode(message).finish();
  } catch (error) {
    throw new LaminaError(Code.Internal, `ttrpc: error marshalling payload: ${messageOf(error)}`, { cause: error });
  }
  if (body.length > MAX_PAYLOAD) throw oversizedError(body.length, MAX_PAYLOAD);
  return body;
}
