import { setTimeout as delay } from 'node:timers/promises';
import { Code, LaminaError, SerialQueue } from '../../base/index.js';
import type { LinuxResources } from '../../oci/index.js';
import { SIGKILL } from '../../sys/index.js';
import type { Cgroup, DestroyOptions, OnOom, OomWatch } from '../cgroup.js';
import type { FileChanges } from '../changes.js';
import { removeBelow, removeTree } from '../destroy.js';
import type { CgroupMount } from '../detect.js';
import { CgroupNotFoundError, isGone } from '../errors.js';
import type { CgroupEvent, EventsOptions } from '../events.js';
import { isDirectory, readCgroupFile, type WriteSlowly, writeInPool } from '../file.js';
import { GroupStreams } from '../group-streams.js';
import { cgroupDirectory, readMembership } from '../membership.js';
import { assertPid } from '../move.js';
import { parseKey } from '../parse.js';
import { type CgroupIo, cgroupIoWith } from '../resources/index.js';
import { assertNotOurs, killProcesses, type SignalTarget, signalProcesses } from '../signal.js';
import type { StatsOptions, V1Stats } from '../stats.js';
import { isOccupied, listProcesses, processesBelow } from '../tree.js';
import { inTurns } from '../turns.js';
import { watchV1Events } from './events.js';
import { freeze, isFreezeAsked, isFrozen, thaw, thawTree } from './freezer.js';
import { moveIntoAll } from './move.js';
import { watchOom } from './oom.js';
import { applyResources } from './resources.js';
import { V1StatsReader } from './stats.js';

const FREEZE_TIMEOUT_MS = 10_000;
const KILL_TIMEOUT_MS = 10_000;
const DESTROY_TIMEOUT_MS = 10_000;
const FIRST_WAIT_MS = 1;
const LAST_WAIT_MS = 50;

/**
 * Which hierarchy is asked for the processes: the freezer's if possible, as it is the one that
 * stops them.
 */
const LISTING_ORDER = ['freezer', 'pids', 'devices', 'memory', 'cpu', 'cpuacct', 'blkio', 'cpuset', 'name=systemd'];

/** Where a group is in one hierarchy. */
interface Place {
  readonly path: string;
  readonly dir: string;
}

/**
 * Looks up where a group is in each hierarchy. Left out: hierarchies in whose root it is (what is
 * counted there is not its own), and those where it has no directory.
 */
function findPlaces(
  mounts: ReadonlyMap<string, CgroupMount>,
  paths: ReadonlyMap<string, string>,
): ReadonlyMap<string, Place> {
  const places = new Map<string, Place>();
  for (const [controller, path] of paths) {
    const mount = mounts.get(controller);
    if (mount === undefined || path === mount.root) continue;
    const dir = cgroupDirectory(mount, path);
    if (isDirectory(dir)) places.set(controller, { path, dir });
  }
  return places;
}

export interface V1CgroupOptions {
  /** The limits in force. */
  readonly resources?: LinuxResources;
  /** Whether `set` enforces `devices`; default 'ignore'. */
  readonly devices?: 'apply' | 'ignore';
  /** See LoadOptions. */
  readonly writeSlowly?: WriteSlowly | undefined;
}

/** v1 does not notify of a group's last process, so it is asked. */
async function waitUntilEmpty(dir: string, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (let waitMs = FIRST_WAIT_MS; performance.now() < deadline; waitMs = Math.min(waitMs * 2, LAST_WAIT_MS)) {
    if (!(await inTurns(isOccupied(dir)))) return;
    await delay(waitMs);
  }
}

/** A container's groups in the v1 hierarchies. */
export class V1Cgroup implements Cgroup {
  readonly mode: 'legacy' | 'hybrid';
  readonly driver = 'fs';
  readonly path: string;
  readonly #mounts: ReadonlyMap<string, CgroupMount>;
  readonly #places: ReadonlyMap<string, Place>;
  readonly #listing: string;
  readonly #changes: () => FileChanges;
  readonly #stats: V1StatsReader;
  readonly #devices: 'apply' | 'ignore';
  readonly #streams = new GroupStreams();
  readonly #io: CgroupIo;
  readonly #setting = new SerialQueue();
  #resources: LinuxResources;

