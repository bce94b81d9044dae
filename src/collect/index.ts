/** What may be removed and why, and removing it: `lamina/gc`. */
export * from '../gc/index.js';
export { identityOf, isGone, type ProcessIdentity } from '../sys/process-identity.js';
export { type CollectAfterOptions, collectAfter, summary } from './after-command.js';
export { type CollectOptions, collect } from './collect.js';
export { type CollectorLimits, DEFAULT_LIMITS } from './collector-round.js';
export { type DiskUsage, diskUsage, type OwnerUsage } from './disk-usage.js';
export { type Facts, type Form, type Marked, markFacts } from './facts.js';
export { Housekeeper, type HousekeeperOptions } from './housekeeper.js';
export { type Clock, Loop, type LoopOptions } from './loop.js';
export { type GcMetrics, METRICS } from './metrics.js';
export {
  type Applied,
  apply,
  type ChangedItem,
  findPlan,
  type Plan,
  PlanChanged,
  type PlanOptions,
  plan,
} from './plan.js';
export { type PlanBytes, type PlanItem, type PlanItems, planItems, planLines } from './plan-items.js';
export type { ReadingOptions } from './reading.js';
export type { CollectionResult, Failure, Phase, TypeCounts } from './result.js';
export type { CollectStore, CollectTransaction, CollectView } from './store.js';
export {
  DEFAULT_TRASH,
  type Emptied,
  type EmptyOptions,
  emptyTrash,
  type TrashPolicy,
  type Undone,
  type UndoOptions,
  undo,
} from './trash.js';
export { df } from './usage.js';
export { type MissingWay, typeOf, type Why, why, whyOf } from './why.js';
