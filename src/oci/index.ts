/** OCI bundles and runtimes: `lamina/oci`. */
export * from './builder.js';
export * from './bundle.js';
export * from './console.js';
export { parseJson, SpecError } from './json.js';
export * from './node-spawner.js';
export * from './options.js';
export * from './runc.js';
export type { CheckpointArgs, CreateArgs, ExecArgs, RestoreArgs } from './runc-args.js';
export { RuncError, type RuncErrorOptions } from './runc-error.js';
export * from './runc-log.js';
export { type RuntimeKind, runtimeKindOf } from './runtime-kind.js';
export type * from './spawner.js';
export type * from './spec.js';
export * from './validate.js';
