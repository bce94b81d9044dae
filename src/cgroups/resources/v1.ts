/** Setting limits on cgroup v1 (Documentation/admin-guide/cgroup-v1/). */
import type {
  BlockIoResources,
  CpuResources,
  LinuxResources,
  MemoryResources,
  NetworkResources,
} from '../../oci/index.js';
import { CgroupFileError } from '../errors.js';
import { parseCounterText } from '../parse.js';
import type { Applied } from './applied.js';
import { checkDeviceRules, checkResources } from './check.js';
import { decimal, pidsMax, UNLIMITED } from './convert.js';
import { isGiven, overlayResources } from './overlay.js';
import { setCpuset, setHugepages, setRdma } from './shared.js';
import { type CgroupIo, cgroupIo, controllerOf, Transaction } from './transaction.js';
import { writeDeviceRules } from './v1-devices.js';

const LIMIT = 'memory.limit_in_bytes';
const MEMSW = 'memory.memsw.limit_in_bytes';

/**
 * The limit may never be above that of memory and swap together, not even between two writes: what
 * grows is raised from the outside in, what shrinks is lowered from the inside out.
 */
async function setLimits(files: Transaction, update: MemoryResources, inForce: MemoryResources): Promise<void> {
  const limit = isGiven('memory.limit', update.limit) ? update.limit : undefined;
  const writes: [file: string, value: number][] = limit === undefined ? [] : [[LIMIT, limit]];
  const swap = swapToSet(files, update, inForce);
  if (swap !== undefined) {
    const current = parseCounterText(files.read(LIMIT)?.trim() ?? '');
    if (swap === UNLIMITED || current < BigInt(swap)) writes.unshift([MEMSW, swap]);
    else writes.push([MEMSW, swap]);
  }
  for (const [file, value] of writes) await writeLimit(files, file, decimal(value));
}

function swapToSet(files: Transaction, update: MemoryResources, inForce: MemoryResources): number | undefined {
  if (isGiven('memory.swap', update.swap)) return update.swap;
  // Implied by memory without limit, where the kernel counts swap.
  const isImplied = update.limit === UNLIMITED && inForce.swap === UNLIMITED;
  return isImplied && files.read(MEMSW) !== undefined ? UNLIMITED : undefined;
}

/** EBUSY: more is in use than the kernel could reclaim. */
async function writeLimit(files: Transaction, file: string, value: string): Promise<void> {
  try {
    await files.write(file, value);
  } catch (error) {
    if (error instanceof CgroupFileError && error.errno === 'EBUSY') {
      const [usage, peak] = ['usage', 'max_usage'].map((name) => files.read(file.replace(/limit/, name))?.trim());
      error.message += ` (usage ${usage ?? 'unknown'}, peak ${peak ?? 'unknown'})`;
    }
    throw error;
  }
}

async function setMemory(
  files: Transaction,
  update: MemoryResources,
  inForce: MemoryResources,
  saved: MemoryResources,
): Promise<void> {
  await setLimits(files, update, inForce);
  if (isGiven('memory.reservation', update.reservation)) {
    await files.write('memory.soft_limit_in_bytes', decimal(update.reservation as number));
  }
  if (isGiven('memory.kernelTCP', update.kernelTCP))
    await files.write('memory.kmem.tcp.limit_in_bytes', decimal(update.kernelTCP as number));
  // false is the default, and some groups do not take a write at all.
  if (update.disableOOMKiller === true) await files.write('memory.oom_control', '1');
  else if (update.disableOOMKiller === false && saved.disableOOMKiller === true)
    await files.write('memory.oom_control', '0');
  if (isGiven('memory.swappiness', update.swappiness))
    await files.write('memory.swappiness', String(update.swappiness));
}

/**
 * Writes files whose values limit each other, each allowed against the other's new value, but maybe
 * not against the one in force: those that are refused as invalid are written again after `last`.
 */
async function writeAround(
  files: Transaction,
  early: readonly [string, number][],
  last: readonly [string, number] | undefined,
): Promise<void> {
  const retried = last === undefined ? [] : ['EINVAL'];
  const refused: (readonly [string, number])[] = [];
  for (const [file, value] of early) {
    if (!(await files.tryWrite(file, decimal(value), ...retried))) refused.push([file, value]);
  }
  if (last !== undefined) await files.write(last[0], decimal(last[1]));
  for (const [file, value] of refused) await files.write(file, decimal(value));
}

async function setCpu(files: Transaction, update: CpuResources): Promise<void> {
  if (isGiven('cpu.shares', update.shares)) await files.write('cpu.shares', String(update.shares));
  const early: [string, number][] = [];
  if (update.period) early.push(['cpu.cfs_period_us', update.period]);
  // Linux 5.14; what was written before stays as it is on older ones.
  if (update.burst !== undefined && files.read('cpu.cfs_burst_us') !== undefined) {
    early.push(['cpu.cfs_burst_us', update.burst]);
  }
  await writeAround(files, early, update.quota ? ['cpu.cfs_quota_us', update.quota] : undefined);
  if (update.idle !== undefined) await files.write('cpu.idle', String(update.idle));
  const { realtimePeriod, realtimeRuntime } = update;
  await writeAround(
    files,
    realtimePeriod ? [['cpu.rt_period_us', realtimePeriod]] : [],
    realtimeRuntime ? ['cpu.rt_runtime_us', realtimeRuntime] : undefined,
  );
}

