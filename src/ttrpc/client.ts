/** Typed clients: from a service's definition to functions that call its methods. */
import { Code, LaminaError, messageOf } from '../base/index.js';
import type { CallOptions } from './call-options.js';
import type { ClientCall, ClientConnection, StreamEvents } from './client-connection.js';
import { encodeTarget } from './envelope.js';
import { encodeFrame, Flag, FrameType, MAX_PAYLOAD } from './frame.js';
import { Inbox } from './inbox.js';
import { chain, type Payload } from './interceptor.js';
import { Metadata } from './metadata.js';
import type { MethodDefinition, ServiceClient, ServiceDefinition } from './service.js';
import { oversizedError, StatusError } from './status.js';

const EMPTY = new Uint8Array(0);
/** No protobuf message starts with this byte: it makes a handler's read fail. */
const UNDECODABLE = Uint8Array.of(0xff);

/** A method on a connection. */
interface Target {
  readonly connection: ClientConnection;
  readonly method: MethodDefinition;
  /** Service and method name, encoded. */
  readonly names: Uint8Array;
}

/**
 * A client for a service. Methods that answer with one message return a promise; those that stream
 * return an async iterable, which can be iterated once and starts the call when it is. Errors are
 * StatusError when the server sent them, else LaminaError: Unavailable (`ttrpc: closed`), Canceled,
 * DeadlineExceeded, ResourceExhausted, Internal.
 */
export function createClient<D extends ServiceDefinition>(
  definition: D,
  connection: ClientConnection,
): ServiceClient<D> {
  const client: Record<string, (request: unknown, options?: CallOptions) => unknown> = {};
  for (const [key, method] of Object.entries(definition.methods)) {
    const target: Target = { connection, method, names: encodeTarget(definition.fullName, method.name) };
    client[key] = (request, options) => {
      const call: ClientCall = {
        service: definition.fullName,
        method: method.name,
        metadata: options?.metadata === undefined ? undefined : Metadata.from(options.metadata),
        timeoutMs: options?.timeoutMs,
        signal: options?.signal,
      };
      return method.responseStream ? streamReply(target, request, call) : singleReply(target, request, call);
    };
  }
  // The loop above gives every key of `methods` the function that MethodCall describes; TypeScript
  // cannot follow that.
  return client as ServiceClient<D>;
}

async function intercepted(target: Target, request: unknown, call: ClientCall): Promise<Payload> {
  const { connection, method } = target;
  const invoke = chain<ClientCall>(connection.interceptors, async (payload, finalCall): Promise<Payload> => {
    const plain = payload.stream ? payload.messages : payload.message;
    if (method.responseStream) return { stream: true, messages: openStream(target, plain, finalCall) };
    return { stream: false, message: await callOnce(target, plain, finalCall) };
  });
  return invoke(
    method.requestStream
      ? { stream: true, messages: request as AsyncIterable<unknown> }
      : { stream: false, message: request },
    call,
  );
}

async function singleReply(target: Target, request: unknown, call: ClientCall): Promise<unknown> {
  if (target.connection.interceptors.length === 0) return callOnce(target, request, call);
  const reply = await intercepted(target, request, call);
  if (reply.stream) throw new LaminaError(Code.Internal, 'an interceptor returned a stream for a single message');
  return reply.message;
}

function streamReply(target: Target, request: unknown, call: ClientCall): AsyncIterable<unknown> {
  if (target.connection.interceptors.length === 0) return openStream(target, request, call);
  return {
    async *[Symbol.asyncIterator]() {
      const reply = await intercepted(target, request, call);
      if (!reply.stream) throw new LaminaError(Code.Internal, 'an interceptor returned a single message for a stream');
      yield* reply.messages;
    },
  };
}

function encode(method: MethodDefinition, message: unknown): Uint8Array {
  try {
    return method.requestType.encode(message).finish();
  } catch (error) {
    throw new LaminaError(Code.Internal, `ttrpc: error marshalling payload: ${messageOf(error)}`, { cause: error });
  }
}

function decode(method: MethodDefinition, body: Uint8Array): unknown {
  try {
    return method.responseType.decode(body);
  } catch (error) {
    throw new LaminaError(Code.Internal, `ttrpc: error unmarshalling payload: ${messageOf(error)}`, { cause: error });
  }
}

/** The caller's half of a stream. */
interface Outgoing {
  isClosed: boolean;
}

