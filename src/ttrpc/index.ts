/**
 * ttrpc, the protocol between containerd and its shims: servers and clients, unary and streaming
 * calls, over sockets or over anything that carries frames. Knows nothing of containerd.
 * docs/ttrpc.md is the guide.
 */
/** The errors handlers throw and callers catch. */
export { Code, LaminaError } from '../base/index.js';
export type { CallOptions } from './call-options.js';
export type { FrameChannel } from './channel.js';
export { createClient } from './client.js';
export { type ClientCall, ClientConnection, type ClientConnectionOptions } from './client-connection.js';
export type { CallContext } from './context.js';
export {
  bodyOf,
  encodeFrame,
  Flag,
  FrameDecoder,
  type FrameHeader,
  FrameType,
  HEADER_LENGTH,
  MAX_PAYLOAD,
  readHeader,
} from './frame.js';
export type { Interceptor, Payload } from './interceptor.js';
export { Metadata, type MetadataInit } from './metadata.js';
export { Router } from './router.js';
export { Server } from './server.js';
export { type ConnectionStats, ServerConnection, type ServerConnectionOptions } from './server-connection.js';
export type {
  MessageType,
  MethodCall,
  MethodDefinition,
  MethodHandler,
  RequestOf,
  ResponseOf,
  ServiceClient,
  ServiceDefinition,
  ServiceHandlers,
} from './service.js';
export { attachSocket, connect, type SocketAddress } from './socket.js';
export { type Any, fromStatus, type Status, StatusError, toStatus } from './status.js';
