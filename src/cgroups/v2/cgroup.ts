import { Code, codeOf, SerialQueue } from '../../base/index.js';
import type { LinuxResources } from '../../oci/index.js';
import { SIGKILL } from '../../sys/index.js';
import type { Cgroup, DestroyOptions, OnOom, OomWatch } from '../cgroup.js';
import type { FileChanges } from '../changes.js';
import { removeBelow, removeTree } from '../destroy.js';
import type { CgroupMount } from '../detect.js';
import { CgroupNotFoundError, isGone, isUnsupported } from '../errors.js';
import type { CgroupEvent, EventsOptions } from '../events.js';
import { isDirectory, readCgroupFile, type WriteSlowly, writeCgroupFile, writeInPool } from '../file.js';
import { GroupStreams } from '../group-streams.js';
import { cgroupDirectory, readMembership } from '../membership.js';
import { assertPid, moveProcess } from '../move.js';
import { parseKey } from '../parse.js';
import { type CgroupIo, cgroupIoWith } from '../resources/index.js';
import { assertNotOurs, killProcesses, type SignalTarget, signalProcesses } from '../signal.js';
import type { StatsOptions, V2Stats } from '../stats.js';
import { listProcesses, processesBelow } from '../tree.js';
import { inTurns } from '../turns.js';
import { enableControllersAlongPath } from './controllers.js';
import { isPopulated, watchV2Events } from './events.js';
import { freeze, isFreezeAsked, isFrozen, thaw, thawTree } from './freezer.js';
import { watchOom } from './oom.js';
import { applyResources } from './resources.js';
import { V2StatsReader } from './stats.js';

const FREEZE_TIMEOUT_MS = 10_000;
const THAW_TIMEOUT_MS = 2_000;
const KILL_TIMEOUT_MS = 10_000;
const DESTROY_TIMEOUT_MS = 10_000;

export interface V2CgroupOptions {
  /** The limits in force. */
  readonly resources?: LinuxResources;
  /** Whether `set` enforces `devices`; default 'ignore'. */
  readonly devices?: 'apply' | 'ignore';
  /** See LoadOptions. */
  readonly writeSlowly?: WriteSlowly | undefined;
}

/** A container's group in the v2 hierarchy. */
export class V2Cgroup implements Cgroup {
  readonly mode = 'unified';
  readonly driver = 'fs';
  readonly path: string;
  readonly #mount: CgroupMount;
  readonly #dir: string;
  readonly #changes: () => FileChanges;
  readonly #stats: V2StatsReader;
  readonly #devices: 'apply' | 'ignore';
  readonly #streams = new GroupStreams();
  /** How its files are read and written. */
  readonly io: CgroupIo;
  readonly #setting = new SerialQueue();
  #resources: LinuxResources;

  /**
   * @param path as the kernel prints it in /proc/PID/cgroup
   * @param changes asked for when something has to be waited for
   * @throws {CgroupNotFoundError}
   */
  constructor(mount: CgroupMount, path: string, changes: () => FileChanges, options: V2CgroupOptions = {}) {
    this.path = path;
    this.#mount = mount;
    this.#dir = cgroupDirectory(mount, path);
    this.#changes = changes;
    this.#stats = new V2StatsReader(this.#dir);
    this.#devices = options.devices ?? 'ignore';
    this.#resources = options.resources ?? {};
    this.io = cgroupIoWith(options.writeSlowly ?? writeInPool);
    if (!this.exists()) throw new CgroupNotFoundError(path);
  }

  get resources(): LinuxResources {
    return this.#resources;
  }

  /** Where the group's files are. */
  get dir(): string {
    return this.#dir;
  }

