/**
 * What `Cgroup.stats()` returns: the fields of containerd's messages
 * io.containerd.cgroups.v2.Metrics and v1.Metrics, in camelCase. Counters are u64 (bigint), "max"
 * is 2^64-1 (but 0 in v1's pids.limit, as containerd has it), bytes and microseconds unless said. A
 * part is undefined where containerd leaves the message out.
 */

/** Line of a *.pressure file: shares of time in percent, and the total stall time in µs. */
export interface PsiData {
  readonly avg10: number;
  readonly avg60: number;
  readonly avg300: number;
  readonly total: bigint;
}

export interface PsiStats {
  readonly some: PsiData | undefined;
  readonly full: PsiData | undefined;
}

export interface PidsStat {
  readonly current: bigint;
  readonly limit: bigint;
}

export interface RdmaEntry {
  readonly device: string;
  /** u32; "max" is 2^32-1. */
  readonly hcaHandles: number;
  readonly hcaObjects: number;
}

export interface RdmaStat {
  readonly current: RdmaEntry[];
  readonly limit: RdmaEntry[];
}

/** Keys of v2's cpu.stat. */
export const V2_CPU_FIELDS = {
  usage_usec: 'usageUsec',
  user_usec: 'userUsec',
  system_usec: 'systemUsec',
  nr_periods: 'nrPeriods',
  nr_throttled: 'nrThrottled',
  throttled_usec: 'throttledUsec',
  nr_bursts: 'nrBursts',
  burst_usec: 'burstUsec',
} as const;

/** Keys of v2's memory.stat. */
export const V2_MEMORY_FIELDS = {
  anon: 'anon',
  file: 'file',
  kernel_stack: 'kernelStack',
  slab: 'slab',
  sock: 'sock',
  shmem: 'shmem',
  file_mapped: 'fileMapped',
  file_dirty: 'fileDirty',
  file_writeback: 'fileWriteback',
  anon_thp: 'anonThp',
  inactive_anon: 'inactiveAnon',
  active_anon: 'activeAnon',
  inactive_file: 'inactiveFile',
  active_file: 'activeFile',
  unevictable: 'unevictable',
  slab_reclaimable: 'slabReclaimable',
  slab_unreclaimable: 'slabUnreclaimable',
  pgfault: 'pgfault',
  pgmajfault: 'pgmajfault',
  workingset_refault: 'workingsetRefault',
  workingset_activate: 'workingsetActivate',
  workingset_nodereclaim: 'workingsetNodereclaim',
  pgrefill: 'pgrefill',
  pgscan: 'pgscan',
  pgsteal: 'pgsteal',
  pgactivate: 'pgactivate',
  pgdeactivate: 'pgdeactivate',
  pglazyfree: 'pglazyfree',
  pglazyfreed: 'pglazyfreed',
  thp_fault_alloc: 'thpFaultAlloc',
  thp_collapse_alloc: 'thpCollapseAlloc',
  workingset_refault_anon: 'workingsetRefaultAnon',
  workingset_refault_file: 'workingsetRefaultFile',
  workingset_activate_anon: 'workingsetActivateAnon',
  workingset_activate_file: 'workingsetActivateFile',
} as const;

/** Keys of v2's memory.events. */
export const V2_MEMORY_EVENT_FIELDS = {
  low: 'low',
  high: 'high',
  max: 'max',
  oom: 'oom',
  oom_kill: 'oomKill',
  oom_group_kill: 'oomGroupKill',
} as const;

type Counters<Fields extends Readonly<Record<string, string>>> = Readonly<Record<Fields[keyof Fields], bigint>>;

export interface V2CpuStat extends Counters<typeof V2_CPU_FIELDS> {
  readonly psi: PsiStats | undefined;
}

export interface V2MemoryStat extends Counters<typeof V2_MEMORY_FIELDS> {
  readonly usage: bigint;
  readonly usageLimit: bigint;
  readonly swapUsage: bigint;
  readonly swapLimit: bigint;
  readonly maxUsage: bigint;
  readonly swapMaxUsage: bigint;
  readonly psi: PsiStats | undefined;
}

export type V2MemoryEvents = Counters<typeof V2_MEMORY_EVENT_FIELDS>;

export interface V2IoEntry {
  readonly major: bigint;
  readonly minor: bigint;
  readonly rbytes: bigint;
  readonly wbytes: bigint;
  readonly rios: bigint;
  readonly wios: bigint;
}

export interface V2HugetlbStat {
  readonly current: bigint;
  readonly max: bigint;
  /** As in file names: "2MB". */
  readonly pagesize: string;
  readonly failcnt: bigint;
}

/** What runc shows beyond `V2Stats`. */
export interface V2RawStats {
  /** All of memory.stat. */
  readonly memory: Readonly<Record<string, bigint>>;
  /**
   * Page size ("2MB") → hugetlb.SIZE.rsvd.current, or .current before Linux 5.7; empty without the
   * controller.
   */
  readonly hugetlbUsage: ReadonlyMap<string, bigint>;
}

/** io.containerd.cgroups.v2.Metrics, without `network`, which no cgroup file tells. */
export interface V2Stats {
  readonly version: 2;
  readonly pids: PidsStat;
  readonly cpu: V2CpuStat;
  readonly memory: V2MemoryStat;
  readonly rdma: RdmaStat;
  readonly io: { readonly usage: V2IoEntry[]; readonly psi: PsiStats | undefined };
  readonly hugetlb: V2HugetlbStat[];
  readonly memoryEvents: V2MemoryEvents | undefined;
  /** With `stats({ raw: true })`. */
  readonly raw?: V2RawStats;
}

