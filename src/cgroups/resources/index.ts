/** The limits of the OCI `linux.resources`, checked, converted and written to cgroup files. */

export type { Applied } from './applied.js';
export { checkDeviceRules, checkResources } from './check.js';
export {
  cpuMax,
  cpuQuotaPerSec,
  DEFAULT_PERIOD_USEC,
  ioWeight,
  limitText,
  pidsMax,
  roundedQuota,
  swapMax,
  UNLIMITED,
  weightFromShares,
} from './convert.js';
export { cpuListBits } from './cpu-list.js';
export { LimitUnavailableError, ResourceError, RestoreError } from './errors.js';
export { RESOURCE_FIELDS, type ResourceField } from './fields.js';
export { overlayResources } from './overlay.js';
export { mayTakeLong } from './slow-writes.js';
export { type CgroupIo, cgroupIo, cgroupIoWith, writeLimit } from './transaction.js';
export { type SetV1Options, setV1 } from './v1.js';
export { checkMemoryUsage, setV2 } from './v2.js';
