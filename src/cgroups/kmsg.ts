/**
 * The kernel log as a witness of OOM kills, for groups whose own counter has gone with them.
 *
 * The OOM killer logs "… Killed process PID (NAME) …" before its victim can end, and never leaves
 * that out; the line with the victim's group comes before it, at most ten in five seconds
 * (mm/oom_kill.c). Records: Documentation/ABI/testing/dev-kmsg.
 */
import { isErrno, pathFromBytes } from '../base/index.js';
import type { CgroupKernel } from './kernel.js';

/** What one record says of a process an OOM killer has chosen. */
export interface OomRecord {
  readonly pid: number;
  /**
   * Path of its group in the memory hierarchy; undefined in the line that only names the process.
   */
  readonly group: string | undefined;
}

/** Records of others than the kernel have a facility, in the bits above the three of the level. */
const FIRST_FOREIGN_PRIORITY = 8;
/** Kills are asked for moments after they happened; more are not kept. */
const KILLS_KEPT = 256;

const KILLED = /^(?:(?:Memory cgroup out|Out) of memory[^:]*: )?Killed process (\d{1,10}) \(/;
const CHOSEN = /^oom-kill:.*,task_memcg=(\/.*),task=.{0,15},pid=(\d{1,10}),uid=\d+$/;

/**
 * Reads one record of /dev/kmsg, `priority,number,µs,flags;text`; undefined if it tells of no OOM
 * kill. Never throws.
 */
export function parseOomRecord(record: string): OomRecord | undefined {
  const end = record.indexOf('\n');
  const line = end < 0 ? record : record.slice(0, end);
  const semicolon = line.indexOf(';');
  // Whoever may write to the log can write anything into it, but not as the kernel.
  if (!/^\d{1,9},/.test(line) || Number.parseInt(line, 10) >= FIRST_FOREIGN_PRIORITY || semicolon < 0) return undefined;
  const text = line.slice(semicolon + 1);
  const killed = KILLED.exec(text);
  if (killed !== null) return { pid: Number(killed[1]), group: undefined };
  const [, group, pid] = CHOSEN.exec(text) ?? [];
  // Groups may be called anything: a second mark can only be part of a name.
  if (group === undefined || text.split(',task_memcg=').length !== 2) return undefined;
  return { pid: Number(pid), group: unescapeRecord(group) };
}

/** The log has bytes that cannot be printed, and backslashes, as \xNN. */
function unescapeRecord(text: string): string {
  const bytes = text.replace(/\\x([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return pathFromBytes(Buffer.from(bytes, 'latin1'));
}

/** Remembers OOM kills from its begin until it is disposed. */
export interface KernelLogWatch extends Disposable {
  /**
   * How many processes an OOM killer has killed that were in the group or below it, or are the one
   * with this pid. The true number may be higher, but is not 0 when this is.
   * @returns undefined if that cannot be told, because records were overwritten before they were
   *   read
   */
  oomKills(group: string, pid: number): number | undefined;
}

/**
 * One reader of the log, shared by all watches on a kernel; open while there is one, and read only
 * when a watch asks.
 */
export class KernelLog {
  readonly #kernel: CgroupKernel;
  readonly #watches = new Set<KernelLogWatch>();
  #fd: number | undefined;
  /** How many kills were read. */
  #count = 0;
  /** The last of them. */
  #kills: OomRecord[] = [];

  constructor(kernel: CgroupKernel) {
    this.#kernel = kernel;
  }

  /**
   * @returns undefined where the log may not be read, or names processes otherwise than this
   *   process sees them
   */
  watch(): KernelLogWatch | undefined {
    this.#fd ??= this.#open();
    if (this.#fd === undefined) return undefined;
    // The same pid and the same path may have been another container's.
    this.#readNew();
    const since = this.#count;
    const watch: KernelLogWatch = {
      oomKills: (group, pid) => this.#find(since, group, pid),
      [Symbol.dispose]: () => this.#end(watch),
    };
    this.#watches.add(watch);
    return watch;
  }

  #open(): number | undefined {
    try {
      return this.#kernel.openLog();
    } catch (error) {
      // EPERM without CAP_SYSLOG, ENOENT or ENODEV in a container: there is no witness then.
      if (isErrno(error)) return undefined;
      throw error;
    }
  }

  #end(watch: KernelLogWatch): void {
    if (!this.#watches.delete(watch) || this.#watches.size > 0 || this.#fd === undefined) return;
    this.#kernel.closeLog(this.#fd);
    this.#fd = undefined;
    this.#kills = [];
  }

  #find(since: number, group: string, pid: number): number | undefined {
    const isComplete = this.#readNew();
    const fresh = this.#kills.slice(Math.max(0, this.#kills.length - (this.#count - since)));
    const victims = fresh.filter((kill) => kill.pid === pid || isWithin(kill.group, group)).map((kill) => kill.pid);
    return victims.length === 0 && !isComplete ? undefined : new Set(victims).size;
  }

  /** @returns false if records were lost */
  #readNew(): boolean {
    let isComplete = true;
    for (;;) {
      try {
        const record = this.#fd === undefined ? undefined : this.#kernel.readLog(this.#fd);
        if (record === undefined) return isComplete;
        this.#note(parseOomRecord(record));
      } catch (error) {
        // The next read continues with the oldest record there is.
        if (!isErrno(error, 'EPIPE')) return false;
        isComplete = false;
      }
    }
  }

  #note(kill: OomRecord | undefined): void {
    if (kill === undefined) return;
    this.#count += 1;
    this.#kills.push(kill);
    if (this.#kills.length > KILLS_KEPT) this.#kills.shift();
  }
}

function isWithin(path: string | undefined, group: string): boolean {
  return path !== undefined && (path === group || path.startsWith(`${group}/`));
}

// Kernel → the one reader of its log; lives as long as its kernel.
const logs = new WeakMap<CgroupKernel, KernelLog>();

export function kernelLog(kernel: CgroupKernel): KernelLog {
  let log = logs.get(kernel);
  if (log === undefined) {
    log = new KernelLog(kernel);
    logs.set(kernel, log);
  }
  return log;
}
