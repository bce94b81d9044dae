/** OCI bundles and runtimes: `lamina/oci`. */
export * from './bundle.js';
export * from './node-spawner.js';
export * from './runc.js';
export type { CheckpointArgs, CreateArgs, ExecArgs, RestoreArgs } from './runc-args.js';
export * from './runc-error.js';
export * from './runc-log.js';
export { type RuntimeKind, runtimeKindOf } from './runtime-kind.js';
export type * from './spawner.js';
export type * from './spec.js';