/** Keys of v1's memory.stat. */
export const V1_MEMORY_FIELDS = {
  cache: 'cache',
  rss: 'rss',
  rss_huge: 'rssHuge',
  mapped_file: 'mappedFile',
  dirty: 'dirty',
  writeback: 'writeback',
  pgpgin: 'pgPgIn',
  pgpgout: 'pgPgOut',
  pgfault: 'pgFault',
  pgmajfault: 'pgMajFault',
  inactive_anon: 'inactiveAnon',
  active_anon: 'activeAnon',
  inactive_file: 'inactiveFile',
  active_file: 'activeFile',
  unevictable: 'unevictable',
  hierarchical_memory_limit: 'hierarchicalMemoryLimit',
  hierarchical_memsw_limit: 'hierarchicalSwapLimit',
  total_cache: 'totalCache',
  total_rss: 'totalRss',
  total_rss_huge: 'totalRssHuge',
  total_mapped_file: 'totalMappedFile',
  total_dirty: 'totalDirty',
  total_writeback: 'totalWriteback',
  total_pgpgin: 'totalPgPgIn',
  total_pgpgout: 'totalPgPgOut',
  total_pgfault: 'totalPgFault',
  total_pgmajfault: 'totalPgMajFault',
  total_inactive_anon: 'totalInactiveAnon',
  total_active_anon: 'totalActiveAnon',
  total_inactive_file: 'totalInactiveFile',
  total_active_file: 'totalActiveFile',
  total_unevictable: 'totalUnevictable',
} as const;

/** Keys of v1's memory.oom_control. */
export const V1_OOM_CONTROL_FIELDS = {
  oom_kill_disable: 'oomKillDisable',
  under_oom: 'underOom',
  oom_kill: 'oomKill',
} as const;

/** Keys of v1's cpu.stat. */
export const V1_THROTTLING_FIELDS = {
  nr_periods: 'periods',
  nr_throttled: 'throttledPeriods',
  throttled_time: 'throttledTime',
} as const;

export interface V1MemoryEntry {
  readonly limit: bigint;
  readonly usage: bigint;
  readonly max: bigint;
  readonly failcnt: bigint;
}

export interface V1MemoryStat extends Counters<typeof V1_MEMORY_FIELDS> {
  readonly usage: V1MemoryEntry;
  readonly swap: V1MemoryEntry;
  readonly kernel: V1MemoryEntry;
  readonly kernelTcp: V1MemoryEntry;
}

/** Times in ns. */
export interface V1CpuStat {
  readonly usage: {
    readonly total: bigint;
    readonly kernel: bigint;
    readonly user: bigint;
    readonly perCpu: bigint[];
  };
  readonly throttling: Counters<typeof V1_THROTTLING_FIELDS>;
}

export interface V1BlkioEntry {
  /** "Read", "Write", "Sync", ...; '' in files without operations. */
  readonly op: string;
  /** "/dev/NAME", '' for a device the kernel no longer lists. */
  readonly device: string;
  readonly major: bigint;
  readonly minor: bigint;
  readonly value: bigint;
}

export interface V1BlkioStat {
  readonly ioServiceBytesRecursive: V1BlkioEntry[];
  readonly ioServicedRecursive: V1BlkioEntry[];
  readonly ioQueuedRecursive: V1BlkioEntry[];
  readonly ioServiceTimeRecursive: V1BlkioEntry[];
  readonly ioWaitTimeRecursive: V1BlkioEntry[];
  readonly ioMergedRecursive: V1BlkioEntry[];
  readonly ioTimeRecursive: V1BlkioEntry[];
  readonly sectorsRecursive: V1BlkioEntry[];
}

export interface V1HugetlbStat {
  readonly usage: bigint;
  readonly max: bigint;
  readonly failcnt: bigint;
  readonly pagesize: string;
}

/** The files of the same names of v1's cpuset. */
export interface V1Cpuset {
  readonly cpus: number[];
  readonly mems: number[];
  readonly cpuExclusive: bigint;
  readonly memHardwall: bigint;
  readonly memExclusive: bigint;
  readonly memoryMigrate: bigint;
  readonly memorySpreadPage: bigint;
  readonly memorySpreadSlab: bigint;
  readonly memoryPressure: bigint;
  readonly schedLoadBalance: bigint;
  readonly schedRelaxDomainLevel: number;
}

/** What runc shows beyond `V1Stats`. */
export interface V1RawStats {
  /** All of memory.stat. */
  readonly memory: Readonly<Record<string, bigint>>;
  /** Of cpuacct.usage_all (Linux 4.10), ns. */
  readonly perCpuUser: bigint[];
  readonly perCpuKernel: bigint[];
  readonly cpuset: V1Cpuset | undefined;
  /** The reservations, where the kernel has them (Linux 5.7). */
  readonly hugetlbReserved: V1HugetlbStat[];
}

/**
 * io.containerd.cgroups.v1.Metrics, without `network` and `cgroup_stats`, which no cgroup file
 * tells.
 */
export interface V1Stats {
  readonly version: 1;
  readonly hugetlb: V1HugetlbStat[];
  readonly pids: PidsStat | undefined;
  readonly cpu: V1CpuStat;
  readonly memory: V1MemoryStat | undefined;
  readonly blkio: V1BlkioStat | undefined;
  readonly rdma: RdmaStat | undefined;
  readonly memoryOomControl: Counters<typeof V1_OOM_CONTROL_FIELDS> | undefined;
  /** With `stats({ raw: true })`. */
  readonly raw?: V1RawStats;
}

export interface StatsOptions {
  /** Reads as well what only `runcStats` needs. */
  readonly raw?: boolean;
}

export type CgroupStats = V1Stats | V2Stats;
