/**
 * What v1 tells of: memory that has run out by eventfd, and the group's end. It notifies of neither
 * its processes nor its freezer.
 */
import { Code, LaminaError } from '../../base/index.js';
import type { OomWatch } from '../cgroup.js';
import type { FileChanges } from '../changes.js';
import { CgroupNotFoundError } from '../errors.js';
import { type EventSink, type EventSource, EventStream } from '../event-stream.js';
import type { EventsOptions } from '../events.js';
import { isDirectory } from '../file.js';
import { watchOom } from './oom.js';

/** What is watched of a group. */
export interface V1Watched {
  /** The directory whose removal is the end. */
  readonly dir: string;
  /** In the memory hierarchy, if it is there. */
  readonly memory: { readonly dir: string; readonly path: string } | undefined;
  /** The counter now. @throws when the group has gone */
  oomKills(): bigint;
}

class V1EventSource implements EventSource {
  readonly #watched: V1Watched;
  readonly #sink: EventSink;
  readonly #removal: Disposable;
  readonly #oom: OomWatch | undefined;
  #total: bigint;
  #shortages = 0n;

  constructor(watched: V1Watched, changes: FileChanges, sink: EventSink) {
    this.#watched = watched;
    this.#sink = sink;
    this.#total = watched.oomKills();
    this.#removal = changes.watchRemoval(watched.dir, () => this.check());
    try {
      const { memory } = watched;
      const report = (count: bigint): void => this.#report(count);
      this.#oom = memory === undefined ? undefined : watchOom({ ...memory, onOom: report }, changes.kernel);
    } catch (error) {
      this.#removal[Symbol.dispose]();
      throw error;
    }
  }

  check(): void {
    if (this.#sink.hasEnded) return;
    const isGone = !isDirectory(this.#watched.dir);
    // Gone, its counter cannot be read any more, and the kernel log is asked. There is no init here
    // to know more.
    this.#oom?.drain(isGone ? { pid: 0, wasKilled: false, wasKillAsked: false } : undefined);
    if (isGone) this.#sink.end();
  }

  [Symbol.dispose](): void {
    this.#oom?.[Symbol.dispose]();
    this.#removal[Symbol.dispose]();
  }

  #report(count: bigint): void {
    if (count === 0n) {
      this.#shortages += 1n;
      this.#sink.push({ type: 'oom', count: 1n, total: this.#shortages });
      return;
    }
    this.#total = this.#readTotal() ?? this.#total + count;
    this.#sink.push({ type: 'oom_kill', count, total: this.#total });
  }

  #readTotal(): bigint | undefined {
    try {
      return this.#watched.oomKills();
    } catch (error) {
      if (error instanceof CgroupNotFoundError) return undefined;
      throw error;
    }
  }
}

/** @throws {LaminaError} Unimplemented when pressure is asked for */
export function watchV1Events(watched: V1Watched, changes: FileChanges, options: EventsOptions): EventStream {
  if ((options.pressure ?? []).length > 0) {
    throw new LaminaError(Code.Unimplemented, `watch the pressure of ${watched.dir}: cgroup v1 does not tell it`, {
      subject: watched.dir,
    });
  }
  return new EventStream((sink) => new V1EventSource(watched, changes, sink), options.signal);
}
