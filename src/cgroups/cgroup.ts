import type { LinuxResources } from '../oci/index.js';
import type { CgroupMode } from './detect.js';
import type { CgroupEvent, EventsOptions } from './events.js';
import type { CgroupStats, StatsOptions } from './stats.js';

/**
 * How the init of a group has ended, which `OomWatch.drain` asks when the group cannot tell any
 * more.
 */
export interface InitExit {
  /** As this process's pid namespace shows it. */
  readonly pid: number;
  /** By SIGKILL, or with the exit code a shell gives to that. */
  readonly wasKilled: boolean;
  /** Somebody was asked to send it SIGKILL. */
  readonly wasKillAsked: boolean;
}

/**
 * A running watch for memory that has run out. Disposing it ends it; nothing is reported
 * afterwards.
 */
export interface OomWatch extends Disposable {
  /** The value of `oomKills` up to which all were reported: where a later watch can go on. */
  readonly counted: bigint;

  /** A shortage in which nobody is killed was reported, and lasts; v1 with the killer off. */
  readonly isShort: boolean;
  /**
   * Reads the counter once more and reports a rise that was not reported yet, before it returns. To
   * be called before an exit is announced, so that the OOM goes out first.
   *
   * systemd removes a scope the moment it is empty, and the kernel puts off notifications of a file
   * that come within 10 ms of another: the kill that emptied a group may have left neither a
   * counter nor a notification. With `exit`, the kernel log is asked then. Where that may not be
   * read, an init that was killed without anybody having asked for it, in a group that had run
   * short of memory, counts as one kill.
   */
  drain(exit?: InitExit): void;
}

/**
 * @param kills by how much the counter has risen since it was last reported; on v1 also how many
 *   were killed in groups below. 0 when processes stand still for want of memory, as the OOM killer
 *   is off: v1 only, once for as long as it lasts
 */
export type OnOom = (kills: bigint) => void;

/**
 * Who places the group: `fs` writes the hierarchy itself, `systemd` has a scope or slice and tells
 * systemd what changes.
 */
export type CgroupDriver = 'fs' | 'systemd';

export interface DestroyOptions {
  /** How long to wait for processes to go, and for systemd's job; default 10 s. */
  readonly timeoutMs?: number;
}

/**
 * A cgroup, on v2 or v1, created here or adopted.
 *
 * After the group was removed, what reads throws CgroupNotFoundError (code NotFound), and what ends
 * processes finds nothing to do. freeze, kill and signalAll refuse (FailedPrecondition) a group
 * that this very process is in, as a container without a group of its own would have it.
 */
export interface Cgroup extends Disposable {
  readonly mode: CgroupMode;
  /**
   * From the root of the hierarchy: "/default/web". On v1 that of the hierarchy which lists the
   * processes. Bytes that are not UTF-8 are U+DC80 to U+DCFF in this and every other path, as PEP
   * 383 has them (`surrogateescape`).
   */
  readonly path: string;

  readonly driver: CgroupDriver;

  /**
   * Every limit set so far through this object, or given when it was adopted; what a partial `set`
   * is laid over.
   */
  readonly resources: LinuxResources;

  exists(): boolean;

  /**
   * All counters, read through descriptors that stay open until `close`.
   * @throws {CgroupNotFoundError}
   */
  stats(options?: StatsOptions): CgroupStats;

  /**
   * Every process of the group and of the groups below it, once each, in no particular order.
   * @throws {CgroupNotFoundError}
   */
  pids(): number[];

  /**
   * The same, for groups that others fill: however many processes and groups there are, the event
   * loop gets a turn every few ms.
   * @throws {CgroupNotFoundError}
   */
  listPids(): Promise<number[]>;

  /**
   * Stops all processes and waits until they stand still. When they do not in time, the freeze is
   * undone.
   * @throws {LaminaError} DeadlineExceeded, {CgroupNotFoundError}
   */
  freeze(timeoutMs?: number): Promise<void>;

