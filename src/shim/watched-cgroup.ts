/**
 * The cgroup of one container as the shim uses it: found once, right after create; watched for OOM
 * kills; its last statistics kept for clients that ask after the exit; its limits changed.
 */
import type { Any } from '../api/index.js';
import { type Logger, messageOf } from '../base/index.js';
import {
  Cgroup,
  type CgroupDriver,
  type InitExit,
  type OnOom,
  type OomWatch,
  readMembershipBytes,
  unitFromCgroupPath,
  type WriteSlowly,
} from '../cgroups/index.js';
import type { LinuxResources } from '../oci/index.js';
import { SIGKILL } from '../sys/index.js';
import { packMetrics } from './metrics.js';

const FREEZE_MS = 10_000;

export interface WatchedCgroupOptions {
  /** Init's /proc/PID/cgroup at create, a character for each byte (latin1). */
  readonly membership: string;
  /** systemd has made it, and is to be told of changes. */
  readonly isSystemd: boolean;
  readonly onOom: OnOom;
  /** OOM kills that a predecessor engine has reported; undefined for a container that is new. */
  readonly oomKills: bigint | undefined;
  /** A predecessor has reported a shortage in which nobody was killed, and that may still last. */
  readonly isShort: boolean | undefined;
  readonly log: Logger;
  /** Does writes that may take long, where nobody else waits. */
  readonly writeSlowly: WriteSlowly;
}

export class WatchedCgroup {
  readonly #membership: Buffer;
  readonly #isSystemd: boolean;
  readonly #cgroup: Cgroup;
  readonly #log: Logger;
  readonly #writeSlowly: WriteSlowly;
  readonly #oom: OomWatch | undefined;
  #lastStats: Any | undefined;

  /** @throws LaminaError NotFound when the group is gone or not to be seen from here */
  constructor({ membership, isSystemd, onOom, oomKills, isShort, log, writeSlowly }: WatchedCgroupOptions) {
    this.#membership = Buffer.from(membership, 'latin1');
    this.#writeSlowly = writeSlowly;
    this.#isSystemd = isSystemd;
    this.#log = log;
    this.#cgroup = Cgroup.loadFromMembership(this.#membership);
    this.#oom = this.#watch(onOom, oomKills, isShort);
  }

  /**
   * Where a process is now, as `WatchedCgroupOptions` wants it.
   * @throws {LaminaError} NotFound when it is gone
   */
  static membershipOf(pid: number): string {
    return readMembershipBytes(pid).toString('latin1');
  }

  /** How many OOM kills were reported, of all that the group has seen. */
  get oomKills(): bigint | undefined {
    return this.#oom?.counted;
  }

  /** A shortage was reported in which nobody is killed, and it lasts. */
  get isShort(): boolean | undefined {
    return this.#oom?.isShort;
  }

  /** Whether `set` does all that the runtime would: on v1 only the runtime tells systemd. */
  get isSettable(): boolean {
    return !this.#isSystemd || this.#cgroup.mode === 'unified';
  }

  /**
   * Lays limits over those in force, or changes nothing. A frozen group stays frozen.
   * @returns those in force from now on
   * @throws as Cgroup.set
   */
  async set(update: LinuxResources, inForce: LinuxResources): Promise<LinuxResources> {
    const { path } = this.#cgroup;
    const below = this.#isSystemd ? (unitFromCgroupPath(path)?.below ?? '') : '';
    if (below === '') return await this.#setOne(this.#membership, this.#isSystemd ? 'systemd' : 'fs', update, inForce);
    // crun puts the container into a group of its own below the scope, with the same limits.
    await this.#setOne(`0::${path.slice(0, -below.length)}`, 'systemd', update, inForce);
    return await this.#setOne(this.#membership, 'fs', update, inForce);
  }

  /** Host pids of all processes. */
  pids(): Promise<number[]> {
    return this.#cgroup.listPids();
  }

  /** containerd's Metrics message of now, or the last one once there was an `end`. */
  stats(): Any {
    return this.#lastStats ?? packMetrics(this.#cgroup.stats());
  }

  freeze(): Promise<void> {
    return this.#cgroup.freeze(FREEZE_MS);
  }

  thaw(): Promise<void> {
    return this.#cgroup.thaw();
  }

  /** Ends every freeze in the group, those that the container has asked for itself included. */
  thawAll(): Promise<void> {
    return this.#cgroup.thawAll();
  }

  frozen(): boolean {
    return this.#cgroup.frozen();
  }

  /** Kills every process of the group. */
  kill(): Promise<void> {
    return this.#cgroup.kill();
  }

  /** Whether `signalAll` may freeze the group meanwhile. */
  freezesToSignal(signal: number): boolean {
    return signal !== SIGKILL || this.#cgroup.mode !== 'unified';
  }

  /** Sends a signal to every process of the group. */
  async signalAll(signal: number): Promise<void> {
    await this.#cgroup.signalAll(signal);
  }

  /**
   * On cgroup v1 a frozen process does not even notice SIGKILL; to be called after one was sent.
   */
  async letDie(signal: number): Promise<void> {
    if (signal !== SIGKILL || this.#cgroup.mode === 'unified') return;
    try {
      await this.#cgroup.thawAll();
    } catch (error) {
      this.#log.debug({ error: messageOf(error) }, 'thaw after SIGKILL');
    }
  }

  /** Init has ended: takes the last statistics and reports OOM kills not yet reported. */
  end(exit: InitExit): void {
    try {
      this.#lastStats = packMetrics(this.#cgroup.stats());
    } catch (error) {
      // A systemd scope is gone as soon as it is empty.
      this.#log.debug({ error: messageOf(error) }, 'no last statistics');
    }
    try {
      this.#oom?.drain(exit);
    } catch (error) {
      this.#log.debug({ error: messageOf(error) }, 'no last OOM count');
    }
  }

  /** Removes the empty groups below. @returns false if the time was over first */
  prune(timeoutMs: number): Promise<boolean> {
    return this.#cgroup.prune(timeoutMs);
  }

  close(): void {
    this.#oom?.[Symbol.dispose]();
    this.#cgroup.close();
  }

  async #setOne(
    membership: string | Buffer,
    driver: CgroupDriver,
    update: LinuxResources,
    resources: LinuxResources,
  ): Promise<LinuxResources> {
    using cgroup = Cgroup.loadFromMembership(membership, { driver, resources, writeSlowly: this.#writeSlowly });
    await cgroup.set(update);
    return cgroup.resources;
  }

  #watch(onOom: OnOom, from: bigint | undefined, wasShort: boolean | undefined): OomWatch | undefined {
    try {
      this.#cgroup.enableControllersAlongPath();
      return this.#cgroup.watchOom(onOom, from, wasShort);
    } catch (error) {
      this.#log.warn({ error: messageOf(error) }, 'no OOM events');
      return undefined;
    }
  }
}
