/**
 * From the OCI `linux.resources` to properties of a unit (systemd.resource-control(5)).
 *
 * Whatever systemd knows a property for it writes to the group again, at every daemon-reload and
 * often when another property is set. So it is told of everything it would undo, and of nothing
 * else:
 * - rates per device (io.max) and weights per device: it writes only devices it was told of, and so
 *   leaves these alone;
 * - cpu.max.burst, memory.swap.high, hugetlb, rdma, misc, io.latency: it has no property for them
 * (as of 262). The files are written besides, by the library itself.
 */
import type { BlockIoResources, CpuResources, LinuxResources, MemoryResources } from '../../oci/index.js';
import type { DevicePolicy } from '../devices/index.js';
import { U64_MAX } from '../parse.js';
import {
  cpuListBits,
  cpuQuotaPerSec,
  DEFAULT_PERIOD_USEC,
  ioWeight,
  overlayResources,
  pidsMax,
  ResourceError,
  roundedQuota,
  swapMax,
  UNLIMITED,
  weightFromShares,
} from '../resources/index.js';
import { deviceProperties } from './device-properties.js';
import type { UnitProperty } from './manager.js';
import type { UnitKind } from './names.js';

export interface PropertyOptions {
  /** systemd's: what it does not know yet is left out. */
  readonly version: number;
  readonly kind: UnitKind;
  /** For a unit that is to be made: more can be said then, and defaults need not be. */
  readonly atCreation: boolean;
  /** The group has io.bfq.weight, which the kernel takes weights in then. */
  readonly hasBfq?: boolean;
  /** What `devices` come to, if they are to be enforced. */
  readonly devices?: DevicePolicy | undefined;
}

/** The version that brought a property. */
export const SINCE = {
  CPUQuotaPeriodUSec: 242,
  AllowedCPUs: 244,
  AllowedMemoryNodes: 244,
  /** CPUWeight=idle. */
  idle: 252,
  MemoryZSwapMax: 253,
  /** Of scopes. */
  OOMPolicy: 253,
  MemoryZSwapWriteback: 256,
} as const;

/** How "not set" and "no limit" are said. */
const INFINITY = U64_MAX;

/** Properties by name, so that what is said twice counts as said last. */
class Properties {
  readonly options: PropertyOptions;
  readonly #byName = new Map<string, UnitProperty>();

  constructor(options: PropertyOptions) {
    this.options = options;
  }

  knows(what: keyof typeof SINCE): boolean {
    return this.options.version >= SINCE[what];
  }

  number(name: string, value: number | bigint): void {
    this.#byName.set(name, { name, signature: 't', value: value === UNLIMITED ? INFINITY : BigInt(value) });
  }

  add(name: string, signature: string, value: UnitProperty['value']): void {
    this.#byName.set(name, { name, signature, value });
  }

