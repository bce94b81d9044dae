/**
 * The statistics as `runc events --stats` prints them, for both cgroup versions (runc's
 * types/events.go is the shape).
 */
import { Code, LaminaError } from '../base/index.js';
import { U64_MAX } from './parse.js';
import type {
  CgroupStats,
  PsiStats,
  V1BlkioEntry,
  V1BlkioStat,
  V1Cpuset,
  V1HugetlbStat,
  V1MemoryEntry,
  V1RawStats,
  V1Stats,
  V2IoEntry,
  V2RawStats,
  V2Stats,
} from './stats.js';

/** A u64, or text, or what is made of them; absent where runc leaves out a zero. */
export type RuncValue =
  | bigint
  | number
  | string
  | null
  | readonly RuncValue[]
  | { readonly [key: string]: RuncValue | undefined };

/** The `data` of runc's line; names and units are runc's: bytes, ns. */
export interface RuncStats {
  readonly [part: string]: RuncValue;
}

/** What runc leaves out when it is 0. */
function some(value: bigint): bigint | undefined {
  return value === 0n ? undefined : value;
}

function list<T extends RuncValue>(values: readonly T[]): readonly T[] | undefined {
  return values.length === 0 ? undefined : values;
}

function psi(stats: PsiStats | undefined): RuncValue | undefined {
  return stats === undefined
    ? undefined
    : { some: stats.some && { ...stats.some }, full: stats.full && { ...stats.full } };
}

/** Sorted, as Go prints maps. */
function sorted(map: Readonly<Record<string, bigint>>): Record<string, bigint> | undefined {
  const entries = Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1));
  return entries.length === 0 ? undefined : Object.fromEntries(entries);
}

function memoryEntry({ limit, usage, max, failcnt }: V1MemoryEntry): RuncValue {
  return { limit, usage: some(usage), max: some(max), failcnt };
}

const NOTHING: V1MemoryEntry = { limit: 0n, usage: 0n, max: 0n, failcnt: 0n };

function cpuset(stats: V1Cpuset | undefined): RuncValue {
  return {
    cpus: list(stats?.cpus ?? []),
    cpu_exclusive: stats?.cpuExclusive ?? 0n,
    mems: list(stats?.mems ?? []),
    mem_hardwall: stats?.memHardwall ?? 0n,
    mem_exclusive: stats?.memExclusive ?? 0n,
    memory_migrate: stats?.memoryMigrate ?? 0n,
    memory_spread_page: stats?.memorySpreadPage ?? 0n,
    memory_spread_slab: stats?.memorySpreadSlab ?? 0n,
    memory_pressure: stats?.memoryPressure ?? 0n,
    sched_load_balance: stats?.schedLoadBalance ?? 0n,
    sched_relax_domain_level: stats?.schedRelaxDomainLevel ?? 0,
  };
}

function hugetlb(stats: readonly V1HugetlbStat[]): RuncValue {
  return Object.fromEntries(
    stats.map(({ pagesize, usage, max, failcnt }) => [pagesize, { usage: some(usage), max: some(max), failcnt }]),
  );
}

/** Zeros are left out even of device numbers. */
function blkioEntries(entries: readonly V1BlkioEntry[]): RuncValue | undefined {
  return list(
    entries.map(({ major, minor, op, value }) => ({
      major: some(major),
      minor: some(minor),
      op: op === '' ? undefined : op,
      value: some(value),
    })),
  );
}

function blkio(stats: V1BlkioStat | undefined): RuncValue {
  if (stats === undefined) return {};
  return {
    ioServiceBytesRecursive: blkioEntries(stats.ioServiceBytesRecursive),
    ioServicedRecursive: blkioEntries(stats.ioServicedRecursive),
    ioQueueRecursive: blkioEntries(stats.ioQueuedRecursive),
    ioServiceTimeRecursive: blkioEntries(stats.ioServiceTimeRecursive),
    ioWaitTimeRecursive: blkioEntries(stats.ioWaitTimeRecursive),
    ioMergedRecursive: blkioEntries(stats.ioMergedRecursive),
    ioTimeRecursive: blkioEntries(stats.ioTimeRecursive),
    sectorsRecursive: blkioEntries(stats.sectorsRecursive),
  };
}

/** v2's io.stat in v1's tables. */
function ioEntries(usage: readonly V2IoEntry[], read: 'rbytes' | 'rios', write: 'wbytes' | 'wios'): V1BlkioEntry[] {
  return usage.flatMap((entry) => [
    { ...entry, device: '', op: 'Read', value: entry[read] },
    { ...entry, device: '', op: 'Write', value: entry[write] },
  ]);
}

const NS_PER_USEC = 1000n;

/**
 * Memory and swap together, as v1 counts them; their highest usage cannot be told from two maxima.
 */
