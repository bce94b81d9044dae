/**
 * cgroups: creating and adopting them, setting their limits, reading and acting on them, on v2 and
 * v1.
 */
export type { CgroupDriver, DestroyOptions, InitExit, OnOom, OomWatch } from './cgroup.js';
export type { Owner } from './delegate.js';
export {
  type CgroupLayout,
  type CgroupMode,
  type CgroupMount,
  currentLayout,
  type DetectOptions,
  detectCgroups,
} from './detect.js';
export {
  CgroupFileError,
  type CgroupFileOp,
  CgroupNotFoundError,
  CgroupTreeError,
  type TreeSituation,
} from './errors.js';
export type { CgroupEvent, EventsOptions, PressureThreshold } from './events.js';
export { closeSpareFiles, type WriteSlowly } from './file.js';
export type { CgroupKernel } from './kernel.js';
export { Cgroup } from './manager.js';
export { readMembershipBytes } from './membership.js';
export type { CreateOptions, LoadOptions, SystemdOptions } from './options.js';
export { type RuncStats, type RuncValue, runcStats, runcStatsLine } from './runc-stats.js';
export type {
  CgroupStats,
  PidsStat,
  PsiData,
  PsiStats,
  RdmaEntry,
  RdmaStat,
  StatsOptions,
  V1BlkioEntry,
  V1BlkioStat,
  V1CpuStat,
  V1Cpuset,
  V1HugetlbStat,
  V1MemoryEntry,
  V1MemoryStat,
  V1RawStats,
  V1Stats,
  V2CpuStat,
  V2HugetlbStat,
  V2IoEntry,
  V2MemoryEvents,
  V2MemoryStat,
  V2RawStats,
  V2Stats,
} from './stats.js';
export { parseSystemdPath, type SystemdPath, unitFromCgroupPath, unitPath } from './systemd/names.js';