  exists(): boolean {
    return isDirectory(this.#dir);
  }

  stats(options: StatsOptions = {}): V2Stats {
    return this.#stats.read(options);
  }

  pids(): number[] {
    return listProcesses(this.#dir);
  }

  async listPids(): Promise<number[]> {
    return await inTurns(processesBelow(this.#dir));
  }

  async freeze(timeoutMs = FREEZE_TIMEOUT_MS): Promise<void> {
    this.#assertNotOurs('freeze');
    await freeze(this.#dir, this.#changes(), timeoutMs);
  }

  async thaw(timeoutMs = THAW_TIMEOUT_MS): Promise<void> {
    await thaw(this.#dir, this.#changes(), timeoutMs);
  }

  /** Without a freezer (before Linux 5.2) nothing is frozen. */
  async thawAll(): Promise<void> {
    try {
      await inTurns(thawTree(this.#dir));
    } catch (error) {
      if (codeOf(error) !== Code.Unimplemented) throw error;
    }
  }

  frozen(): boolean {
    return isFrozen(this.#dir);
  }

  async kill(timeoutMs = KILL_TIMEOUT_MS): Promise<void> {
    this.#assertNotOurs('kill');
    try {
      writeCgroupFile(`${this.#dir}/cgroup.kill`, '1');
    } catch (error) {
      // No such file before Linux 5.14; EOPNOTSUPP in a threaded group.
      if (!isGone(error) && !isUnsupported(error)) throw error;
      if (this.exists()) await killProcesses(this.#signalTarget(), timeoutMs);
    }
  }

  async signalAll(signal: number): Promise<number> {
    this.#assertNotOurs('signal');
    if (signal !== SIGKILL) return signalProcesses(this.#signalTarget(), signal);
    const count = (await this.listPids()).length;
    await this.kill();
    return count;
  }

  oomKills(): bigint {
    try {
      return parseKey(readCgroupFile(`${this.#dir}/memory.events`), 'oom_kill') ?? 0n;
    } catch (error) {
      if (!isGone(error)) throw error;
      if (!this.exists()) throw new CgroupNotFoundError(this.path, error);
      return 0n;
    }
  }

  /** Without a killer that can be off, there are no shortages to go on with. */
  watchOom(onOom: OnOom, from?: bigint, _wasShort?: boolean): OomWatch {
    return watchOom({ dir: this.#dir, path: this.path, onOom, from }, this.#changes());
  }

  enableControllersAlongPath(): void {
    enableControllersAlongPath(this.#mount.mountPoint, this.#dir);
  }

  async apply(pid: number): Promise<void> {
    assertPid(pid);
    await moveProcess(this.#dir, pid);
  }

  /** One after the other: each is laid over what the one before has left. */
  set(resources: LinuxResources): Promise<void> {
    return this.#setting.run(async () => {
      if (!this.exists()) throw new CgroupNotFoundError(this.path);
      using applied = await applyResources(this.#dir, this.#resources, resources, this.#devices, this.io);
      this.#resources = applied.resources;
    });
  }

  events(options: EventsOptions = {}): AsyncIterableIterator<CgroupEvent> {
    return this.#streams.add(watchV2Events({ dir: this.#dir, path: this.path }, this.#changes(), options));
  }

  async destroy(options: DestroyOptions = {}): Promise<void> {
    this.#assertNotOurs('destroy');
    const deadline = performance.now() + (options.timeoutMs ?? DESTROY_TIMEOUT_MS);
    const wait = (dir: string, leftMs: number): Promise<void> => this.#untilEmpty(dir, leftMs);
    await this.#streams.endWith(
      () => wait(this.#dir, deadline - performance.now()),
      () => removeTree(this.#dir, wait, deadline),
    );
    this.close();
  }

  async prune(timeoutMs: number): Promise<boolean> {
    return await inTurns(removeBelow(this.#dir, performance.now() + timeoutMs));
  }

  close(): void {
    this.#stats.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #assertNotOurs(action: string): void {
    assertNotOurs(action, this.path, readMembership('self').unified);
  }

  async #untilEmpty(dir: string, timeoutMs: number): Promise<void> {
    try {
      await this.#changes().waitFor(`${dir}/cgroup.events`, () => !isPopulated(dir), timeoutMs);
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  }

  /** Without a freezer (before Linux 5.2) a group is never paused. */
  #isPaused(): boolean {
    try {
      return isFreezeAsked(this.#dir);
    } catch (error) {
      if (codeOf(error) !== Code.Unimplemented) throw error;
      return false;
    }
  }

  async #thawIfFrozen(): Promise<void> {
    if (this.#isPaused()) await this.thaw();
  }

  #signalTarget(): SignalTarget {
    return {
      path: this.path,
      pids: () => this.listPids(),
      freeze: (timeoutMs) => this.freeze(timeoutMs),
      thaw: () => this.#thawIfFrozen(),
      thawAll: () => this.thawAll(),
      isPaused: () => this.#isPaused(),
    };
  }
}