  /**
   * @param paths controller → path as the kernel prints it in /proc/PID/cgroup; they may differ
   * @param changes asked for when something has to be watched
   * @throws {CgroupNotFoundError} if no hierarchy has a group of its own for it
   */
  constructor(
    mode: 'legacy' | 'hybrid',
    mounts: ReadonlyMap<string, CgroupMount>,
    paths: ReadonlyMap<string, string>,
    changes: () => FileChanges,
    options: V1CgroupOptions = {},
  ) {
    this.mode = mode;
    this.#mounts = mounts;
    this.#places = findPlaces(mounts, paths);
    const listing = LISTING_ORDER.find((controller) => this.#places.has(controller));
    if (listing === undefined) throw new CgroupNotFoundError([...new Set(paths.values())].join(', '));
    this.#listing = listing;
    this.path = this.#listingPlace().path;
    this.#changes = changes;
    this.#devices = options.devices ?? 'ignore';
    this.#resources = options.resources ?? {};
    this.#io = cgroupIoWith(options.writeSlowly ?? writeInPool);
    this.#stats = new V1StatsReader(this.dirs);
  }

  get resources(): LinuxResources {
    return this.#resources;
  }

  /** Controller → where the group's files are. */
  get dirs(): ReadonlyMap<string, string> {
    return new Map([...this.#places].map(([controller, place]) => [controller, place.dir]));
  }

  exists(): boolean {
    return isDirectory(this.#listingPlace().dir);
  }

  stats(options: StatsOptions = {}): V1Stats {
    return this.#stats.read(options);
  }

  pids(): number[] {
    return listProcesses(this.#listingPlace().dir);
  }

  async listPids(): Promise<number[]> {
    return await inTurns(processesBelow(this.#listingPlace().dir));
  }

  async freeze(timeoutMs = FREEZE_TIMEOUT_MS): Promise<void> {
    this.#assertNotOurs('freeze');
    await freeze(this.#freezerDir(), timeoutMs);
  }

  async thaw(): Promise<void> {
    thaw(this.#freezerDir());
  }

  async thawAll(): Promise<void> {
    if (this.#places.has('freezer')) await inTurns(thawTree(this.#freezerDir()));
  }

  frozen(): boolean {
    return this.#places.has('freezer') && isFrozen(this.#freezerDir());
  }

  async kill(timeoutMs = KILL_TIMEOUT_MS): Promise<void> {
    this.#assertNotOurs('kill');
    await killProcesses(this.#signalTarget(), timeoutMs);
  }

  async signalAll(signal: number): Promise<number> {
    this.#assertNotOurs('signal');
    if (signal !== SIGKILL) return signalProcesses(this.#signalTarget(), signal);
    const count = (await this.listPids()).length;
    await this.kill();
    return count;
  }

  oomKills(): bigint {
    const dir = this.#places.get('memory')?.dir;
    if (dir === undefined) return 0n;
    try {
      return parseKey(readCgroupFile(`${dir}/memory.oom_control`), 'oom_kill') ?? 0n;
    } catch (error) {
      throw isGone(error) ? new CgroupNotFoundError(dir, error) : error;
    }
  }

  watchOom(onOom: OnOom, from?: bigint, wasShort?: boolean): OomWatch {
    const memory = this.#places.get('memory');
    if (memory === undefined) throw new LaminaError(Code.NotFound, `cgroup ${this.path} has no memory controller`);
    return watchOom({ ...memory, onOom, from, wasShort }, this.#changes().kernel);
  }

  enableControllersAlongPath(): void {
    // Controllers of v1 are hierarchies: they are there or not.
  }

  async apply(pid: number): Promise<void> {
    assertPid(pid);
    await moveIntoAll(this.#mounts, this.dirs, pid);
  }

  /** One after the other: each is laid over what the one before has left. */
  set(resources: LinuxResources): Promise<void> {
    return this.#setting.run(async () => {
      if (!this.exists()) throw new CgroupNotFoundError(this.path);
      const applied = await applyResources(this.dirs, this.#resources, resources, this.#devices, this.#io);
      this.#resources = applied.resources;
    });
  }

  events(options: EventsOptions = {}): AsyncIterableIterator<CgroupEvent> {
    const watched = {
      dir: this.#listingPlace().dir,
      memory: this.#places.get('memory'),
      oomKills: () => this.oomKills(),
    };
    return this.#streams.add(watchV1Events(watched, this.#changes(), options));
  }

  async destroy(options: DestroyOptions = {}): Promise<void> {
    this.#assertNotOurs('destroy');
    const deadline = performance.now() + (options.timeoutMs ?? DESTROY_TIMEOUT_MS);
    await this.#streams.endWith(
      () => waitUntilEmpty(this.#listingPlace().dir, deadline - performance.now()),
      async () => {
        for (const dir of new Set(this.dirs.values())) await removeTree(dir, waitUntilEmpty, deadline);
      },
    );
    this.close();
  }

  async prune(timeoutMs: number): Promise<boolean> {
    const deadline = performance.now() + timeoutMs;
    let isDone = true;
    for (const dir of new Set(this.dirs.values())) isDone = (await inTurns(removeBelow(dir, deadline))) && isDone;
    return isDone;
  }

  close(): void {
    this.#stats.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #listingPlace(): Place {
    return this.#places.get(this.#listing) as Place;
  }

  #freezerDir(): string {
    const dir = this.#places.get('freezer')?.dir;
    if (dir === undefined)
      throw new LaminaError(Code.Unimplemented, `cgroup ${this.path} has no freezer`, { subject: this.path });
    return dir;
  }

  /**
   * The hierarchy that lists the processes is the one where a signal to all of them could meet
   * ours.
   */
  #assertNotOurs(action: string): void {
    assertNotOurs(action, this.path, readMembership('self').controllers.get(this.#listing));
  }

  #isPaused(): boolean {
    return this.#places.has('freezer') && isFreezeAsked(this.#freezerDir());
  }

  #signalTarget(): SignalTarget {
    return {
      path: this.path,
      pids: () => this.listPids(),
      freeze: (timeoutMs) => this.freeze(timeoutMs),
      thaw: async () => {
        if (this.#isPaused()) await this.thaw();
      },
      thawAll: () => this.thawAll(),
      isPaused: () => this.#isPaused(),
    };
  }
}
