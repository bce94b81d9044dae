/** What only runc's statistics show, read when asked for: `stats({ raw: true })`. */
import { CgroupFileError, isGone, isUnsupported } from './errors.js';
import { readCgroupFile } from './file.js';
import { hugepageSizes } from './hugepages.js';
import { parseCounterText, parseFlatKeyed } from './parse.js';
import { cpuListBits } from './resources/index.js';
import type { V1Cpuset, V1HugetlbStat, V1RawStats, V2RawStats } from './stats.js';

/**
 * undefined if the kernel does not have the file, or the group has gone: the statistics proper tell
 * which.
 */
function read(path: string): string | undefined {
  try {
    return readCgroupFile(path).trim();
  } catch (error) {
    if (error instanceof CgroupFileError && (isGone(error) || isUnsupported(error))) return undefined;
    throw error;
  }
}

function readCounter(path: string): bigint | undefined {
  const text = read(path);
  return text === undefined ? undefined : parseCounterText(text);
}

/** @param dir of the group */
export function readV2Raw(dir: string): V2RawStats {
  const counter = (size: string): bigint | undefined =>
    readCounter(`${dir}/hugetlb.${size}.rsvd.current`) ?? readCounter(`${dir}/hugetlb.${size}.current`);
  const usage = hugepageSizes().map((size) => [size, counter(size)] as const);
  return {
    memory: parseFlatKeyed(read(`${dir}/memory.stat`) ?? ''),
    hugetlbUsage: new Map(usage.filter((entry): entry is [string, bigint] => entry[1] !== undefined)),
  };
}

/** @param dirs controller → the group's directory */
export function readV1Raw(dirs: ReadonlyMap<string, string>): V1RawStats {
  const dirOf = (controller: string): string => dirs.get(controller) ?? '/nonexistent';
  const perCpu = (read(`${dirOf('cpuacct')}/cpuacct.usage_all`) ?? '')
    .split('\n')
    .map((line) => /^\d+ (\d+) (\d+)$/.exec(line))
    .filter((match) => match !== null);
  return {
    memory: parseFlatKeyed(read(`${dirOf('memory')}/memory.stat`) ?? ''),
    perCpuUser: perCpu.map(([, user = '']) => parseCounterText(user)),
    perCpuKernel: perCpu.map(([, , kernel = '']) => parseCounterText(kernel)),
    cpuset: dirs.has('cpuset') ? readCpuset(dirOf('cpuset')) : undefined,
    hugetlbReserved: hugepageSizes().flatMap((size) => readReserved(dirOf('hugetlb'), size)),
  };
}

function readReserved(dir: string, pagesize: string): V1HugetlbStat[] {
  const counter = (file: string): bigint | undefined => readCounter(`${dir}/hugetlb.${pagesize}.rsvd.${file}`);
  const usage = counter('usage_in_bytes');
  if (usage === undefined) return [];
  return [{ usage, max: counter('max_usage_in_bytes') ?? 0n, failcnt: counter('failcnt') ?? 0n, pagesize }];
}

function readCpuset(dir: string): V1Cpuset {
  const flag = (name: string): bigint => readCounter(`${dir}/cpuset.${name}`) ?? 0n;
  return {
    cpus: expandList(read(`${dir}/cpuset.cpus`) ?? ''),
    mems: expandList(read(`${dir}/cpuset.mems`) ?? ''),
    cpuExclusive: flag('cpu_exclusive'),
    memHardwall: flag('mem_hardwall'),
    memExclusive: flag('mem_exclusive'),
    memoryMigrate: flag('memory_migrate'),
    memorySpreadPage: flag('memory_spread_page'),
    memorySpreadSlab: flag('memory_spread_slab'),
    memoryPressure: flag('memory_pressure'),
    schedLoadBalance: flag('sched_load_balance'),
    // The only signed one: -1 is the default.
    schedRelaxDomainLevel: Number(read(`${dir}/cpuset.sched_relax_domain_level`) ?? 0),
  };
}

/** "0-2,8" → 0, 1, 2, 8. */
function expandList(list: string): number[] {
  if (list === '') return [];
  return [...cpuListBits(list)].flatMap((byte, index) =>
    Array.from({ length: 8 }, (_, bit) => index * 8 + bit).filter((number) => (byte & (1 << (number & 7))) !== 0),
  );
}
