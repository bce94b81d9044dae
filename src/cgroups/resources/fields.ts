/**
 * What of the OCI `linux.resources` goes where. Tests compare the table with what is written;
 * docs/cgroups.md shows it.
 */

export interface ResourceField {
  /** Path in `linux.resources`; `[]` stands for each element, `{}` for each key. */
  readonly field: string;
  /**
   * The files on cgroup v2; none if it is v1 only and ignored, as runc does. SIZE stands for a page
   * size.
   */
  readonly v2: readonly string[];
  /** The files on cgroup v1. */
  readonly v1: readonly string[];
  /** systemd's property. */
  readonly systemd?: string;
}

export const RESOURCE_FIELDS: readonly ResourceField[] = [
  { field: 'memory.limit', v2: ['memory.max'], v1: ['memory.limit_in_bytes'], systemd: 'MemoryMax' },
  { field: 'memory.reservation', v2: ['memory.low'], v1: ['memory.soft_limit_in_bytes'], systemd: 'MemoryLow' },
  { field: 'memory.swap', v2: ['memory.swap.max'], v1: ['memory.memsw.limit_in_bytes'], systemd: 'MemorySwapMax' },
  { field: 'memory.kernel', v2: [], v1: [] },
  { field: 'memory.kernelTCP', v2: [], v1: ['memory.kmem.tcp.limit_in_bytes'] },
  { field: 'memory.swappiness', v2: [], v1: ['memory.swappiness'] },
  { field: 'memory.disableOOMKiller', v2: [], v1: ['memory.oom_control'] },
  { field: 'memory.useHierarchy', v2: [], v1: [] },
  { field: 'cpu.shares', v2: ['cpu.weight'], v1: ['cpu.shares'], systemd: 'CPUWeight' },
  { field: 'cpu.quota', v2: ['cpu.max'], v1: ['cpu.cfs_quota_us'], systemd: 'CPUQuotaPerSecUSec' },
  { field: 'cpu.period', v2: ['cpu.max'], v1: ['cpu.cfs_period_us'], systemd: 'CPUQuotaPeriodUSec' },
  { field: 'cpu.burst', v2: ['cpu.max.burst'], v1: ['cpu.cfs_burst_us'] },
  { field: 'cpu.idle', v2: ['cpu.idle'], v1: ['cpu.idle'], systemd: 'CPUWeight' },
  { field: 'cpu.realtimeRuntime', v2: [], v1: ['cpu.rt_runtime_us'] },
  { field: 'cpu.realtimePeriod', v2: [], v1: ['cpu.rt_period_us'] },
  { field: 'cpu.cpus', v2: ['cpuset.cpus'], v1: ['cpuset.cpus'], systemd: 'AllowedCPUs' },
  { field: 'cpu.mems', v2: ['cpuset.mems'], v1: ['cpuset.mems'], systemd: 'AllowedMemoryNodes' },
  { field: 'pids.limit', v2: ['pids.max'], v1: ['pids.max'], systemd: 'TasksMax' },
  {
    field: 'blockIO.weight',
    v2: ['io.bfq.weight', 'io.weight'],
    v1: ['blkio.weight', 'blkio.bfq.weight'],
    systemd: 'IOWeight',
  },
  { field: 'blockIO.leafWeight', v2: [], v1: ['blkio.leaf_weight'] },
  {
    field: 'blockIO.weightDevice[].weight',
    v2: ['io.bfq.weight'],
    v1: ['blkio.weight_device', 'blkio.bfq.weight_device'],
  },
  { field: 'blockIO.weightDevice[].leafWeight', v2: [], v1: ['blkio.leaf_weight_device'] },
  { field: 'blockIO.throttleReadBpsDevice[]', v2: ['io.max'], v1: ['blkio.throttle.read_bps_device'] },
  { field: 'blockIO.throttleWriteBpsDevice[]', v2: ['io.max'], v1: ['blkio.throttle.write_bps_device'] },
  { field: 'blockIO.throttleReadIOPSDevice[]', v2: ['io.max'], v1: ['blkio.throttle.read_iops_device'] },
  { field: 'blockIO.throttleWriteIOPSDevice[]', v2: ['io.max'], v1: ['blkio.throttle.write_iops_device'] },
  {
    field: 'hugepageLimits[]',
    v2: ['hugetlb.SIZE.max', 'hugetlb.SIZE.rsvd.max'],
    v1: ['hugetlb.SIZE.limit_in_bytes', 'hugetlb.SIZE.rsvd.limit_in_bytes'],
  },
  { field: 'rdma{}', v2: ['rdma.max'], v1: ['rdma.max'] },
  { field: 'network.classID', v2: [], v1: ['net_cls.classid'] },
  { field: 'network.priorities[]', v2: [], v1: ['net_prio.ifpriomap'] },
];
