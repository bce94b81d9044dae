import type { LinuxResources } from '../oci/index.js';
import type { CgroupMode } from './detect.js';
import type { CgroupEvent, EventsOptions } from './events.js';
import type { CgroupStats } from './stats.js';

/** How the init of a group has ended, which `OomWatch.drain` asks when the group cannot tell any more. */
export interface InitExit {
  /** As this process's pid namespace shows it. */
  readonly pid: number;
  /** By SIGKILL, or with the exit code a shell gives to that. */
  readonly wasKilled: boolean;
  /** Somebody was asked to send it SIGKILL. */
  readonly wasKillAsked: boolean;
}

/** A running watch for OOM kills. Disposing it ends it; nothing is reported afterwards. */
export interface OomWatch extends Disposable {
  /**
   * Reads the counter once more and reports a rise that was not reported yet, before it returns. To be called before an
   * exit is announced, so that the OOM goes out first.
   *
   * systemd removes a scope the moment it is empty, and the kernel puts off notifications of a file that come within 10 ms of another:
   * the kill that emptied a group may have left neither a counter nor a notification. With `exit`, the kernel log is asked then. Where that
   * may not be read, an init that was killed without anybody having asked for it, in a group that had run short of memory, counts as one kill.
   */
  drain(exit?: InitExit): void;
}

/** @param kills by how much the counter has risen since it was last reported */
export type OnOom = (kills: bigint) => void;

/** Who places the group: `fs` writes the hierarchy itself, `systemd` has a scope or slice and tells systemd what changes. */
export type CgroupDriver = 'fs' | 'systemd';

export interface DestroyOptions {
  /** How long to wait for processes to go, and for systemd's job; default 10 s. */
  readonly timeoutMs?: number;
}

/**
 * A cgroup, on v2 or v1, created here or adopted.
 *
 * After the group was removed, what reads throws CgroupNotFoundError (code NotFound), and what ends processes finds nothing to do.
 * freeze, kill and signalAll refuse (FailedPrecondition) a group that this very process is in, as a container without a group of
 * its own would have it.
 */
export interface Cgroup extends Disposable {
  readonly mode: CgroupMode;
  /** From the root of the hierarchy: "/default/web". On v1 that of the hierarchy which lists the processes. */
  readonly path: string;

  exists(): boolean;

  /** All counters, read through descriptors that stay open until `close`. @throws {CgroupNotFoundError} */
  stats(): CgroupStats;

  /** Every process of the group and of the groups below it, once each, in no particular order. @throws {CgroupNotFoundError} */
  pids(): number[];

  /**
   * Stops all processes and waits until they stand still. When they do not in time, the freeze is undone.
   * @throws {LaminaError} DeadlineExceeded, {CgroupNotFoundError}
   */
  freeze(timeoutMs?: number): Promise<void>;

  /** Lets them run on. Done when they do, or when only an ancestor's freeze still holds them. @throws {CgroupNotFoundError} */
  thaw(timeoutMs?: number): Promise<void>;

  /** True if all processes stand still, whether by this group's freeze or by an ancestor's. @throws {CgroupNotFoundError} */
  frozen(): boolean;

  /**
   * Kills every process of the group and below, forks in flight included; thaws a frozen group if that is needed for it.
   * With cgroup.kill (Linux 5.14) the signals have been sent when it resolves; without, the group is empty.
   * @throws {LaminaError} DeadlineExceeded if, without cgroup.kill, processes are left after `timeoutMs`
   */
  kill(timeoutMs?: number): Promise<void>;

  /** Sends a signal once to every process, with the group frozen meanwhile; SIGKILL is `kill`. Returns how many got it. */
  signalAll(signal: number): Promise<number>;

  /** How many processes of the group an OOM killer has killed; 0 without the memory controller. @throws {CgroupNotFoundError} */
  oomKills(): bigint;

  /** Reports every rise of `oomKills` from now on. @throws {CgroupFileError} NotFound without the memory controller */
  watchOom(onOom: OnOom): OomWatch;

  /**
   * v2: makes every controller of the root available to the group, by enabling it in each ancestor. v1: nothing to do.
   * @throws {CgroupFileError} if the nearest ancestor refused one; refusals further up are only passed over
   */
  enableControllersAlongPath(): void;

  /** Closes what `stats` keeps open. Does not end OOM watches. */
  close(): void;
}

/** A cgroup with everything a manager does. */
export interface ManagedCgroup extends Cgroup {
  readonly driver: CgroupDriver;

  /** Every limit set so far through this object, or given when it was adopted; what a partial `set` is laid over. */
  readonly resources: LinuxResources;

  /**
   * Moves a process, with all its threads, into the group. A process that has ended meanwhile is no error.
   * @throws {CgroupFileError} EBUSY: the group has controllers enabled for groups below it; EOPNOTSUPP: it is threaded or invalid
   */
  apply(pid: number): Promise<void>;

  /**
   * Lays limits over those in force: what is not given stays. What depends on another value (quota on period, swap on the memory limit)
   * takes it from `resources`.
   *
   * Bad values are refused before anything is written. When the kernel or systemd refuses one, whatever this call has changed is restored.
   * @throws {ResourceError} InvalidArgument, with the field's path
   * @throws {CgroupFileError} with file, value and errno
   */
  set(resources: LinuxResources): Promise<void>;

  /** What happens in the group from now on, each rise once. Ends when the group is removed, or the iterator is returned. */
  events(options?: EventsOptions): AsyncIterableIterator<CgroupEvent>;

  /**
   * Removes the group with everything below it, when its last process has gone; under systemd the unit is stopped, which ends its
   * processes. What does not exist any more is no error.
   * @throws {LaminaError} FailedPrecondition with the pids that are left when processes do not go in time
   */
  destroy(options?: DestroyOptions): Promise<void>;
}