/** Sends the request, and starts to send what the caller streams. */
function start(target: Target, request: unknown, call: ClientCall, events: StreamEvents): number {
  const { connection, method, names } = target;
  if (!method.requestStream) {
    const flags = method.responseStream ? Flag.RemoteClosed : 0;
    return connection.open({ flags, target: names, payload: encode(method, request) }, call, events);
  }
  const outgoing: Outgoing = { isClosed: false };
  const streamId: number = connection.open({ flags: Flag.RemoteOpen, target: names, payload: EMPTY }, call, {
    ...events,
    onFail: (error) => {
      // Given up before all was said. ttrpc has no frame for that, and closing our half would make
      // what was sent look complete: so the server gets something that it cannot decode. An error
      // from the server has ended its side.
      if (!(error instanceof StatusError) && !outgoing.isClosed) {
        void connection.send(encodeFrame({ streamId, type: FrameType.Data, flags: 0 }, UNDECODABLE));
      }
      events.onFail(error);
    },
  });
  void sendAll(target, streamId, request as AsyncIterable<unknown>, outgoing);
  return streamId;
}

/** A call that is answered by one message. */
function callOnce(target: Target, request: unknown, call: ClientCall): Promise<unknown> {
  return new Promise((resolve, reject) => {
    start(target, request, call, {
      onReply: (payload) => {
        try {
          resolve(decode(target.method, payload));
        } catch (error) {
          reject(error);
        }
      },
      onFail: reject,
    });
  });
}

/** A call that is answered by a stream, started when it is iterated. */
function openStream(target: Target, request: unknown, call: ClientCall): AsyncIterable<unknown> {
  let isUsed = false;
  return {
    [Symbol.asyncIterator]: () => {
      if (isUsed) throw new LaminaError(Code.FailedPrecondition, 'a streaming call can be iterated once');
      isUsed = true;
      return startStream(target, request, call);
    },
  };
}

function startStream(target: Target, request: unknown, call: ClientCall): AsyncIterator<unknown> {
  const { connection, method } = target;
  const giveUp = (code: Code, message: string): void => {
    if (streamId !== undefined) connection.abandon(streamId, new LaminaError(code, message));
  };
  const inbox = new Inbox<unknown>({
    decode: (body) => decode(method, body),
    gate: connection.gate,
    stallTimeoutMs: connection.stallTimeoutMs,
    onStall: () => giveUp(Code.ResourceExhausted, 'ttrpc: stream buffer full'),
    onReturn: () => giveUp(Code.Canceled, 'call canceled'),
  });
  let streamId: number | undefined;
  try {
    streamId = start(target, request, call, {
      onData: (body) => {
        if (body === undefined) inbox.close();
        else inbox.push(body);
      },
      onReply: (payload) => {
        // A server may end a stream with a response instead of a data frame; what it carries is the
        // last message.
        if (payload.length > 0) inbox.push(payload);
        inbox.close();
      },
      // An error of the server comes after its data; one of the caller's own making (it gave up) at
      // once.
      onFail: (error) => {
        if (error instanceof StatusError || connection.isClosed) inbox.fail(error);
        else inbox.discard(error);
      },
    });
  } catch (error) {
    inbox.fail(error);
  }
  return inbox[Symbol.asyncIterator]();
}

/** Sends what the caller streams, no faster than the server takes it. */
async function sendAll(
  target: Target,
  streamId: number,
  messages: AsyncIterable<unknown>,
  outgoing: Outgoing,
): Promise<void> {
  const { connection, method } = target;
  try {
    const iterator = messages[Symbol.asyncIterator]();
    while (connection.isOpen(streamId)) {
      const { done, value } = await iterator.next();
      if (!connection.isOpen(streamId)) break;
      if (done === true) {
        outgoing.isClosed = true;
        const header = { streamId, type: FrameType.Data, flags: Flag.RemoteClosed | Flag.NoData };
        void connection.send(encodeFrame(header));
        return;
      }
      const body = encode(method, value);
      if (body.length > MAX_PAYLOAD) throw oversizedError(body.length, MAX_PAYLOAD);
      await connection.send(encodeFrame({ streamId, type: FrameType.Data, flags: 0 }, body));
    }
    await iterator.return?.();
  } catch (error) {
    // The source's own failure fails the call; after the call's end nobody is left to be told.
    connection.abandon(streamId, error);
  }
}
