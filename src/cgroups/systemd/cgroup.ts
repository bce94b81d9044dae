/**
 * A scope or slice of systemd as a cgroup: the group's files as ever, and systemd told of what it
 * would undo.
 */
import { existsSync, readFileSync } from 'node:fs';
import { Code, codeOf, fsPath, isErrno, LaminaError, messageOf } from '../../base/index.js';
import type { LinuxResources } from '../../oci/index.js';
import type { Cgroup, DestroyOptions, OnOom, OomWatch } from '../cgroup.js';
import { containerDevicePolicy } from '../devices/index.js';
import { CgroupFileError, CgroupNotFoundError } from '../errors.js';
import type { CgroupEvent, EventsOptions } from '../events.js';
import { readMembership } from '../membership.js';
import { assertPid } from '../move.js';
import { checkMemoryUsage, checkResources, overlayResources, writeLimit } from '../resources/index.js';
import { assertNotOurs } from '../signal.js';
import type { StatsOptions, V2Stats } from '../stats.js';
import { pidList } from '../tree.js';
import type { V2Cgroup } from '../v2/cgroup.js';
import type { BusKind } from './address.js';
import type { BusValue } from './bus.js';
import { type SystemdManager, systemdManager, type UnitProperty } from './manager.js';
import { type UnitKind, unitFromCgroupPath, unitKind } from './names.js';
import type { Placeholder } from './placeholder.js';
import { asSystemdHolds, HELD_FILES, unitProperties } from './properties.js';

const DESTROY_TIMEOUT_MS = 10_000;
/**
 * For what is undone: a systemd that does not answer has what it is told in its queue, so little is
 * gained by waiting.
 */
export const UNDO_TIMEOUT_MS = 5_000;

export interface SystemdCgroupOptions {
  /** Default: the user's when this is not root, else the machine's. */
  readonly bus?: BusKind | undefined;
  /** For every call and every job; default 30 s. */
  readonly timeoutMs?: number | undefined;
  /** Whether `set` tells systemd of `devices`; default 'ignore'. */
  readonly devices?: 'apply' | 'ignore' | undefined;
}

interface UnitOptions {
  readonly manager: SystemdManager;
  /** Default 'ignore'. */
  readonly devices?: 'apply' | 'ignore' | undefined;
  /** The process that holds the scope until another joins it. */
  readonly placeholder?: Placeholder | undefined;
}

/**
 * The bus of this user's systemd. Root of a user namespace that a user has made for itself is still
 * that user.
 */
export function defaultBus(): BusKind {
  if (process.geteuid?.() !== 0) return 'user';
  const { DBUS_SESSION_BUS_ADDRESS: session, XDG_RUNTIME_DIR: runtimeDir } = process.env;
  return (session ?? runtimeDir) !== undefined && !isInitialUserNamespace() ? 'user' : 'system';
}

function isInitialUserNamespace(): boolean {
  return /^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'latin1'));
}

/** On the connection everybody shares. */
export function managerFor({ bus = defaultBus(), timeoutMs }: SystemdCgroupOptions): SystemdManager {
  const manager = systemdManager(bus);
  return timeoutMs === undefined ? manager : manager.withTimeout(timeoutMs);
}

/**
 * A group of the v2 hierarchy that is a unit's.
 *
 * systemd ends a scope with its last process, and takes the group away.
 */
export class SystemdCgroup implements Cgroup {
  readonly mode = 'unified';
  readonly driver = 'systemd';
  /** The unit's name: "prefix-name.scope". */
  readonly unit: string;
  readonly kind: UnitKind;
  readonly #inner: V2Cgroup;
  readonly #manager: SystemdManager;
  readonly #devices: 'apply' | 'ignore';
  #placeholder: Placeholder | undefined;

  constructor(inner: V2Cgroup, unit: string, options: UnitOptions) {
    this.unit = unit;
    this.kind = unitKind(unit);
    this.#inner = inner;
    this.#manager = options.manager;
    this.#devices = options.devices ?? 'ignore';
    this.#placeholder = options.placeholder;
  }

  get path(): string {
    return this.#inner.path;
  }

  get resources(): LinuxResources {
    return this.#inner.resources;
  }

  exists(): boolean {
    return this.#inner.exists();
  }

  stats(options?: StatsOptions): V2Stats {
    return this.#inner.stats(options);
  }

  pids(): number[] {
    const held = this.#placeholder?.pid;
    return this.#inner.pids().filter((pid) => pid !== held);
  }

