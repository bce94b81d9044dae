/**
 * cgroup v1 files → io.containerd.cgroups.v1.Metrics. Each controller has its own directory, and
 * may have none.
 */
import { CgroupNotFoundError } from '../errors.js';
import { contentBuffer, isDirectory, StatFile } from '../file.js';
import { hugepageSizes } from '../hugepages.js';
import { FlatKeyedParser, parseCounter, parseCounterText, parseKey, parseRdma, U64_MAX } from '../parse.js';
import { readV1Raw } from '../raw-stats.js';
import {
  type StatsOptions,
  V1_MEMORY_FIELDS,
  V1_OOM_CONTROL_FIELDS,
  V1_THROTTLING_FIELDS,
  type V1BlkioStat,
  type V1CpuStat,
  type V1HugetlbStat,
  type V1MemoryEntry,
  type V1MemoryStat,
  type V1Stats,
} from '../stats.js';
import { BLKIO_FAMILIES, blockDeviceName, parseBlkio } from './blkio.js';

/** cpuacct.stat counts in USER_HZ, which is 100 on every architecture Node.js runs on. */
const NS_PER_TICK = 10_000_000n;

/** Those that have statistics. */
const CONTROLLERS = new Set(['cpu', 'cpuacct', 'cpuset', 'memory', 'pids', 'blkio', 'rdma', 'hugetlb']);

const memoryParser = new FlatKeyedParser(V1_MEMORY_FIELDS);
const oomControlParser = new FlatKeyedParser(V1_OOM_CONTROL_FIELDS);
const throttlingParser = new FlatKeyedParser(V1_THROTTLING_FIELDS);

/** Reads a group's statistics; files stay open between calls. */
export class V1StatsReader {
  readonly #dirs: ReadonlyMap<string, string>;
  // Path → file; emptied by close.
  readonly #files = new Map<string, StatFile>();
  /** A file was found missing since the groups were last seen. */
  #isFileMissing: boolean = false;

  /**
   * @param dirs controller → the group's directory; controllers without a group of their own are
   *   not in it
   */
  constructor(dirs: ReadonlyMap<string, string>) {
    this.#dirs = new Map([...dirs].filter(([controller]) => CONTROLLERS.has(controller)));
  }

