/**
 * The cgroup of one container as its requests use it: found right after create, or not at all. Where there is none to be seen, or where only the
 * runtime can do what is asked for, the runtime is called.
 */
import type { Any } from '../api/index.js';
import { Code, codeOf, LaminaError, type Logger, messageOf } from '../base/index.js';
import type { InitExit as InitEnd } from '../cgroups/index.js';
import type { Runc } from '../oci/index.js';
import { removeLeftCgroup } from './left-cgroup.js';
import { Limits } from './limits.js';
import type { ContainerRecord, ContainerSettings } from './record.js';
import { WatchedCgroup } from './watched-cgroup.js';

export interface ContainerCgroupOptions {
  readonly settings: ContainerSettings;
  readonly runc: Runc;
  readonly log: Logger;
  /** The kernel has killed a process for want of memory. */
  readonly onOom: () => void;
  /** Has the keeper know the record, before anything else is done. */
  readonly save: () => void;
}

export class ContainerCgroup {
  readonly #options: ContainerCgroupOptions;
  #limits: Limits;
  #watched: WatchedCgroup | undefined;
  /** OOM kills, one number for each report that waits; undefined while none has to. */
  #untold: bigint[] | undefined;
  /** Signals to all processes that are under way. */
  #signaling = 0;

  constructor(options: ContainerCgroupOptions) {
    this.#options = options;
    this.#limits = new Limits(options.settings.bundle, undefined);
  }

  /** There is one, and it can be seen from here. */
  get isKnown(): boolean {
    return this.#watched !== undefined;
  }

  /** What a successor engine needs to go on with it. */
  get record(): Pick<ContainerRecord, 'cgroup' | 'oomKills' | 'limits' | 'isSignaling'> {
    const seen = this.#watched?.oomKills;
    const untold = (this.#untold ?? []).reduce((sum, kills) => sum + kills, 0n);
    return {
      isSignaling: this.#signaling > 0,
      cgroup: this.#watched?.membership,
      oomKills: seen === undefined ? undefined : (seen - untold).toString(),
      limits: this.#limits.changed,
    };
  }

  /** Goes on with what a predecessor engine had. */
  restore({ cgroup, oomKills, limits }: Pick<ContainerRecord, 'cgroup' | 'oomKills' | 'limits'>): void {
    this.#limits = new Limits(this.#options.settings.bundle, limits);
    if (cgroup !== undefined) this.#open(() => cgroup, oomKills === undefined ? undefined : BigInt(oomKills));
  }

  /** Reports of OOM kills wait from now on: init may be out of memory before the runtime has said that it was started. */
  holdOoms(): void {
    this.#untold ??= [];
  }

  /** Reports what was held back, and what comes from now on at once. */
  tellOoms(): void {
    const untold = this.#untold ?? [];
    this.#untold = undefined;
    for (const _ of untold) this.#options.onOom();
  }

  /** Finds the group of init, while that is certainly where create put it. */
  find(pid: number): void {
    this.#open(() => WatchedCgroup.membershipOf(pid), undefined);
  }

  /** Stops all processes. @throws LaminaError with the stock prefix */
  async pause(): Promise<void> {
    if (this.#watched === undefined) await this.#options.runc.pause(this.#options.settings.id);
    else await prefixed('OCI runtime pause failed', this.#watched.freeze());
  }

  /** Lets them go on. @throws LaminaError with the stock prefix */
  async resume(): Promise<void> {
    if (this.#watched === undefined) await this.#options.runc.resume(this.#options.settings.id);
    else await prefixed('OCI runtime resume failed', this.#watched.thaw());
  }

  /** @param resources OCI LinuxResources, JSON @throws LaminaError with the stock prefix */
  async update(resources: Uint8Array): Promise<void> {
    if (this.#watched?.isSettable !== true) await this.#options.runc.update(this.#options.settings.id, resources);
    else await prefixed('OCI runtime update failed', this.#limits.update(this.#watched, resources));
  }

  /** Host pids of all processes; undefined without a group. */
  pids(): number[] | undefined {
    return this.#watched?.pids();
  }

  /** @throws LaminaError NotFound when the container never had a cgroup */
  stats(): Any {
    if (this.#watched === undefined) throw new LaminaError(Code.NotFound, 'cgroup does not exist: not found');
    return this.#watched.stats();
  }

  frozen(): boolean {
    return this.#watched?.frozen() === true;
  }

  async signalAll(signal: number): Promise<void> {
    const watched = this.#watched;
    if (watched === undefined) return;
    if (!watched.freezesToSignal(signal)) {
      await watched.signalAll(signal);
      return;
    }
    this.#signaling += 1;
    this.#options.save();
    try {
      await watched.signalAll(signal);
    } finally {
      this.#signaling -= 1;
      if (this.#signaling === 0) this.#options.save();
    }
  }

  /** Goes on with a group that a predecessor engine had frozen to signal it. */
  async endSignaling(): Promise<void> {
    if (this.frozen()) await this.endLeftovers('thaw');
  }

  /** To be called after a signal was sent: lets frozen processes notice SIGKILL. */
  async letDie(signal: number): Promise<void> {
    await this.#watched?.letDie(signal);
  }

  /**
   * Ends what init has left, or would keep from ending.
   * @param how kill: all processes; thaw: whatever was frozen goes on, and so dies
   */
  async endLeftovers(how: 'kill' | 'thaw'): Promise<void> {
    try {
      await this.#watched?.[how]();
    } catch (error) {
      this.#options.log.warn({ error: messageOf(error) }, 'end what init left');
    }
  }

  /** Init has ended: takes the last statistics and reports OOM kills not yet reported. */
  end(exit: InitEnd): void {
    this.#watched?.end(exit);
  }

  /** Removes the group of a container that the runtime does not know, or not any more. */
  async removeLeft(): Promise<void> {
    const { settings, log } = this.#options;
    try {
      await removeLeftCgroup(settings.bundle, settings.systemdCgroup);
    } catch (error) {
      log.warn({ error: messageOf(error) }, 'remove the cgroup that the runtime has left');
    }
  }

  close(): void {
    this.#watched?.close();
  }

  /** @param oomKills those a predecessor has reported */
  #open(membership: () => string, oomKills: bigint | undefined): void {
    const { settings, onOom, log } = this.#options;
    const report = (kills: bigint): void => {
      if (this.#untold === undefined) onOom();
      else this.#untold.push(kills);
    };
    try {
      this.#watched = new WatchedCgroup({
        membership: membership(),
        isSystemd: settings.systemdCgroup,
        onOom: report,
        oomKills,
        log,
      });
    } catch (error) {
      log.warn({ error: messageOf(error) }, 'no cgroup: no statistics, no OOM events');
    }
  }
}

async function prefixed(prefix: string, work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    throw new LaminaError(codeOf(error), `${prefix}: ${messageOf(error)}`, { cause: error });
  }
}
