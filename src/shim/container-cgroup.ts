/**
 * The cgroup of one container as its requests use it: found right after create, or not at all.
 * Where there is none to be seen, or where only the runtime can do what is asked for, the runtime
 * is called.
 */
import type { Any } from '../api/index.js';
import { Code, codeOf, LaminaError, type Logger, messageOf } from '../base/index.js';
import { currentLayout, type InitExit as InitEnd } from '../cgroups/index.js';
import type { Runc } from '../oci/index.js';
import { type RunWork, SIGKILL } from '../sys/index.js';
import { removeLeftCgroup } from './left-cgroup.js';
import { Limits } from './limits.js';
import type { ContainerRecord, ContainerSettings } from './record.js';
import { WatchedCgroup, type WatchedCgroupOptions } from './watched-cgroup.js';

/** How long Delete may take longer for the groups that the container has made. */
const PRUNE_MS = 1_000;

export interface ContainerCgroupOptions {
  readonly settings: ContainerSettings;
  readonly runc: Runc;
  readonly log: Logger;
  /** The kernel has killed a process for want of memory. */
  readonly onOom: () => void;
  /** Has the keeper know the record, before anything else is done. */
  readonly save: () => void;
  /** Does what may take long. */
  readonly work: RunWork;
  /** How long one write of a limit may take. */
  readonly limitsMs: number;
}

/** Where the group is, and what was told of it before it was opened. */
type Place = Pick<WatchedCgroupOptions, 'membership' | 'oomKills' | 'isShort'>;

export class ContainerCgroup {
  readonly #options: ContainerCgroupOptions;
  #limits: Limits;
  #watched: WatchedCgroup | undefined;
  /**
   * Where the group is, as the record has it; opened again at the next use when something was in
   * the way.
   */
  #place: Place | undefined;
  #isLost = false;
  /** OOM kills, one number for each report that waits; undefined while none has to. */
  #untold: bigint[] | undefined;
  /** Signals to all processes that are under way. */
  #signaling = 0;

  constructor(options: ContainerCgroupOptions) {
    this.#options = options;
    this.#limits = new Limits(options.settings.bundle, undefined);
  }

