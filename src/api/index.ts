/**
 * containerd's messages and services, generated from proto/containerd.
 *
 * One namespace per proto package, because names repeat (Options, Metrics, Status). `u64` and `i64`
 * are bigint, bytes are Uint8Array (views into what was decoded), enums are const objects of
 * numbers, an absent message is undefined.
 */
export * from './any.js';
/** `start`'s input and output since containerd 2.3. */
export * as bootstrap from './gen/containerd/bootstrap.js';
/** Events about tasks; TaskExit and the like. */
export * as events from './gen/containerd/events.js';
/** The daemon's service that takes events: EventsDefinition, ForwardRequest. */
export * as forward from './gen/containerd/forward.js';
/** Lamina's own service: who serves a keeper. */
export * as lamina from './gen/containerd/lamina.js';
/** Stats of cgroup v1. */
export * as cgroupsV1 from './gen/containerd/metrics_v1.js';
/** Stats of cgroup v2. */
export * as cgroupsV2 from './gen/containerd/metrics_v2.js';
export { Process, ProcessInfo, Status } from './gen/containerd/process.js';
/** Options, CheckpointOptions and ProcessDetails of runc-like runtimes. */
export * as runc from './gen/containerd/runc.js';
/** Options for runtimes the sender knows nothing about. */
export * as runtimeOptions from './gen/containerd/runtimeoptions.js';
/** The optional sandbox service. */
export * as sandbox from './gen/containerd/sandbox.js';
/** The shim's service as containerd 1.6 and 1.7 call it. */
export * as taskV2 from './gen/containerd/task_v2.js';
/** The shim's service as containerd 2.0 and later call it. */
export * as taskV3 from './gen/containerd/task_v3.js';
export {
  Envelope,
  Metric,
  Mount,
  Platform,
  RuntimeInfo,
  RuntimeRequest,
  RuntimeVersion,
} from './gen/containerd/types.js';
export { Any } from './gen/google/protobuf/any.js';
export { Empty } from './gen/google/protobuf/empty.js';
export { Timestamp } from './gen/google/protobuf/timestamp.js';
