/** What the ttrpc tests share: a service of texts, a frame builder, a channel that records. */

import { after, before } from 'node:test';
import { Request, Response } from '../../../src/ttrpc/gen/ttrpc/ttrpc.js';
import {
  bodyOf,
  ClientConnection,
  type ClientConnectionOptions,
  createClient,
  encodeFrame,
  Flag,
  type FrameChannel,
  FrameType,
  type MessageType,
  Router,
  readHeader,
  ServerConnection,
  type ServerConnectionOptions,
  type ServiceClient,
  type ServiceHandlers,
} from '../../../src/ttrpc/index.js';

/** A message that is a text; bytes that are no UTF-8 cannot be decoded. */
export const Text: MessageType<string> = {
  encode: (message) => ({ finish: () => new TextEncoder().encode(message) }),
  decode: (bytes) => new TextDecoder('utf-8', { fatal: true }).decode(bytes),
};

const text = { requestType: Text, responseType: Text } as const;

export const EchoDefinition = {
  fullName: 'test.v1.Echo',
  methods: {
    unary: { ...text, name: 'Unary', requestStream: false, responseStream: false },
    down: { ...text, name: 'Down', requestStream: false, responseStream: true },
    up: { ...text, name: 'Up', requestStream: true, responseStream: false },
    both: { ...text, name: 'Both', requestStream: true, responseStream: true },
  },
} as const;

export type EchoHandlers = ServiceHandlers<typeof EchoDefinition>;

/** Handlers that answer with what they were sent; `down` letter by letter, `up` all in one. */
export const echo: EchoHandlers = {
  unary: (request) => request,
  async *down(request) {
    yield* request;
  },
  async up(requests) {
    let all = '';
    for await (const request of requests) all += request;
    return all;
  },
  async *both(requests) {
    for await (const request of requests) yield request;
  },
};

const utf8 = new TextEncoder();

export interface RequestInit {
  readonly service?: string;
  readonly flags?: number;
  readonly timeoutNano?: bigint;
  readonly metadata?: { key: string; value: string }[];
}

/** A request frame for a method of the echo service. */
export function request(
  streamId: number,
  method: string,
  payload: string | Uint8Array,
  init: RequestInit = {},
): Uint8Array {
  const body = Request.encode({
    service: init.service ?? EchoDefinition.fullName,
    method,
    payload: typeof payload === 'string' ? utf8.encode(payload) : payload,
    timeoutNano: init.timeoutNano ?? 0n,
    metadata: init.metadata ?? [],
  }).finish();
  return encodeFrame({ streamId, type: FrameType.Request, flags: init.flags ?? 0 }, body);
}

/** A data frame with a message. */
export function data(streamId: number, message: string | Uint8Array, flags = 0): Uint8Array {
  const body = typeof message === 'string' ? utf8.encode(message) : message;
  return encodeFrame({ streamId, type: FrameType.Data, flags }, body);
}

/** The data frame that ends a half of a stream. */
export function closing(streamId: number): Uint8Array {
  return encodeFrame({ streamId, type: FrameType.Data, flags: Flag.RemoteClosed | Flag.NoData });
}

export function response(streamId: number, payload: string): Uint8Array {
  const body = Response.encode({ status: undefined, payload: utf8.encode(payload) }).finish();
  return encodeFrame({ streamId, type: FrameType.Response, flags: 0 }, body);
}

export function failure(streamId: number, code: number, message: string): Uint8Array {
  const body = Response.encode({ status: { code, message, details: [] }, payload: new Uint8Array(0) }).finish();
  return encodeFrame({ streamId, type: FrameType.Response, flags: 0 }, body);
}