  /** What a successor engine needs to go on with it. */
  get record(): Pick<ContainerRecord, 'cgroup' | 'oomKills' | 'isShort' | 'limits' | 'isSignaling'> {
    const seen = this.#watched ?? this.#place;
    const untold = (this.#untold ?? []).reduce((sum, kills) => sum + kills, 0n);
    return {
      isSignaling: this.#signaling > 0,
      cgroup: this.#place?.membership,
      oomKills: seen?.oomKills === undefined ? undefined : (seen.oomKills - untold).toString(),
      isShort: seen?.isShort === true && !(this.#untold ?? []).includes(0n),
      limits: this.#limits.changed,
    };
  }

  /** Goes on with what a predecessor engine had. */
  restore({
    cgroup,
    oomKills,
    isShort,
    limits,
  }: Pick<ContainerRecord, 'cgroup' | 'oomKills' | 'isShort' | 'limits'>): void {
    this.#limits = new Limits(this.#options.settings.bundle, limits);
    if (cgroup === undefined) return;
    this.#place = { membership: cgroup, oomKills: oomKills === undefined ? undefined : BigInt(oomKills), isShort };
    this.#open();
  }

  /**
   * Reports of OOM kills wait from now on: init may be out of memory before the runtime has said
   * that it was started.
   */
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
    try {
      this.#place = { membership: WatchedCgroup.membershipOf(pid), oomKills: undefined, isShort: undefined };
      this.#open();
    } catch (error) {
      this.#warn(error);
    }
  }

  /** Stops all processes. @throws LaminaError with the stock prefix */
  async pause(): Promise<void> {
    const group = this.#group;
    if (group === undefined) await this.#options.runc.pause(this.#id);
    else await prefixed('OCI runtime pause failed', group.freeze());
  }

  /** Lets them go on. @throws LaminaError with the stock prefix */
  async resume(): Promise<void> {
    const group = this.#group;
    if (group === undefined) await this.#options.runc.resume(this.#id);
    else await prefixed('OCI runtime resume failed', group.thaw());
  }

  /** @param resources OCI LinuxResources, JSON @throws LaminaError with the stock prefix */
  async update(resources: Uint8Array): Promise<void> {
    const group = this.#group;
    if (group?.isSettable === true) {
      await prefixed('OCI runtime update failed', this.#limits.update(group, resources));
      return;
    }
    // The runtime would put the limits of the create in force again beside the new ones.
    if (this.#limits.changed !== undefined) {
      const what = `OCI runtime update failed: the cgroup of ${this.#id} cannot be opened, and it was updated before`;
      throw new LaminaError(Code.Unavailable, what, { subject: this.#id });
    }
    await this.#options.runc.update(this.#id, resources);
  }

  /**
   * Host pids of all processes.
   * @param isAlive init is, as far as is known: of others the runtime lists nothing
   */
  async pids(isAlive: boolean): Promise<number[]> {
    const group = this.#group;
    if (group !== undefined) return await group.pids();
    return isAlive ? await this.#options.runc.ps(this.#id) : [];
  }

  /** @throws LaminaError NotFound when the container never had a cgroup */
  stats(): Any {
    const group = this.#group;
    if (group === undefined) throw new LaminaError(Code.NotFound, 'cgroup does not exist: not found');
    return group.stats();
  }

  /**
   * Its processes are not frozen, by a pause or by somebody else, above it too; as far as that can
   * be seen.
   */
  get mayRun(): boolean {
    try {
      return this.#group?.frozen() !== true;
    } catch {
      // There is no group any more.
      return true;
    }
  }

  /** Sends a signal to every process. @throws LaminaError */
  async signalAll(signal: number): Promise<void> {
    const group = this.#group;
    if (group === undefined) {
      await this.#options.runc.kill(this.#id, signal, { all: true });
      return;
    }
    if (!group.freezesToSignal(signal)) {
      await group.signalAll(signal);
      return;
    }
    this.#signaling += 1;
    this.#options.save();
    try {
      await group.signalAll(signal);
    } finally {
      this.#signaling -= 1;
      if (this.#signaling === 0) this.#options.save();
    }
  }

  /**
   * Goes on with a group that a predecessor engine had frozen to signal it; what the container has
   * frozen itself stays so.
   */
  async endSignaling(): Promise<void> {
    try {
      if (this.#group?.frozen() === true) await this.#group.thaw();
    } catch (error) {
      this.#options.log.warn({ error: messageOf(error) }, 'thaw what was frozen for a signal');
    }
  }

  /** To be called after a signal was sent: lets frozen processes notice SIGKILL. */
  async letDie(signal: number): Promise<void> {
    if (signal !== SIGKILL) return;
    if (this.#group === undefined) await this.#resumeByRuntime();
    else await this.#group.letDie(signal);
  }

  /**
   * Ends what init has left, or would keep from ending.
   * @param how kill: all processes; thaw: whatever was frozen goes on, and so dies
   */
  async endLeftovers(how: 'kill' | 'thaw'): Promise<void> {
    const group = this.#group;
    try {
      if (group === undefined) await this.#endLeftoversByRuntime(how);
      else await (how === 'kill' ? group.kill() : group.thawAll());
    } catch (error) {
      this.#options.log.warn({ error: messageOf(error) }, 'end what init left');
    }
  }

  /** Init has ended: takes the last statistics and reports OOM kills not yet reported. */
  end(exit: InitEnd): void {
    this.#watched?.end(exit);
  }

  /**
   * Removes the groups that the container has made below its own, before the runtime does: that one
   * fails, or leaves them and says nothing, where they are nested deeper than a path can be long. A
   * Delete that is repeated goes on with the rest.
   */
  async prune(): Promise<void> {
    try {
      if ((await this.#group?.prune(PRUNE_MS)) === false)
        this.#options.log.warn({}, 'groups are left below the cgroup');
    } catch (error) {
      this.#options.log.warn({ error: messageOf(error) }, 'remove the groups below the cgroup');
    }
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

  get #id(): string {
    return this.#options.settings.id;
  }

  /**
   * The group; undefined where there is none to be seen from here, or where it still cannot be
   * opened.
   */
  get #group(): WatchedCgroup | undefined {
    if (this.#watched === undefined && this.#place !== undefined && !this.#isLost) this.#open();
    return this.#watched;
  }

  #open(): void {
    if (this.#place === undefined) return;
    const { settings, onOom, log, work, limitsMs } = this.#options;
    const report = (kills: bigint): void => {
      if (this.#untold === undefined) onOom();
      else this.#untold.push(kills);
    };
    try {
      this.#watched = new WatchedCgroup({
        ...this.#place,
        isSystemd: settings.systemdCgroup,
        onOom: report,
        log,
        writeSlowly: (fd, data) => work({ what: 'limits', args: ['write', data], fds: [fd], timeoutMs: limitsMs }),
      });
    } catch (error) {
      // Anything else, such as too many open files, may be over at the next use.
      this.#isLost = codeOf(error) === Code.NotFound;
      this.#warn(error);
    }
  }

  #warn(error: unknown): void {
    const left = 'no statistics, no OOM events; the runtime is called for what needs the cgroup';
    this.#options.log.warn({ error: messageOf(error) }, `no cgroup: ${left}`);
  }

  async #endLeftoversByRuntime(how: 'kill' | 'thaw'): Promise<void> {
    if (how === 'thaw') await this.#resumeByRuntime();
    else await this.#options.runc.kill(this.#id, SIGKILL, { all: true });
  }

  /** On cgroup v1 what is frozen does not die. */
  async #resumeByRuntime(): Promise<void> {
    const { runc, log } = this.#options;
    try {
      if (currentLayout().mode === 'unified' || (await runc.state(this.#id)).status !== 'paused') return;
      await runc.resume(this.#id);
    } catch (error) {
      log.debug({ error: messageOf(error) }, 'resume after SIGKILL');
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