function memoryAndSwap({ usage, usageLimit, swapUsage, swapLimit }: V2Stats['memory']): V1MemoryEntry {
  const sum = swapLimit + usageLimit;
  return { limit: sum > U64_MAX ? U64_MAX : sum, usage: swapUsage + usage, max: 0n, failcnt: 0n };
}

function fromV2(stats: V2Stats, raw: V2RawStats): RuncStats {
  const { cpu, memory, pids, io } = stats;
  const [user, kernel] = [cpu.userUsec * NS_PER_USEC, cpu.systemUsec * NS_PER_USEC];
  const usage = { limit: memory.usageLimit, usage: memory.usage, max: memory.maxUsage, failcnt: 0n };
  const pages = stats.hugetlb.flatMap(({ pagesize, failcnt }) => {
    const used = raw.hugetlbUsage.get(pagesize);
    return used === undefined ? [] : [{ pagesize, usage: used, max: 0n, failcnt }];
  });
  return {
    cpu: {
      usage: { total: some(cpu.usageUsec * NS_PER_USEC), kernel, user },
      throttling: {
        periods: some(cpu.nrPeriods),
        throttledPeriods: some(cpu.nrThrottled),
        throttledTime: some(cpu.throttledUsec * NS_PER_USEC),
      },
      psi: psi(cpu.psi),
    },
    cpuset: cpuset(undefined),
    memory: {
      cache: some(memory.file),
      usage: memoryEntry(usage),
      swap: memoryEntry(memoryAndSwap(memory)),
      kernel: memoryEntry(NOTHING),
      kernelTCP: memoryEntry(NOTHING),
      raw: sorted(raw.memory),
      psi: psi(memory.psi),
    },
    pids: { current: some(pids.current), limit: pids.limit === U64_MAX ? undefined : some(pids.limit) },
    blkio: {
      ioServiceBytesRecursive: blkioEntries(ioEntries(io.usage, 'rbytes', 'wbytes')),
      ioServicedRecursive: blkioEntries(ioEntries(io.usage, 'rios', 'wios')),
      psi: psi(io.psi),
    },
    hugetlb: hugetlb(pages),
    intel_rdt: {},
    network_interfaces: null,
  };
}

function fromV1(stats: V1Stats, raw: V1RawStats): RuncStats {
  const { usage, throttling } = stats.cpu;
  const { memory, pids } = stats;
  return {
    cpu: {
      usage: {
        total: some(usage.total),
        percpu: list(usage.perCpu),
        percpu_kernel: list(raw.perCpuKernel),
        percpu_user: list(raw.perCpuUser),
        kernel: usage.kernel,
        user: usage.user,
      },
      throttling: {
        periods: some(throttling.periods),
        throttledPeriods: some(throttling.throttledPeriods),
        throttledTime: some(throttling.throttledTime),
      },
    },
    cpuset: cpuset(raw.cpuset),
    memory: {
      cache: some(memory?.cache ?? 0n),
      usage: memoryEntry(memory?.usage ?? NOTHING),
      swap: memoryEntry(memory?.swap ?? NOTHING),
      kernel: memoryEntry(memory?.kernel ?? NOTHING),
      kernelTCP: memoryEntry(memory?.kernelTcp ?? NOTHING),
      raw: sorted(raw.memory),
    },
    pids: { current: some(pids?.current ?? 0n), limit: some(pids?.limit ?? 0n) },
    blkio: blkio(stats.blkio),
    hugetlb: hugetlb(raw.hugetlbReserved.length > 0 ? raw.hugetlbReserved : stats.hugetlb),
    intel_rdt: {},
    network_interfaces: null,
  };
}

/**
 * The `data` that `runc events --stats` prints: its names, units and omissions of zeros. Resctrl's
 * and the network's parts are empty.
 * @param stats taken with `stats({ raw: true })`
 * @throws {LaminaError} InvalidArgument when they were taken without
 */
export function runcStats(stats: CgroupStats): RuncStats {
  if (stats.raw === undefined) {
    throw new LaminaError(Code.InvalidArgument, 'runcStats needs what stats({ raw: true }) returns', {
      subject: 'raw',
    });
  }
  return stats.version === 2 ? fromV2(stats, stats.raw as V2RawStats) : fromV1(stats, stats.raw as V1RawStats);
}

/**
 * The line `runc events --stats` prints. Unlike JSON.stringify it writes every u64 exactly.
 * @throws {LaminaError} as `runcStats`
 */
export function runcStatsLine(id: string, stats: CgroupStats): string {
  return encode({ type: 'stats', id, data: runcStats(stats) });
}

function encode(value: RuncValue): string {
  if (typeof value === 'bigint') return value.toString();
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  if (isList(value)) return `[${value.map(encode).join()}]`;
  const fields = Object.entries(value).flatMap(([key, each]) =>
    each === undefined ? [] : [`${JSON.stringify(key)}:${encode(each)}`],
  );
  return `{${fields.join()}}`;
}

function isList(value: object): value is readonly RuncValue[] {
  return Array.isArray(value);
}