  async listPids(): Promise<number[]> {
    const held = this.#placeholder?.pid;
    return (await this.#inner.listPids()).filter((pid) => pid !== held);
  }

  async freeze(timeoutMs?: number): Promise<void> {
    await this.#inner.freeze(timeoutMs);
  }

  async thaw(timeoutMs?: number): Promise<void> {
    await this.#inner.thaw(timeoutMs);
  }

  async thawAll(): Promise<void> {
    await this.#inner.thawAll();
  }

  frozen(): boolean {
    return this.#inner.frozen();
  }

  async kill(timeoutMs?: number): Promise<void> {
    await this.#inner.kill(timeoutMs);
  }

  async signalAll(signal: number): Promise<number> {
    return await this.#inner.signalAll(signal);
  }

  oomKills(): bigint {
    return this.#inner.oomKills();
  }

  watchOom(onOom: OnOom, from?: bigint, wasShort?: boolean): OomWatch {
    return this.#inner.watchOom(onOom, from, wasShort);
  }

  enableControllersAlongPath(): void {
    this.#inner.enableControllersAlongPath();
  }

  events(options?: EventsOptions): AsyncIterableIterator<CgroupEvent> {
    return this.#inner.events(options);
  }

  async prune(timeoutMs: number): Promise<boolean> {
    return await this.#inner.prune(timeoutMs);
  }

  close(): void {
    this.#inner.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * systemd moves the process, which it may do where this process may not; where it refuses, it is
   * done here.
   */
  async apply(pid: number): Promise<void> {
    assertPid(pid);
    if (!this.exists()) throw new CgroupNotFoundError(this.path);
    try {
      await this.#manager.attachProcessesToUnit(this.unit, [pid]);
    } catch (error) {
      if (codeOf(error) === Code.DeadlineExceeded) throw error;
      await this.#inner.apply(pid);
    }
    const placeholder = this.#placeholder;
    this.#placeholder = undefined;
    await placeholder?.end();
  }

  /**
   * Tells systemd, then writes the files: systemd may write all files of the unit when it is told
   * of one.
   */
  async set(update: LinuxResources): Promise<void> {
    if (!this.exists()) throw new CgroupNotFoundError(this.path);
    const saved = this.#inner.resources;
    checkResources(update, saved, this.mode);
    // Before systemd is told, which sets a limit at once: the kernel would kill, and the scope be
    // gone.
    checkMemoryUsage(this.#inner.dir, saved, update);
    const held = asSystemdHolds(saved, update);
    const properties = await this.#properties(saved, held);
    if (properties.length === 0) return await this.#inner.set(held);
    const undo = await this.#told(properties);
    try {
      await this.#inner.set(held);
    } catch (error) {
      throw await withFailures(error, undo);
    }
  }

  /**
   * Tells systemd of the weight that was written when the group was made; which it is depends on
   * the group's files.
   */
  async tellIoWeight(): Promise<void> {
    const { blockIO, unified } = this.#inner.resources;
    const properties = await this.#properties({}, { ...(blockIO && { blockIO }), ...(unified && { unified }) });
    const weight = properties.filter(({ name }) => name === 'IOWeight');
    if (weight.length === 0) return;
    await this.#manager.setUnitProperties(this.unit, weight);
    // systemd writes the group's weight, with which BFQ forgets those per device.
    const weightDevice = blockIO?.weightDevice;
    if (weightDevice !== undefined) await this.#inner.set({ blockIO: { weightDevice } });
  }

  async #properties(saved: LinuxResources, update: LinuxResources): Promise<UnitProperty[]> {
    const rules = this.#devices === 'apply' ? update.devices : undefined;
    return unitProperties(overlayResources(saved, update), update, {
      version: await this.#manager.version(),
      kind: this.kind,
      atCreation: false,
      hasBfq: existsSync(fsPath(`${this.#inner.dir}/io.bfq.weight`)),
      devices: rules === undefined ? undefined : containerDevicePolicy(rules),
    });
  }

  /** Sets properties. @returns what puts everything back */
  async #told(properties: readonly UnitProperty[]): Promise<() => Promise<void>> {
    const names = [...new Set(properties.map((property) => property.name))];
    const before = await this.#manager.unitProperties(this.unit, names);
    const files = readLimits(this.#inner.dir);
    const undo = async (): Promise<void> => {
      const old = properties
        .filter((property, at) => properties.findIndex(({ name }) => name === property.name) === at)
        .flatMap(({ name, signature }) => oldProperty(name, signature, before.get(name)));
      await this.#manager.setUnitProperties(this.unit, old, { timeoutMs: UNDO_TIMEOUT_MS });
      await writeLimits(this.#inner, files);
    };
    try {
      await this.#manager.setUnitProperties(this.unit, properties);
    } catch (error) {
      // It takes all or none; but when no answer came, nobody knows.
      const isUnknown = codeOf(error) === Code.DeadlineExceeded || codeOf(error) === Code.Unavailable;
      throw isUnknown ? await withFailures(error, undo) : error;
    }
    return undo;
  }

  async destroy(options: DestroyOptions = {}): Promise<void> {
    const { timeoutMs = DESTROY_TIMEOUT_MS } = options;
    assertNotOurs('destroy', this.path, readMembership('self').unified);
    const end = performance.now() + timeoutMs;
    const placeholder = this.#placeholder;
    this.#placeholder = undefined;
    await placeholder?.end();
    await this.#stop(timeoutMs);
    await this.#manager.resetFailedUnit(this.unit);
    // What systemd has left: groups below, or everything if the unit had gone before.
    await this.#inner.destroy({ timeoutMs: Math.max(0, end - performance.now()) });
  }

  async #stop(timeoutMs: number): Promise<void> {
    try {
      await this.#manager.stopUnit(this.unit, { timeoutMs });
    } catch (error) {
      // A stop that did not end well has ended all the same.
      if (codeOf(error) === Code.FailedPrecondition) return;
      const left = codeOf(error) === Code.DeadlineExceeded && this.exists() ? await this.listPids() : [];
      if (left.length === 0) throw error;
      const what = `stop ${this.unit}: processes are left: ${pidList(left)} after ${timeoutMs} ms`;
      throw new LaminaError(Code.FailedPrecondition, what, { subject: this.unit, cause: error });
    }
  }
}

/** The error, with what went wrong when everything was to be put back. */
async function withFailures(error: unknown, undo: () => Promise<void>): Promise<unknown> {
  try {
    await undo();
    return error;
  } catch (failure) {
    const what = `${messageOf(error)}; properties not restored: ${messageOf(failure)}`;
    return new LaminaError(codeOf(error), what, { cause: error });
  }
}

/** What sets a property back; lists are emptied first, as setting one adds to it. */
function oldProperty(name: string, signature: string, value: unknown): UnitProperty[] {
  if (value === undefined) return [];
  const property = { name, signature, value: value as BusValue };
  if (signature === 'ay') return [{ ...property, value: trimZeros(value as Buffer) }];
  const isList = signature.startsWith('a(');
  return isList && (value as unknown[]).length > 0 ? [{ ...property, value: [] }, property] : [property];
}

/** systemd shows an empty set of CPUs as zeros, and takes it as nothing at all. */
function trimZeros(bits: Buffer): Buffer {
  let end = bits.length;
  while (end > 0 && bits[end - 1] === 0) end -= 1;
  return bits.subarray(0, end);
}

function readLimits(dir: string): Map<string, string> {
  const files = new Map<string, string>();
  for (const name of HELD_FILES) {
    try {
      files.set(name, readFileSync(fsPath(`${dir}/${name}`), 'latin1'));
    } catch (error) {
      if (!isErrno(error)) throw error; // No such controller, or the group has gone: nothing to put back.
    }
  }
  return files;
}

/** Writes what differs. The best that can be done: an idle group's weight, for one, is refused. */
async function writeLimits({ dir, io }: V2Cgroup, files: ReadonlyMap<string, string>): Promise<void> {
  const now = readLimits(dir);
  for (const [name, text] of files) {
    if (now.get(name) === text) continue;
    try {
      await writeLimit(io, `${dir}/${name}`, text);
    } catch (error) {
      if (!(error instanceof CgroupFileError)) throw error;
    }
  }
}

/**
 * Takes a group for the unit its path says it is: what is set from now on, systemd is told, too.
 * @throws {LaminaError} FailedPrecondition if the group is no scope's or slice's own
 */
export function adoptSystemdCgroup(inner: V2Cgroup, options: SystemdCgroupOptions = {}): SystemdCgroup {
  const { bus = defaultBus(), devices = 'ignore' } = options;
  // A user's systemd counts from its own group.
  const path = bus === 'user' ? inner.path.replace(/^.*\/user@\d+\.service(?=\/)/, '') : inner.path;
  const { unit = '', below } = unitFromCgroupPath(path) ?? {};
  if (below === '' && /\.(?:scope|slice)$/.test(unit)) {
    return new SystemdCgroup(inner, unit, { manager: managerFor({ ...options, bus }), devices });
  }
  const what = `cgroup ${inner.path} is not a scope or slice of systemd`;
  throw new LaminaError(Code.FailedPrecondition, what, { subject: inner.path });
}