  /** @throws {CgroupNotFoundError} after the group was removed from one of its hierarchies */
  read(options: StatsOptions = {}): V1Stats {
    const stats = this.#readAll();
    // Only then can a group have gone; so while nothing changes there is nothing to look up.
    if (this.#isFileMissing) this.#assertGroupsExist();
    return options.raw === true ? { ...stats, raw: readV1Raw(this.#dirs) } : stats;
  }

  #readAll(): V1Stats {
    return {
      version: 1,
      hugetlb: this.#of('hugetlb', (dir) => hugepageSizes().map((size) => this.#hugetlb(dir, size))) ?? [],
      pids: this.#of('pids', (dir) => ({
        current: this.#counter(`${dir}/pids.current`),
        limit: this.#limit(`${dir}/pids.max`),
      })),
      cpu: this.#cpu(),
      memory: this.#of('memory', (dir) => this.#memory(dir)),
      blkio: this.#of('blkio', (dir) => this.#blkio(dir)),
      rdma: this.#of('rdma', (dir) => ({
        current: parseRdma(this.#text(`${dir}/rdma.current`)),
        limit: parseRdma(this.#text(`${dir}/rdma.max`)),
      })),
      memoryOomControl: this.#of('memory', (dir) => this.#flat(`${dir}/memory.oom_control`, oomControlParser)),
    };
  }

  close(): void {
    for (const file of this.#files.values()) file.close();
    this.#files.clear();
  }

  /**
   * What `read` makes of a controller's directory; undefined if the group is not in its hierarchy.
   */
  #of<T>(controller: string, read: (dir: string) => T): T | undefined {
    const dir = this.#dirs.get(controller);
    return dir === undefined ? undefined : read(dir);
  }

  /** Tells a removed group from a file this kernel does not have. */
  #assertGroupsExist(): void {
    for (const dir of this.#dirs.values()) {
      if (!isDirectory(dir)) throw new CgroupNotFoundError(dir);
    }
    this.#isFileMissing = false;
  }

  #file(path: string): StatFile {
    let file = this.#files.get(path);
    if (file === undefined) {
      const onMissing = (): void => {
        this.#isFileMissing = true;
      };
      file = new StatFile(path, { onMissing, isSpare: true });
      this.#files.set(path, file);
    }
    return file;
  }

  #counter(path: string): bigint {
    const length = this.#file(path).read();
    return parseCounter(contentBuffer(), length);
  }

  /** In this message containerd says 0 for "max". */
  #limit(path: string): bigint {
    const limit = this.#counter(path);
    return limit === U64_MAX ? 0n : limit;
  }

  #text(path: string): string {
    return this.#file(path).readText() ?? '';
  }

  #flat<Field extends string>(path: string, parser: FlatKeyedParser<Field>): Record<Field, bigint> {
    const length = this.#file(path).read();
    return parser.parse(contentBuffer(), length);
  }

  #cpu(): V1CpuStat {
    const usage = this.#of('cpuacct', (dir) => this.#cpuUsage(dir));
    const throttling = this.#of('cpu', (dir) => this.#flat(`${dir}/cpu.stat`, throttlingParser));
    return {
      usage: usage ?? { total: 0n, kernel: 0n, user: 0n, perCpu: [] },
      throttling: throttling ?? throttlingParser.empty(),
    };
  }

  #cpuUsage(dir: string): V1CpuStat['usage'] {
    const ticks = this.#text(`${dir}/cpuacct.stat`);
    return {
      total: this.#counter(`${dir}/cpuacct.usage`),
      kernel: (parseKey(ticks, 'system') ?? 0n) * NS_PER_TICK,
      user: (parseKey(ticks, 'user') ?? 0n) * NS_PER_TICK,
      perCpu: this.#text(`${dir}/cpuacct.usage_percpu`).split(/\s+/).filter(Boolean).map(parseCounterText),
    };
  }

  #memory(dir: string): V1MemoryStat {
    return {
      ...this.#flat(`${dir}/memory.stat`, memoryParser),
      usage: this.#memoryEntry(`${dir}/memory.`),
      swap: this.#memoryEntry(`${dir}/memory.memsw.`),
      kernel: this.#memoryEntry(`${dir}/memory.kmem.`),
      kernelTcp: this.#memoryEntry(`${dir}/memory.kmem.tcp.`),
    };
  }

  /** @param prefix "…/memory." or "…/memory.kmem." */
  #memoryEntry(prefix: string): V1MemoryEntry {
    return {
      limit: this.#counter(`${prefix}limit_in_bytes`),
      usage: this.#counter(`${prefix}usage_in_bytes`),
      max: this.#counter(`${prefix}max_usage_in_bytes`),
      failcnt: this.#counter(`${prefix}failcnt`),
    };
  }

  #hugetlb(dir: string, size: string): V1HugetlbStat {
    const prefix = `${dir}/hugetlb.${size}.`;
    return {
      usage: this.#counter(`${prefix}usage_in_bytes`),
      max: this.#counter(`${prefix}max_usage_in_bytes`),
      failcnt: this.#counter(`${prefix}failcnt`),
      pagesize: size,
    };
  }

  #blkio(dir: string): V1BlkioStat {
    const stat: V1BlkioStat = {
      ioServiceBytesRecursive: [],
      ioServicedRecursive: [],
      ioQueuedRecursive: [],
      ioServiceTimeRecursive: [],
      ioWaitTimeRecursive: [],
      ioMergedRecursive: [],
      ioTimeRecursive: [],
      sectorsRecursive: [],
    };
    for (const family of BLKIO_FAMILIES) {
      let found = 0;
      for (const [field, name] of family) {
        found += stat[field].push(...parseBlkio(this.#text(`${dir}/${name}`), blockDeviceName));
      }
      if (found > 0) break;
    }
    return stat;
  }
}
