/**
 * What memory shortages do to a v1 group: an eventfd registered through cgroup.event_control
 * (Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control"), and memory.oom_control.
 *
 * The eventfd fires when memory has run out in the group or in one above, before anything is done
 * about it, and when the group is removed. What is done about it may be nothing here: a process
 * elsewhere is killed. So it only starts a short series of readings, which look for one of three:
 * - `oom_kill` of the group has risen;
 * - that of a group below has, as v1 counts a kill in the victim's own group only;
 * - the killer is off, so that processes stand still until somebody gives them memory or kills them
 *   (`under_oom`).
 */
import { closeSync } from 'node:fs';
import { posix } from 'node:path';
import type { InitExit, OomWatch } from '../cgroup.js';
import { CgroupFileError, isGone } from '../errors.js';
import { openFile, readCgroupFile, StatFile, writeCgroupFile } from '../file.js';
import type { CgroupKernel } from '../kernel.js';
import { kernelLog } from '../kmsg.js';
import { OomCounter, type OomPlace, type OomReading } from '../oom.js';
import { parseKey } from '../parse.js';
import { groupsBelow } from '../walk.js';

/**
 * When to read again after the eventfd has fired without a rise; the kill follows within a few ms,
 * or there is none.
 */
const LATER_READS_MS = [1, 4, 16, 64, 256, 1024];
/** How often to look whether a shortage has ended in which nobody is killed. */
const SHORTAGE_READ_MS = 1000;
/** Of groups below so many are looked at: a container can make any number. */
const MAX_BELOW = 256;

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

/** A group's memory.oom_control; undefined if it is not there. */
function readControl(dir: string): string | undefined {
  try {
    return readCgroupFile(`${dir}/memory.oom_control`);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** How many processes of the groups below were killed. */
function killsBelow(dir: string): bigint {
  let kills = 0n;
  let seen = 0;
  for (const group of groupsBelow(dir, 'down')) {
    if (group !== dir) kills += parseKey(readControl(group) ?? '', 'oom_kill') ?? 0n;
    seen += 1;
    if (seen > MAX_BELOW) break;
  }
  return kills;
}

/**
 * Whether processes of the group stand still for want of memory. What decides is the killer of the
 * group that has run out, which marks all below it as well.
 * @param control the group's own memory.oom_control
 */
function standsStill(dir: string, control: string): boolean {
  let text: string | undefined = control;
  for (let group = dir; text !== undefined && parseKey(text, 'under_oom') === 1n; text = readControl(group)) {
    if (parseKey(text, 'oom_kill_disable') === 1n) return true;
    group = posix.dirname(group);
  }
  return false;
}

class V1OomWatch implements OomWatch {
  readonly #kernel: CgroupKernel;
  readonly #place: OomPlace;
  readonly #file: StatFile;
  readonly #counter: OomCounter;
  #eventfd: number;
  #poll: Disposable | undefined;
  #timer: NodeJS.Timeout | undefined;
  #shortage: NodeJS.Timeout | undefined;
  /** In the groups below, when the eventfd had nothing new to tell. */
  #below: bigint;
  #isShort: boolean;

  constructor(place: OomPlace, kernel: CgroupKernel) {
    const { dir, path, onOom, from, wasShort = false } = place;
    this.#kernel = kernel;
    this.#place = place;
    this.#isShort = wasShort;
    this.#eventfd = registerEventfd(dir, kernel);
    this.#file = new StatFile(`${dir}/memory.oom_control`);
    this.#below = killsBelow(dir);
    const log = kernelLog(kernel).watch();
    this.#counter = new OomCounter({ read: () => this.#read(), onOom, path, from, log });
    this.#poll = kernel.watchReadable(this.#eventfd, () => this.#fired());
    this.#counter.check();
    // One that lasts may have begun before the eventfd was there.
    this.#checkShortage();
  }

  get counted(): bigint {
    return this.#counter.counted;
  }

  get isShort(): boolean {
    return this.#isShort;
  }

  drain(exit?: InitExit): void {
    const isPending = this.#eventfd >= 0 && this.#kernel.readEventfd(this.#eventfd) > 0n;
    this.#counter.drain(exit);
    if (!isPending) return;
    const control = this.#file.readText();
    if (control === undefined) return;
    // Who stood still has ended: that the eventfd has fired is all there is to tell of it.
    const stoodStill = exit !== undefined && parseKey(control, 'oom_kill_disable') === 1n;
    if (stoodStill && !this.#isShort) this.#place.onOom(0n);
    else this.#readUntilRise(0);
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
    // A removed group notifies once, and never again.
    if (this.#read() === undefined) this.#stop();
    else this.#readUntilRise(0);
  }

  #readUntilRise(attempt: number): void {
    clearTimeout(this.#timer);
    const isTold = this.#counter.check();
    const isToldBelow = this.#checkBelow(isTold);
    if (this.#checkShortage() || isTold || isToldBelow) return;
    const waitMs = LATER_READS_MS[attempt];
    if (waitMs === undefined) return;
    this.#timer = setTimeout(() => this.#readUntilRise(attempt + 1), waitMs).unref();
  }

  /** @param isTold what has happened was reported already @returns whether there were kills */
  #checkBelow(isTold: boolean): boolean {
    const kills = killsBelow(this.#place.dir);
    const rise = kills - this.#below;
    // Less when groups were removed.
    this.#below = kills;
    if (rise > 0n && !isTold) this.#place.onOom(rise);
    return rise > 0n;
  }

  /**
   * Reports a shortage in which nobody is killed, once for as long as it lasts.
   * @returns whether there is one
   */
  #checkShortage(): boolean {
    clearTimeout(this.#shortage);
    const control = this.#file.readText();
    const isShort = control !== undefined && standsStill(this.#place.dir, control);
    const isNew = isShort && !this.#isShort;
    this.#isShort = isShort;
    if (isShort) this.#shortage = setTimeout(() => this.#checkShortage(), SHORTAGE_READ_MS).unref();
    if (isNew) this.#place.onOom(0n);
    return isShort;
  }

  #stop(): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#shortage);
    this.#poll?.[Symbol.dispose]();
    this.#poll = undefined;
    if (this.#eventfd >= 0) closeSync(this.#eventfd);
    this.#eventfd = -1;
  }
}

/**
 * @throws {CgroupFileError} NotFound if the group has no memory.oom_control or the kernel no
 *   cgroup.event_control
 */
export function watchOom(place: OomPlace, kernel: CgroupKernel): OomWatch {
  return new V1OomWatch(place, kernel);
}
