/**
 * What happens in a v2 group: memory.events and cgroup.events notify of their changes, pressure
 * triggers of theirs.
 *
 * The kernel coalesces notifications (one per file in 10 ms, the last one late), so counters are
 * compared, not notifications counted; and as a file goes with its group, they are read again when
 * the last process has gone. A group that somebody removes in that very moment, as systemd does
 * with scopes, takes its counters with it: of its OOM kills the kernel log tells.
 */
import type { FileChanges } from '../changes.js';
import { CgroupNotFoundError } from '../errors.js';
import { type EventSink, type EventSource, EventStream } from '../event-stream.js';
import type { CgroupEvent, EventsOptions } from '../events.js';
import { isDirectory, readCgroupFile, StatFile } from '../file.js';
import { type KernelLogWatch, kernelLog } from '../kmsg.js';
import { parseKey } from '../parse.js';
import { V2_MEMORY_EVENT_FIELDS } from '../stats.js';
import { assertThreshold, watchPressure } from './pressure.js';

type CounterType = keyof typeof V2_MEMORY_EVENT_FIELDS;
const COUNTERS = Object.keys(V2_MEMORY_EVENT_FIELDS) as CounterType[];
const STATES = ['populated', 'frozen'] as const;
type StateType = (typeof STATES)[number];

/** Longer than the kernel may hold back a notification. */
const LATE_MS = 20;

/** True if the group or one below has a process. @throws {CgroupFileError} */
export function isPopulated(dir: string): boolean {
  return parseKey(readCgroupFile(`${dir}/cgroup.events`), 'populated') === 1n;
}

/** What is watched. */
export interface V2Watched {
  readonly dir: string;
  /** From the root of the hierarchy, as the kernel log has it. */
  readonly path: string;
}

class V2EventSource implements EventSource {
  readonly #dir: string;
  readonly #path: string;
  readonly #sink: EventSink;
  readonly #memory: StatFile;
  readonly #group: StatFile;
  readonly #watches: Disposable[] = [];
  readonly #counts = new Map<CounterType, bigint>();
  readonly #states = new Map<StateType, boolean>();
  #late: NodeJS.Timeout | undefined;
  #log: KernelLogWatch | undefined;
  /** OOM kills reported so far. */
  #kills = 0n;

  constructor({ dir, path }: V2Watched, changes: FileChanges, options: EventsOptions, sink: EventSink) {
    this.#dir = dir;
    this.#path = path;
    this.#sink = sink;
    this.#memory = new StatFile(`${dir}/memory.events`);
    this.#group = new StatFile(`${dir}/cgroup.events`);
    try {
      this.#open(changes, options);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  check(): void {
    if (this.#sink.hasEnded) return;
    // In this order: when the group is empty, no kill of its processes is still to come.
    const group = this.#group.readText();
    const memory = this.#memory.readText();
    if (memory !== undefined) this.#compareCounters(memory);
    if (group !== undefined) this.#compareStates(group);
    else if (!isDirectory(this.#dir)) this.#end();
  }

  #end(): void {
    // No init here whose pid would be a better witness.
    const missed = BigInt(this.#log?.oomKills(this.#path, 0) ?? 0) - this.#kills;
    if (missed > 0n) this.#rise('oom_kill', (this.#counts.get('oom_kill') ?? 0n) + missed);
    this.#sink.end();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#late);
    for (const watch of this.#watches.splice(0)) watch[Symbol.dispose]();
    this.#log?.[Symbol.dispose]();
    this.#log = undefined;
    this.#memory.close();
    this.#group.close();
  }

  /** Watched before the first reading, so that nothing falls between the two. */
  #open(changes: FileChanges, options: EventsOptions): void {
    if (!isDirectory(this.#dir)) throw new CgroupNotFoundError(this.#dir);
    const notified = (): void => this.#notified();
    // Without the memory controller there is no such file.
    if (this.#memory.read() >= 0) {
      this.#watches.push(changes.watch(this.#memory.path, notified));
      this.#log = kernelLog(changes.kernel).watch();
    }
    // The root has none, but the root is never removed.
    if (this.#group.read() >= 0) {
      this.#watches.push(changes.watch(this.#group.path, notified), changes.watchRemoval(this.#dir, notified));
    }
    for (const threshold of options.pressure ?? []) {
      const report = (): void => this.#sink.push({ type: 'pressure', threshold });
      this.#watches.push(watchPressure(this.#dir, threshold, changes.kernel, report));
    }
    const memory = this.#memory.readText() ?? '';
    for (const type of COUNTERS) this.#counts.set(type, parseKey(memory, type) ?? 0n);
    const group = this.#group.readText() ?? '';
    for (const type of STATES) this.#states.set(type, parseKey(group, type) === 1n);
  }

  #notified(): void {
    clearTimeout(this.#late);
    this.check();
    if (!this.#sink.hasEnded) this.#late = setTimeout(() => this.check(), LATE_MS).unref();
  }

  #compareCounters(text: string): void {
    for (const type of COUNTERS) {
      const total = parseKey(text, type);
      if (total !== undefined) this.#rise(type, total);
    }
  }

  #rise(type: CounterType, total: bigint): void {
    const count = total - (this.#counts.get(type) ?? 0n);
    if (count <= 0n) return;
    this.#counts.set(type, total);
    if (type === 'oom_kill') this.#kills += count;
    this.#sink.push({ type, count, total });
  }

  #compareStates(text: string): void {
    for (const type of STATES) {
      const value = parseKey(text, type);
      if (value === undefined || (value === 1n) === this.#states.get(type)) continue;
      this.#states.set(type, value === 1n);
      this.#sink.push(stateEvent(type, value === 1n));
    }
  }
}

function stateEvent(type: StateType, value: boolean): CgroupEvent {
  return type === 'populated' ? { type, populated: value } : { type, frozen: value };
}

/** @throws {CgroupNotFoundError}, {LaminaError} as `Cgroup.events` says */
export function watchV2Events(watched: V2Watched, changes: FileChanges, options: EventsOptions): EventStream {
  for (const threshold of options.pressure ?? []) assertThreshold(threshold);
  return new EventStream((sink) => new V2EventSource(watched, changes, options, sink), options.signal);
}