  list(): UnitProperty[] {
    return [...this.#byName.values()];
  }
}

/**
 * The properties an update changes.
 * @param resources the limits in force with the update
 * @param update what was given; for a new unit the same
 * @throws {ResourceError} for a value in `unified` that systemd cannot be told
 */
export function unitProperties(
  resources: LinuxResources,
  update: LinuxResources,
  options: PropertyOptions,
): UnitProperty[] {
  const properties = new Properties(options);
  if (update.memory !== undefined) memoryProperties(properties, update.memory, resources.memory ?? {});
  if (update.cpu !== undefined) cpuProperties(properties, update.cpu, resources.cpu ?? {});
  if (update.pids?.limit !== undefined) tasksMax(properties, pidsMax(update.pids.limit), 'resources.pids.limit');
  if (update.blockIO !== undefined) ioProperties(properties, update.blockIO);
  const unified = update.unified ?? {};
  for (const [file, value] of Object.entries(unified)) {
    const field = `resources.unified.${file}`;
    if (Object.hasOwn(UNIFIED, file)) UNIFIED[file]?.(properties, value.trim(), field, unified);
  }
  return [...deviceProperties(options), ...properties.list()];
}

/**
 * The update as it is to be written to the files: with the CPU quota rounded up to what systemd can
 * hold, whole percents of a CPU, so that the file does not change with the next daemon-reload.
 */
export function asSystemdHolds(saved: LinuxResources, update: LinuxResources): LinuxResources {
  let result = update;
  if (update.cpu?.quota !== undefined || update.cpu?.period !== undefined) {
    const { quota = 0, period = 0 } = overlayResources(saved, update).cpu ?? {};
    const rounded = roundedQuota(quota, period);
    if (rounded !== quota) result = { ...result, cpu: { ...result.cpu, quota: rounded } };
  }
  const max = update.unified?.['cpu.max'];
  if (max !== undefined) {
    const { quota, period } = parseCpuMax(max.trim(), 'resources.unified.cpu.max');
    const rounded = roundedQuota(quota, period);
    if (rounded !== quota) result = { ...result, unified: { ...result.unified, 'cpu.max': `${rounded} ${period}` } };
  }
  return result;
}

function memoryProperties(properties: Properties, update: MemoryResources, inForce: MemoryResources): void {
  const { limit = 0, reservation = 0, swap = 0 } = update;
  if (limit !== 0) properties.number('MemoryMax', limit);
  if (reservation !== 0) properties.number('MemoryLow', reservation);
  if (limit === 0 && swap === 0) return;
  // 0 too, which runc keeps from systemd: a daemon-reload then gives a container without swap all
  // of it (moby#51446).
  const max = swapMax(inForce);
  if (max !== undefined) properties.number('MemorySwapMax', max);
}

function cpuProperties(properties: Properties, update: CpuResources, inForce: CpuResources): void {
  const { shares = 0, idle, quota, period, cpus = '', mems = '' } = update;
  if (shares !== 0) properties.number('CPUWeight', weightFromShares(shares));
  if (idle !== undefined) cpuIdle(properties, idle, shares === 0 ? undefined : weightFromShares(shares));
  const hasQuota = quota !== undefined || period !== undefined;
  if (hasQuota && (inForce.quota || inForce.period)) {
    cpuQuota(properties, inForce.quota ?? 0, inForce.period ?? 0);
  }
  if (cpus !== '') cpuList(properties, 'AllowedCPUs', cpus, 'resources.cpu.cpus');
  if (mems !== '') cpuList(properties, 'AllowedMemoryNodes', mems, 'resources.cpu.mems');
}

/**
 * Being idle is a weight of 0 to systemd, and ends with any other; without one given the kernel
 * goes back to its default, as this does.
 */
function cpuIdle(properties: Properties, idle: number, weight: number | undefined): void {
  if (!properties.knows('idle')) return;
  if (idle === 1) properties.number('CPUWeight', 0);
  else if (weight === undefined && !properties.options.atCreation) properties.number('CPUWeight', INFINITY);
}

function cpuQuota(properties: Properties, quota: number, period: number): void {
  // Its default, 100 ms, is "not set".
  if (properties.knows('CPUQuotaPeriodUSec') && !(period === 0 && properties.options.atCreation)) {
    properties.number('CPUQuotaPeriodUSec', period === 0 ? INFINITY : period);
  }
  properties.number('CPUQuotaPerSecUSec', cpuQuotaPerSec(quota, period) ?? INFINITY);
}

function cpuList(
  properties: Properties,
  name: 'AllowedCPUs' | 'AllowedMemoryNodes',
  list: string,
  field: string,
): void {
  if (!properties.knows(name)) return;
  // An empty list, as only `unified` can have it, takes the restriction away.
  const bits = list === '' ? new Uint8Array() : cpuListBits(list, field);
  properties.add(name, 'ay', Buffer.from(bits));
}

function tasksMax(properties: Properties, text: string, field: string): void {
  const limit = unifiedNumber(text, field);
  // systemd takes no 0.
  properties.number('TasksMax', limit === 0n ? 1 : limit);
}

function ioProperties(properties: Properties, { weight = 0 }: BlockIoResources): void {
  if (weight === 0) return;
  properties.number('IOWeight', properties.options.hasBfq === true ? weightForBfq(weight) : ioWeight(weight));
}

/**
 * The IOWeight that systemd makes this BFQ weight (1 to 1000) of, by a scale of its own: 100 is
 * 100, 10000 is 1000.
 */
function weightForBfq(weight: number): number {
  return weight <= 100 ? weight : 100 + (weight - 100) * 11;
}

type UnifiedProperty = (
  properties: Properties,
  value: string,
  field: string,
  unified: Readonly<Record<string, string>>,
) => void;

function limit(name: string, since?: keyof typeof SINCE): UnifiedProperty {
  return (properties, value, field) => {
    if (since === undefined || properties.knows(since)) properties.number(name, unifiedNumber(value, field));
  };
}

/**
 * cgroup file → how systemd is told of it. Files that are not here it does not undo, or cannot be
 * told of.
 */
const UNIFIED: Readonly<Record<string, UnifiedProperty>> = {
  'memory.swap.max': limit('MemorySwapMax'),
  'memory.max': limit('MemoryMax'),
  'memory.high': limit('MemoryHigh'),
  'memory.low': limit('MemoryLow'),
  'memory.min': limit('MemoryMin'),
  'memory.zswap.max': limit('MemoryZSwapMax', 'MemoryZSwapMax'),
  'memory.zswap.writeback': (properties, value) => {
    if (properties.knows('MemoryZSwapWriteback')) properties.add('MemoryZSwapWriteback', 'b', value !== '0');
  },
  'memory.oom.group': (properties, value) => {
    // Of a running scope it cannot be changed, and slices do not have it.
    const { atCreation, kind } = properties.options;
    if (!atCreation || kind !== 'scope' || !properties.knows('OOMPolicy')) return;
    properties.add('OOMPolicy', 's', value === '0' ? 'continue' : 'kill');
  },
  'cpu.idle': (properties, value, field, unified) => {
    const weight = unified['cpu.weight'] === undefined ? undefined : Number(unified['cpu.weight']);
    cpuIdle(properties, Number(unifiedNumber(value, field)), weight);
  },
  'cpu.weight': (properties, value, field, unified) => {
    if (unified['cpu.idle']?.trim() === '1' && properties.knows('idle')) return;
    properties.number('CPUWeight', unifiedNumber(value, field));
  },
  'cpu.max': (properties, value, field) => {
    const { quota, period } = parseCpuMax(value, field);
    cpuQuota(properties, quota, period);
  },
  'cpuset.cpus': (properties, value, field) => cpuList(properties, 'AllowedCPUs', value, field),
  'cpuset.mems': (properties, value, field) => cpuList(properties, 'AllowedMemoryNodes', value, field),
  'pids.max': tasksMax,
  'io.weight': (properties, value, field) => {
    const weight = defaultWeight(value, field);
    if (weight !== undefined) properties.number('IOWeight', weight);
  },
  'io.bfq.weight': (properties, value, field) => {
    const weight = defaultWeight(value, field);
    if (weight !== undefined) properties.number('IOWeight', weightForBfq(weight));
  },
};

/** The files systemd writes, in an order in which they can be written. */
export const HELD_FILES: readonly string[] = Object.keys(UNIFIED);

function unifiedNumber(value: string, field: string): bigint {
  if (value === 'max') return INFINITY;
  // The kernel's memparse takes these suffixes.
  const [, digits, suffix = ''] = /^(\d{1,20})([kKmMgGtT]?)$/.exec(value) ?? [];
  if (digits === undefined) throw new ResourceError(field, `expected a number or "max", not ${JSON.stringify(value)}`);
  const number = BigInt(digits) << BigInt(10 * ' KMGT'.indexOf(suffix === '' ? ' ' : suffix.toUpperCase()));
  if (number > U64_MAX) throw new ResourceError(field, `${value} is too large`);
  return number;
}

/** "max", "50000", "max 100000", "50000 100000"; a quota of 0 is none. */
function parseCpuMax(value: string, field: string): { quota: number; period: number } {
  const [, quota, period = String(DEFAULT_PERIOD_USEC)] = /^(max|\d{1,15})(?:\s+(\d{1,15}))?$/.exec(value) ?? [];
  if (quota === undefined || Number(period) === 0) {
    throw new ResourceError(field, `expected "QUOTA PERIOD" or "max PERIOD", not ${JSON.stringify(value)}`);
  }
  return { quota: quota === 'max' ? 0 : Number(quota), period: Number(period) };
}

/** "300", "default 300"; lines of single devices are not looked at. */
function defaultWeight(value: string, field: string): number | undefined {
  for (const line of value.split('\n')) {
    const [, weight] = /^(?:default\s+)?(\d{1,5})\s*$/.exec(line.trim()) ?? [];
    if (weight !== undefined) return Number(weight);
    if (!/^\d+:\d+\s/.test(line.trim())) {
      throw new ResourceError(field, `expected "WEIGHT" or "default WEIGHT", not ${JSON.stringify(line)}`);
    }
  }
  return undefined;
}

/** What every unit is made with. */
export function creationProperties(options: {
  readonly kind: UnitKind;
  readonly slice: string;
  readonly description: string;
  readonly pids: readonly number[];
}): UnitProperty[] {
  const { kind, slice, description, pids } = options;
  const yes = (name: string): UnitProperty => ({ name, signature: 'b', value: true });
  const place: UnitProperty[] =
    kind === 'slice'
      ? // A slice lies where its name says.
        [{ name: 'Wants', signature: 'as', value: [slice] }]
      : // Delegated: systemd leaves the groups below alone.
        [{ name: 'Slice', signature: 's', value: slice }, yes('Delegate')];
  const members: UnitProperty[] = pids.length === 0 ? [] : [{ name: 'PIDs', signature: 'au', value: pids }];
  return [
    { name: 'Description', signature: 's', value: description },
    ...place,
    ...members,
    // A process that joins a controller's group late is not accounted for what it had before.
    ...['MemoryAccounting', 'CPUAccounting', 'IOAccounting', 'TasksAccounting'].map(yes),
    { name: 'DefaultDependencies', signature: 'b', value: false },
  ];
}
