/**
 * OOM kills on v1: an eventfd registered through cgroup.event_control (Documentation/admin-guide/cgroup-v1/memory.rst, "OOM
 * Control") together with the oom_kill counter of memory.oom_control.
 *
 * The eventfd fires when memory has run out, before a process is chosen and counted; also when an ancestor's limit was hit,
 * which may kill nobody here; and when the group is removed. So it only starts a short series of readings.
 */
import { closeSync } from 'node:fs';
import type { InitExit, OomWatch } from '../cgroup.js';
import { CgroupFileError } from '../errors.js';
import { openFile, StatFile, writeCgroupFile } from '../file.js';
import type { CgroupKernel } from '../kernel.js';
import { kernelLog } from '../kmsg.js';
import { OomCounter, type OomPlace, type OomReading } from '../oom.js';
import { parseKey } from '../parse.js';

/** When to read again after the eventfd has fired without a rise; the kill follows within a few ms, or there is none. */
const LATER_READS_MS = [1, 4, 16, 64, 256, 1024];

/** Registers an eventfd for the OOM notifications of a group. */
function registerEventfd(dir: string, kernel: CgroupKernel): number {
  const path = `${dir}/memory.oom_control`;
  let controlFd: number;
  try {
    controlFd = openFile(path, 'r');
  } catch (error) {
    throw new CgroupFileError('open', path, error);
  }
  let eventfd = -1;
  try {
    eventfd = kernel.eventfd();
    writeCgroupFile(`${dir}/cgroup.event_control`, `${eventfd} ${controlFd}`);
    return eventfd;
  } catch (error) {
    if (eventfd >= 0) closeSync(eventfd);
    throw error;
  } finally {
    closeSync(controlFd);
  }
}

class V1OomWatch implements OomWatch {
  readonly #kernel: CgroupKernel;
  readonly #file: StatFile;
  readonly #counter: OomCounter;
  #eventfd: number;
  #poll: Disposable | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor({ dir, path, onOom, from }: OomPlace, kernel: CgroupKernel) {
    this.#kernel = kernel;
    this.#eventfd = registerEventfd(dir, kernel);
    this.#file = new StatFile(`${dir}/memory.oom_control`);
    const log = kernelLog(kernel).watch();
    this.#counter = new OomCounter({ read: () => this.#read(), onOom, path, from, log });
    this.#poll = kernel.watchReadable(this.#eventfd, () => this.#fired());
    this.#counter.check();
  }

  get counted(): bigint {
    return this.#counter.counted;
  }

  drain(exit?: InitExit): void {
    this.#counter.drain(exit);
  }

  [Symbol.dispose](): void {
    this.#counter.end();
    this.#stop();
    this.#file.close();
  }

  #read(): OomReading | undefined {
    const text = this.#file.readText();
    return text === undefined ? undefined : { kills: parseKey(text, 'oom_kill') ?? 0n, shortages: 0n };
  }

  #fired(): void {
    this.#kernel.readEventfd(this.#eventfd);
    clearTimeout(this.#timer);
    // A removed group notifies once, and never again.
    if (this.#read() === undefined) this.#stop();
    else this.#readUntilRise(0);
  }

  #readUntilRise(attempt: number): void {
    if (this.#counter.check()) return;
    const waitMs = LATER_READS_MS[attempt];
    if (waitMs === undefined) return;
    this.#timer = setTimeout(() => this.#readUntilRise(attempt + 1), waitMs).unref();
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#poll?.[Symbol.dispose]();
    this.#poll = undefined;
    if (this.#eventfd >= 0) closeSync(this.#eventfd);
    this.#eventfd = -1;
  }
}

/** @throws {CgroupFileError} NotFound if the group has no memory.oom_control or the kernel no cgroup.event_control */
export function watchOom(place: OomPlace, kernel: CgroupKernel): OomWatch {
  return new V1OomWatch(place, kernel);
}
