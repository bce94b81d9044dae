import { Code, codeOf } from '../../base/index.js';
import { SIGKILL } from '../../sys/index.js';
import type { Cgroup, OnOom, OomWatch } from '../cgroup.js';
import type { FileChanges } from '../changes.js';
import type { CgroupMount } from '../detect.js';
import { CgroupNotFoundError, isGone, isUnsupported } from '../errors.js';
import { isDirectory, readCgroupFile, writeCgroupFile } from '../file.js';
import { cgroupDirectory, readMembership } from '../membership.js';
import { parseKey } from '../parse.js';
import { assertNotOurs, killProcesses, type SignalTarget, signalProcesses } from '../signal.js';
import type { V2Stats } from '../stats.js';
import { listProcesses } from '../tree.js';
import { enableControllersAlongPath } from './controllers.js';
import { freeze, isFreezeAsked, isFrozen, thaw } from './freezer.js';
import { watchOom } from './oom.js';
import { V2StatsReader } from './stats.js';

const FREEZE_TIMEOUT_MS = 10_000;
const THAW_TIMEOUT_MS = 2_000;
const KILL_TIMEOUT_MS = 10_000;

/** A container's group in the v2 hierarchy. */
export class V2Cgroup implements Cgroup {
  readonly mode = 'unified';
  readonly path: string;
  readonly #mount: CgroupMount;
  readonly #dir: string;
  readonly #changes: () => FileChanges;
  readonly #stats: V2StatsReader;

  /**
   * @param path as the kernel prints it in /proc/PID/cgroup
   * @param changes asked for when something has to be waited for
   * @throws {CgroupNotFoundError}
   */
  constructor(mount: CgroupMount, path: string, changes: () => FileChanges) {
    this.path = path;
    this.#mount = mount;
    this.#dir = cgroupDirectory(mount, path);
    this.#changes = changes;
    this.#stats = new V2StatsReader(this.#dir);
    if (!this.exists()) throw new CgroupNotFoundError(path);
  }

  exists(): boolean {
    return isDirectory(this.#dir);
  }

  stats(): V2Stats {
    return this.#stats.read();
  }

  pids(): number[] {
    return listProcesses(this.#dir);
  }

  async freeze(timeoutMs = FREEZE_TIMEOUT_MS): Promise<void> {
    this.#assertNotOurs('freeze');
    await freeze(this.#dir, this.#changes(), timeoutMs);
  }

  async thaw(timeoutMs = THAW_TIMEOUT_MS): Promise<void> {
    await thaw(this.#dir, this.#changes(), timeoutMs);
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
    const count = this.pids().length;
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

  watchOom(onOom: OnOom): OomWatch {
    return watchOom(this.#dir, this.path, this.#changes(), onOom);
  }

  enableControllersAlongPath(): void {
    enableControllersAlongPath(this.#mount.mountPoint, this.#dir);
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
      pids: () => this.pids(),
      freeze: (timeoutMs) => this.freeze(timeoutMs),
      thaw: () => this.#thawIfFrozen(),
      isPaused: () => this.#isPaused(),
    };
  }
}
