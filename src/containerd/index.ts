/**
 * A real containerd, asked over its gRPC API: what its collector would keep and remove, and why.
 */
export * from './collect.js';
export * from './daemon.js';
export * from './grpc.js';
export * from './reading.js';
