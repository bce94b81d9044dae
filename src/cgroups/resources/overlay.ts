/** Laying an update over the limits in force. */
import type {
  BlockIoResources,
  CpuResources,
  LinuxResources,
  MemoryResources,
  NetworkResources,
  ThrottleDevice,
  WeightDevice,
} from '../../oci/index.js';
import { UNLIMITED } from './convert.js';
import { RESOURCE_FIELDS } from './fields.js';

/** The v2 file that a field of `memory`, `cpu` or `pids` alone decides on. */
const FILE_OF_FIELD: ReadonlyMap<string, string> = new Map(
  RESOURCE_FIELDS.flatMap(({ field, v2 }) =>
    /^(memory|cpu|pids)\./.test(field) && v2[0] !== undefined ? [[field, v2[0]] as const] : [],
  ),
);

export const THROTTLES = [
  'throttleReadBpsDevice',
  'throttleWriteBpsDevice',
  'throttleReadIOPSDevice',
  'throttleWriteIOPSDevice',
] as const;

/**
 * 0 in these fields means "not given", as it does to runc; Docker sends all of them with every
 * update.
 */
const ZERO_IS_ABSENT: ReadonlySet<string> = new Set([
  'memory.limit',
  'memory.reservation',
  'memory.swap',
  'memory.kernelTCP',
  'cpu.shares',
  'cpu.quota',
  'cpu.period',
  'cpu.realtimeRuntime',
  'cpu.realtimePeriod',
  'cpu.cpus',
  'cpu.mems',
  'blockIO.weight',
  'blockIO.leafWeight',
  'network.classID',
]);

/** The -1 of clients, in the spec's unsigned type: leave it. */
export const UNSET_SWAPPINESS = 2 ** 64;

/** True if an update says something with this value. */
export function isGiven(field: string, value: unknown): boolean {
  if (value === undefined || (field === 'memory.swappiness' && value === UNSET_SWAPPINESS)) return false;
  return !ZERO_IS_ABSENT.has(field) || (value !== 0 && value !== '');
}

/** Only the members that say something. */
function given<T extends object>(section: string, update: T): Partial<T> {
  const entries = Object.entries(update).filter(([name, value]) => isGiven(`${section}.${name}`, value));
  return Object.fromEntries(entries) as Partial<T>;
}

function overlayMemory(saved: MemoryResources, update: MemoryResources): MemoryResources {
  const changes = given('memory', update);
  // As on v1, where memory without a limit implies swap without one.
  if (changes.limit === UNLIMITED && changes.swap === undefined) changes.swap = UNLIMITED;
  return { ...saved, ...changes };
}

function overlayCpu(saved: CpuResources, update: CpuResources): CpuResources {
  const result = { ...saved, ...given('cpu', update) };
  const hasShares = isGiven('cpu.shares', update.shares);
  // An idle group has no weight, and a weight ends its being idle.
  if (update.idle === 1 && !hasShares) delete result.shares;
  if (update.idle === undefined && hasShares) delete result.idle;
  return result;
}

type Numbered = Readonly<Record<'major' | 'minor', number>>;

/** One entry per device, the last one given; those not mentioned stay. */
function overlayDevices<T extends Numbered>(saved: readonly T[] = [], update: readonly T[] = []): T[] {
  const devices = new Map<string, T>();
  for (const entry of [...saved, ...update]) {
    const key = `${entry.major}:${entry.minor}`;
    devices.set(key, { ...devices.get(key), ...entry });
  }
  return [...devices.values()];
}

function overlayBlockIo(saved: BlockIoResources, update: BlockIoResources): BlockIoResources {
  const result = { ...saved, ...given('blockIO', update) };
  if (update.weightDevice !== undefined) {
    const entries = update.weightDevice.map(
      (entry) => ({ major: entry.major, minor: entry.minor, ...given('blockIO', entry) }) as WeightDevice,
    );
    result.weightDevice = overlayDevices(saved.weightDevice, entries);
  }
  for (const name of THROTTLES) {
    if (update[name] !== undefined) result[name] = overlayDevices<ThrottleDevice>(saved[name], update[name]);
  }
  return result;
}

/** Lists whose elements have a name: the last one given of each name counts. */
function overlayNamed<T extends object>(name: keyof T, saved: readonly T[] = [], update: readonly T[] = []): T[] {
  return [...new Map([...saved, ...update].map((entry) => [entry[name], { ...entry }])).values()];
}

function overlayNetwork(saved: NetworkResources, update: NetworkResources): NetworkResources {
  const result = { ...saved, ...given('network', update) };
  if (update.priorities !== undefined) {
    result.priorities = overlayNamed('name', saved.priorities, update.priorities);
  }
  return result;
}

function overlayRdma(saved: LinuxResources['rdma'] = {}, update: LinuxResources['rdma'] = {}): LinuxResources['rdma'] {
  const result = new Map(Object.entries(saved));
  for (const [device, limits] of Object.entries(update)) result.set(device, { ...result.get(device), ...limits });
  return Object.fromEntries(result);
}

/** The v2 files an update's typed fields decide on. */
function typedFiles(update: LinuxResources, inForce: LinuxResources): Set<string> {
  const files = new Set<string>();
  // It is the difference of two fields.
  if (update.memory?.limit && inForce.memory?.swap) files.add('memory.swap.max');
  for (const section of ['memory', 'cpu', 'pids'] as const) {
    for (const [name, value] of Object.entries(update[section] ?? {})) {
      const field = `${section}.${name}`;
      const file = FILE_OF_FIELD.get(field);
      if (file !== undefined && isGiven(field, value)) files.add(file);
    }
  }
  return files;
}

/** Per key; what a typed field now says otherwise is no longer in force. */
function overlayUnified(
  saved: LinuxResources,
  update: LinuxResources,
  typed: ReadonlySet<string>,
): Record<string, string> {
  const kept = Object.entries(saved.unified ?? {}).filter(([file]) => !typed.has(file));
  return Object.fromEntries([...kept, ...Object.entries(update.unified ?? {})]);
}

/**
 * The limits that are in force once `update` is set where `saved` were: what is not given stays.
 *
 * As in runc: `memory.limit` -1 without `swap` takes the limit off swap too, `idle` 1 drops the
 * shares, lists go by device, page size or name, `devices` is replaced as a whole. Unlike in runc
 * nothing is forgotten for not being given.
 */
export function overlayResources(saved: LinuxResources, update: LinuxResources): LinuxResources {
  const result: LinuxResources = { ...saved };
  if (update.devices !== undefined) result.devices = update.devices.map((rule) => ({ ...rule }));
  if (update.memory !== undefined) result.memory = overlayMemory(saved.memory ?? {}, update.memory);
  if (update.cpu !== undefined) result.cpu = overlayCpu(saved.cpu ?? {}, update.cpu);
  if (update.pids?.limit !== undefined) result.pids = { ...saved.pids, ...update.pids };
  if (update.blockIO !== undefined) result.blockIO = overlayBlockIo(saved.blockIO ?? {}, update.blockIO);
  if (update.hugepageLimits !== undefined) {
    result.hugepageLimits = overlayNamed('pageSize', saved.hugepageLimits, update.hugepageLimits);
  }
  if (update.network !== undefined) result.network = overlayNetwork(saved.network ?? {}, update.network);
  if (update.rdma !== undefined) result.rdma = overlayRdma(saved.rdma, update.rdma) ?? {};
  if (saved.unified !== undefined || update.unified !== undefined) {
    result.unified = overlayUnified(saved, update, typedFiles(update, result));
  }
  return result;
}