const THROTTLE_FILES = {
  throttleReadBpsDevice: 'blkio.throttle.read_bps_device',
  throttleWriteBpsDevice: 'blkio.throttle.write_bps_device',
  throttleReadIOPSDevice: 'blkio.throttle.read_iops_device',
  throttleWriteIOPSDevice: 'blkio.throttle.write_iops_device',
} as const;

/** CFQ's files up to Linux 4.20, BFQ's since. */
function weightFile(files: Transaction): string {
  return files.read('blkio.weight') === undefined ? 'blkio.bfq.weight' : 'blkio.weight';
}

async function setBlkio(files: Transaction, update: BlockIoResources): Promise<void> {
  if (isGiven('blockIO.weight', update.weight)) await files.write(weightFile(files), String(update.weight));
  if (isGiven('blockIO.leafWeight', update.leafWeight))
    await files.write('blkio.leaf_weight', String(update.leafWeight));
  for (const { major, minor, weight, leafWeight } of update.weightDevice ?? []) {
    if (isGiven('blockIO.weight', weight))
      await files.write(`${weightFile(files)}_device`, `${major}:${minor} ${weight}`);
    if (isGiven('blockIO.leafWeight', leafWeight)) {
      await files.write('blkio.leaf_weight_device', `${major}:${minor} ${leafWeight}`);
    }
  }
  for (const [name, file] of Object.entries(THROTTLE_FILES)) {
    for (const { major, minor, rate } of update[name as keyof typeof THROTTLE_FILES] ?? []) {
      await files.write(file, `${major}:${minor} ${decimal(rate)}`);
    }
  }
}

async function setNetwork(files: Transaction, update: NetworkResources): Promise<void> {
  if (isGiven('network.classID', update.classID)) await files.write('net_cls.classid', String(update.classID));
  for (const { name, priority } of update.priorities ?? [])
    await files.write('net_prio.ifpriomap', `${name} ${priority}`);
}

/** A quota or period of 0 is none; on v1 each has a file of its own, so that it stays. */
function withoutZeroQuota(update: LinuxResources): LinuxResources {
  if (update.cpu?.quota !== 0 && update.cpu?.period !== 0) return update;
  const { quota, period, ...cpu } = update.cpu;
  return { ...update, cpu: { ...cpu, ...(quota ? { quota } : {}), ...(period ? { period } : {}) } };
}

export interface SetV1Options {
  /**
   * Write `devices` too, to devices.allow and devices.deny; default false, as in an update by runc.
   */
  readonly devices?: boolean;
  readonly io?: CgroupIo;
}

/**
 * `setV2` for v1: same checks, same promise that a failure leaves nothing changed.
 * @param dirs controller → the group's directory in its hierarchy
 * @throws {ResourceError} before anything is written
 * @throws {CgroupFileError} with the file, the value and the kernel's errno; EBUSY: a memory limit
 *   is below what cannot be reclaimed
 * @throws {LimitUnavailableError} if the group has no directory with the controller, or the kernel
 *   no such file
 * @throws {CgroupNotFoundError} if the group is not there
 * @throws {RestoreError} if after a failure not everything could be put back
 */
export async function setV1(
  dirs: ReadonlyMap<string, string>,
  saved: LinuxResources,
  update: LinuxResources,
  options: SetV1Options = {},
): Promise<Applied> {
  checkResources(update, saved, 'legacy');
  const { devices, ...others } = withoutZeroQuota(update);
  const rules = options.devices === true ? devices : undefined;
  if (rules !== undefined) checkDeviceRules(rules);
  const resources = overlayResources(saved, rules === undefined ? others : { ...others, devices: rules });
  const files = new Transaction(
    { version: 'v1', dirOf: (file) => dirs.get(controllerOf(file)) },
    options.io ?? cgroupIo,
  );
  const { pids, memory, blockIO, cpu, hugepageLimits, rdma, network } = others;
  await files.run(async () => {
    if (pids?.limit !== undefined) await files.write('pids.max', pidsMax(pids.limit));
    if (memory !== undefined) await setMemory(files, memory, resources.memory ?? {}, saved.memory ?? {});
    if (blockIO !== undefined) await setBlkio(files, blockIO);
    if (cpu !== undefined) await setCpu(files, cpu);
    if (rules !== undefined) await writeDeviceRules(files, rules);
    if (cpu !== undefined) await setCpuset(files, cpu);
    if (hugepageLimits !== undefined) await setHugepages(files, hugepageLimits, 'limit_in_bytes');
    if (rdma !== undefined) await setRdma(files, rdma);
    if (network !== undefined) await setNetwork(files, network);
  });
  return { resources, undo: () => files.undo() };
}
