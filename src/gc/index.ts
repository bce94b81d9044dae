/** What may be removed and why: containerd's garbage collection as a library. */
export { parseDuration } from '../base/index.js';
export * from './collector.js';
export * from './explain.js';
export { type Graph, GraphBuilder, type Origin, type Step } from './graph.js';
export * from './labels.js';
export type { Marking } from './marking.js';
export * from './metadata.js';
export * from './order.js';
export * from './resource.js';
export * from './scan.js';
export * from './schedule.js';
export { parseTime } from './time.js';
