/**
 * What a service is to this library, and the types of its handlers and clients, derived from it.
 *
 * ts-proto's output with `outputServices=generic-definitions` fits as it is; anything of the same
 * shape does.
 */

import type { CallOptions } from './call-options.js';
import type { CallContext } from './context.js';

/** Encodes and decodes one kind of message. */
export interface MessageType<T> {
  encode(message: T): { finish(): Uint8Array };
  /** Throws when the bytes are no such message. */
  decode(bytes: Uint8Array): T;
}

export interface MethodDefinition<I = unknown, O = unknown> {
  /** As on the wire: "CloseIO". */
  readonly name: string;
  readonly requestType: MessageType<I>;
  /** The client sends any number of messages. */
  readonly requestStream: boolean;
  readonly responseType: MessageType<O>;
  /** The server sends any number of messages. */
  readonly responseStream: boolean;
}

export interface ServiceDefinition {
  /** With its package: "containerd.task.v2.Task". */
  readonly fullName: string;
  /** Name in code ("closeIO") → method. */
  readonly methods: Readonly<Record<string, MethodDefinition>>;
}

/** The message a method's client sends. */
export type RequestOf<M> = M extends { readonly requestType: MessageType<infer T> } ? T : never;
/** The message a method's server sends. */
export type ResponseOf<M> = M extends { readonly responseType: MessageType<infer T> } ? T : never;

type Awaitable<T> = T | Promise<T>;

type In<M> = M extends { readonly requestStream: false } ? RequestOf<M> : AsyncIterable<RequestOf<M>>;

/** The function that serves a method; its shape follows from which sides stream. */
export type MethodHandler<M> = (
  request: In<M>,
  context: CallContext,
) => M extends { readonly responseStream: false } ? Awaitable<ResponseOf<M>> : AsyncIterable<ResponseOf<M>>;

/** One handler per method: a missing, misspelt or wrongly typed one does not compile. */
export type ServiceHandlers<D extends ServiceDefinition> = {
  readonly [K in keyof D['methods']]: MethodHandler<D['methods'][K]>;
};

/** The function that calls a method. */
export type MethodCall<M> = (
  request: In<M>,
  options?: CallOptions,
) => M extends { readonly responseStream: false } ? Promise<ResponseOf<M>> : AsyncIterable<ResponseOf<M>>;

/** One function per method. */
export type ServiceClient<D extends ServiceDefinition> = {
  readonly [K in keyof D['methods']]: MethodCall<D['methods'][K]>;
};