/** A frame in words: `1 reply "text"`, `1 error 5 "text"`, `1 data "text"`, `1 end`. */
export function describeFrame(frame: Uint8Array): string {
  const { streamId, type, flags, length } = readHeader(frame);
  const body = bodyOf(frame);
  if (length !== body.length) return `${streamId} has a wrong length`;
  if (type === FrameType.Response && flags === 0) {
    const { status, payload } = Response.decode(body);
    if (status === undefined) return `${streamId} reply ${JSON.stringify(Text.decode(payload))}`;
    return `${streamId} error ${status.code} ${JSON.stringify(status.message)}`;
  }
  if (type === FrameType.Data && flags === 0) return `${streamId} data ${JSON.stringify(Text.decode(body))}`;
  if (type === FrameType.Data && flags === (Flag.RemoteClosed | Flag.NoData) && length === 0) return `${streamId} end`;
  return `${streamId} type ${type} flags ${flags} length ${length}`;
}

/** Records what a connection does, and lets a test wait for it. */
export class RecordingChannel implements FrameChannel {
  /** Every frame sent, in words; ` #tag` follows where it finally answers a tagged frame. */
  readonly sent: string[] = [];
  readonly frames: Uint8Array[] = [];
  readonly releasedTags: number[] = [];
  readonly answeredTags: number[] = [];
  isClosed = false;
  isPaused = false;
  /** When set, send() returns this. */
  backlog: Promise<void> | undefined;
  #waiting: { readonly count: number; readonly resolve: () => void }[] = [];

  send(frame: Uint8Array, answers?: number): void | Promise<void> {
    this.frames.push(frame);
    this.sent.push(describeFrame(frame) + (answers === undefined ? '' : ` #${answers}`));
    if (answers !== undefined) this.answeredTags.push(answers);
    const ready = this.#waiting.filter(({ count }) => count <= this.sent.length);
    this.#waiting = this.#waiting.filter(({ count }) => count > this.sent.length);
    for (const { resolve } of ready) resolve();
    return this.backlog;
  }

  /** Resolves when this many frames have been sent in all. */
  async until(count: number): Promise<readonly string[]> {
    if (this.sent.length < count) await new Promise<void>((resolve) => this.#waiting.push({ count, resolve }));
    return this.sent;
  }

  close(): void {
    this.isClosed = true;
  }

  released(tag: number): void {
    this.releasedTags.push(tag);
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
  }
}

/** Lets everything that is already runnable run. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** In ascending order, for what may come in any. */
export function sorted<T extends string | number>(values: readonly T[]): T[] {
  return values.toSorted((a, b) => (a < b ? -1 : Number(a > b)));
}

/** A server of the echo service with these handlers, and what it sends. */
export function serve(
  handlers: Partial<EchoHandlers> = {},
  options: ServerConnectionOptions = {},
): { server: ServerConnection; channel: RecordingChannel } {
  const channel = new RecordingChannel();
  const router = new Router().add(EchoDefinition, { ...echo, ...handlers });
  return { server: new ServerConnection(router, channel, options), channel };
}

/** A client joined to a server without a socket. Frames arrive in later turns, in order. */
export function loopback(
  handlers: Partial<EchoHandlers> = {},
  options: { readonly client?: ClientConnectionOptions; readonly server?: ServerConnectionOptions } = {},
): { client: ClientConnection; server: ServerConnection; echoClient: ServiceClient<typeof EchoDefinition> } {
  const router = new Router().add(EchoDefinition, { ...echo, ...handlers });
  const server: ServerConnection = new ServerConnection(
    router,
    { send: (frame) => queueMicrotask(() => client.receive(frame)), close: () => client.end() },
    options.server,
  );
  const client: ClientConnection = new ClientConnection(
    { send: (frame) => queueMicrotask(() => server.receive(frame)), close: () => server.end() },
    options.client,
  );
  return { client, server, echoClient: createClient(EchoDefinition, client) };
}

/** All that an async iterable yields. */
export async function collect<T>(values: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const value of values) all.push(value);
  return all;
}

/** These values as an async iterable. */
export async function* stream<T>(...values: readonly T[]): AsyncGenerator<T> {
  yield* values;
}

/**
 * Keeps the process up while tests run that wait for nothing but the library's timers, which do
 * not.
 */
export function keepAlive(): void {
  let timer: NodeJS.Timeout | undefined;
  before(() => {
    timer = setInterval(() => undefined, 60_000);
  });
  after(() => clearInterval(timer));
}