  /**
   * Lets them run on. Done when they do, or when only an ancestor's freeze still holds them.
   * @throws {CgroupNotFoundError}
   */
  thaw(timeoutMs?: number): Promise<void>;

  /**
   * Ends every freeze of the group and of the groups below it, those that a container has asked for
   * itself included: for processes that are to die, which on v1 they do only when they run. Does
   * not wait for them.
   */
  thawAll(): Promise<void>;

  /**
   * True if all processes stand still, whether by this group's freeze or by an ancestor's.
   * @throws {CgroupNotFoundError}
   */
  frozen(): boolean;

  /**
   * Kills every process of the group and below, forks in flight included; thaws a frozen group if
   * that is needed for it. With cgroup.kill (Linux 5.14) the signals have been sent when it
   * resolves; without, the group is empty.
   * @throws {LaminaError} DeadlineExceeded if, without cgroup.kill, processes are left after
   *   `timeoutMs`
   */
  kill(timeoutMs?: number): Promise<void>;

  /**
   * Sends a signal once to every process, with the group frozen meanwhile; SIGKILL is `kill`.
   * Returns how many got it.
   */
  signalAll(signal: number): Promise<number>;

  /**
   * How many processes of the group an OOM killer has killed; 0 without the memory controller.
   * @throws {CgroupNotFoundError}
   */
  oomKills(): bigint;

  /**
   * Reports every rise of `oomKills` from now on, or, given the `counted` of an earlier watch, from
   * there on; on v1 also what happens where nobody of the group itself is killed (`OnOom`).
   * @param wasShort what an earlier watch has said of `isShort`
   * @throws {CgroupFileError} NotFound without the memory controller
   */
  watchOom(onOom: OnOom, from?: bigint, wasShort?: boolean): OomWatch;

  /**
   * v2: makes every controller of the root available to the group, by enabling it in each ancestor.
   * v1: nothing to do.
   * @throws {CgroupFileError, CgroupTreeError} if the nearest ancestor refused one; refusals
   *   further up are only passed over
   */
  enableControllersAlongPath(): void;

  /**
   * Moves a process, with all its threads, into the group: on v1 in every hierarchy. A process that
   * has ended meanwhile is no error.
   * @throws {CgroupTreeError} the group may not have processes (it has controllers enabled for
   *   groups below it, is threaded or invalid), or this process may not move that one
   * @throws {CgroupFileError, CgroupNotFoundError}
   */
  apply(pid: number): Promise<void>;

  /**
   * Lays limits over those in force: what is not given stays. What depends on another value (quota
   * on period, swap on the memory limit) takes it from `resources`.
   *
   * Bad values are refused before anything is written. When the kernel or systemd refuses one,
   * whatever this call has changed is restored. `devices` are applied to a group that was created
   * here; of an adopted one they stay as its creator has set them, as with `runc update`.
   * @throws {ResourceError} InvalidArgument, with the field's path
   * @throws {CgroupFileError} with file, value and errno
   */
  set(resources: LinuxResources): Promise<void>;

  /**
   * What happens in the group from this call on, each rise once; see CgroupEvent. Ends when the
   * group is removed, the signal aborts, or the iterator is returned. Keeps the process alive while
   * somebody waits for the next one.
   * @throws {LaminaError} InvalidArgument for a pressure threshold the kernel would refuse,
   *   Unimplemented where it has no PSI
   */
  events(options?: EventsOptions): AsyncIterableIterator<CgroupEvent>;

  /**
   * Removes the group with everything below it, when its last process has gone; under systemd the
   * unit is stopped, which ends its processes. What does not exist any more is no error. Ends
   * `events`, and closes as `close` does.
   * @throws {LaminaError} FailedPrecondition with the pids that are left when processes do not go
   *   in time
   */
  destroy(options?: DestroyOptions): Promise<void>;

  /**
   * Removes the empty groups below this one, however deep they are nested.
   * @returns false if the time was over first; what was removed stays so
   */
  prune(timeoutMs: number): Promise<boolean>;

  /** Closes what `stats` keeps open. Does not end OOM watches. */
  close(): void;
}
