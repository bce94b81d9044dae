/** cgroup v2 files → io.containerd.cgroups.v2.Metrics. */
import { CgroupNotFoundError } from '../errors.js';
import { contentBuffer, StatFile } from '../file.js';
import { hugepageSizes } from '../hugepages.js';
import { FlatKeyedParser, parseCounter, parseIoStat, parseKey, parsePressure, parseRdma } from '../parse.js';
import { readV2Raw } from '../raw-stats.js';
import {
  type PsiStats,
  type StatsOptions,
  V2_CPU_FIELDS,
  V2_MEMORY_EVENT_FIELDS,
  V2_MEMORY_FIELDS,
  type V2HugetlbStat,
  type V2MemoryStat,
  type V2Stats,
} from '../stats.js';
import { rootMemory } from './root-stats.js';

const cpuParser = new FlatKeyedParser(V2_CPU_FIELDS);
const memoryParser = new FlatKeyedParser(V2_MEMORY_FIELDS);
const memoryEventsParser = new FlatKeyedParser(V2_MEMORY_EVENT_FIELDS);

/** Reads a group's statistics; files stay open between calls. */
export class V2StatsReader {
  readonly #dir: string;
  // File name → file; emptied by close.
  readonly #files = new Map<string, StatFile>();
  #controllers: string | undefined;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** @throws {CgroupNotFoundError} after the group was removed */
  read(options: StatsOptions = {}): V2Stats {
    this.#lookForNewFiles();
    const stats = this.#readAll();
    return options.raw === true ? { ...stats, raw: readV2Raw(this.#dir) } : stats;
  }

  #readAll(): V2Stats {
    return {
      version: 2,
      pids: { current: this.#counter('pids.current'), limit: this.#counter('pids.max') },
      cpu: { ...this.#flat('cpu.stat', cpuParser), psi: this.#pressure('cpu.pressure') },
      memory: this.#memory(),
      rdma: { current: parseRdma(this.#text('rdma.current')), limit: parseRdma(this.#text('rdma.max')) },
      io: { usage: parseIoStat(this.#text('io.stat')), psi: this.#pressure('io.pressure') },
      hugetlb: hugepageSizes().map((size) => this.#hugetlb(size)),
      memoryEvents: this.#memoryEvents(),
    };
  }

  close(): void {
    for (const file of this.#files.values()) file.close();
    this.#files.clear();
    this.#controllers = undefined;
  }

  /**
   * cgroup.controllers exists as long as the group does, so it tells a removed group from a removed
   * file; and when it has changed, files that were missing may be there.
   */
  #lookForNewFiles(): void {
    const file = this.#file('cgroup.controllers');
    file.retry();
    const controllers = file.readText();
    if (controllers === undefined) throw new CgroupNotFoundError(this.#dir);
    if (controllers === this.#controllers) return;
    this.#controllers = controllers;
    for (const each of this.#files.values()) each.retry();
  }

  #file(name: string): StatFile {
    let file = this.#files.get(name);
    if (file === undefined) {
      file = new StatFile(`${this.#dir}/${name}`, { isSpare: true });
      this.#files.set(name, file);
    }
    return file;
  }

  #counter(name: string): bigint {
    const length = this.#file(name).read();
    return parseCounter(contentBuffer(), length);
  }

  #text(name: string): string {
    return this.#file(name).readText() ?? '';
  }

  #flat<Field extends string>(name: string, parser: FlatKeyedParser<Field>): Record<Field, bigint> {
    const length = this.#file(name).read();
    return parser.parse(contentBuffer(), length);
  }

  #pressure(name: string): PsiStats | undefined {
    return parsePressure(this.#text(name));
  }

  #memory(): V2MemoryStat {
    const length = this.#file('memory.stat').read();
    const stat = memoryParser.parse(contentBuffer(), length);
    const usage = this.#file('memory.current').read();
    // Only the root has the one and not the other.
    const isRoot = length >= 0 && usage < 0;
    return {
      ...stat,
      usage: parseCounter(contentBuffer(), usage),
      usageLimit: this.#counter('memory.max'),
      swapUsage: this.#counter('memory.swap.current'),
      swapLimit: this.#counter('memory.swap.max'),
      maxUsage: this.#counter('memory.peak'),
      swapMaxUsage: this.#counter('memory.swap.peak'),
      psi: this.#pressure('memory.pressure'),
      ...(isRoot ? rootMemory(stat) : {}),
    };
  }

  #memoryEvents(): V2Stats['memoryEvents'] {
    const length = this.#file('memory.events').read();
    return length <= 0 ? undefined : memoryEventsParser.parse(contentBuffer(), length);
  }

  #hugetlb(size: string): V2HugetlbStat {
    return {
      current: this.#counter(`hugetlb.${size}.current`),
      max: this.#counter(`hugetlb.${size}.max`),
      pagesize: size,
      failcnt: parseKey(this.#text(`hugetlb.${size}.events`), 'max') ?? 0n,
    };
  }
}
