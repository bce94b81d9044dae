/** Setting limits on cgroup v2 (Documentation/admin-guide/cgroup-v2.rst). */

import { Code } from '../../base/index.js';
import type { BlockIoResources, CpuResources, LinuxResources, MemoryResources } from '../../oci/index.js';
import { parseCounterText } from '../parse.js';
import type { Applied } from './applied.js';
import { checkResources } from './check.js';
import { cpuMax, decimal, ioWeight, limitText, pidsMax, swapMax, UNLIMITED, weightFromShares } from './convert.js';
import { ResourceError } from './errors.js';
import { isGiven, overlayResources } from './overlay.js';
import { setCpuset, setHugepages, setRdma } from './shared.js';
import { type CgroupIo, cgroupIo, Transaction } from './transaction.js';
import { writeUnified } from './unified.js';

/** io.max's key of each throttle list. */
const IO_MAX_KEYS = {
  throttleReadBpsDevice: 'rbps',
  throttleWriteBpsDevice: 'wbps',
  throttleReadIOPSDevice: 'riops',
  throttleWriteIOPSDevice: 'wiops',
} as const;

async function setMemory(files: Transaction, update: MemoryResources, inForce: MemoryResources): Promise<void> {
  const hasLimit = isGiven('memory.limit', update.limit);
  if (hasLimit || isGiven('memory.swap', update.swap)) await setSwap(files, inForce);
  if (hasLimit) await files.write('memory.max', limitText(update.limit as number));
  if (isGiven('memory.reservation', update.reservation)) {
    await files.write('memory.low', limitText(update.reservation as number));
  }
}

/** Before memory.max; it changes with either, as it is the difference. */
async function setSwap(files: Transaction, inForce: MemoryResources): Promise<void> {
  const swap = swapMax(inForce);
  if (swap === undefined) return;
  // Kernels without swap accounting have no such file, and no limit is what they do anyway.
  const ignored = swap === 0 || swap === UNLIMITED ? ['ENOENT'] : [];
  await files.tryWrite('memory.swap.max', limitText(swap), ...ignored);
}

/**
 * Refuses a memory limit that is below what the group uses now, if `checkBeforeUpdate` asks for
 * that: the kernel would reclaim, then kill. Best effort: without memory.current there is no check.
 * To be called before systemd is told of the limit.
 * @param update,saved as for setV2
 * @throws {ResourceError} FailedPrecondition
 */
export function checkMemoryUsage(
  dir: string,
  saved: LinuxResources,
  update: LinuxResources,
  io: CgroupIo = cgroupIo,
): void {
  const memory = overlayResources(saved, update).memory ?? {};
  const { limit = 0, swap = 0 } = update.memory ?? {};
  if (memory.checkBeforeUpdate !== true || (limit === 0 && swap === 0)) return;
  const content = new Transaction({ version: 'v2', dirOf: () => dir }, io).read('memory.current');
  if (content === undefined) return;
  const usage = parseCounterText(content.trim());
  for (const name of ['swap', 'limit'] as const) {
    const value = memory[name] ?? 0;
    if (value > 0 && BigInt(value) <= usage) {
      const detail = `${value} is not above the current usage of ${usage}`;
      throw new ResourceError(`resources.memory.${name}`, detail, Code.FailedPrecondition);
    }
  }
}

async function setIo(files: Transaction, update: BlockIoResources): Promise<void> {
  const devices = (update.weightDevice ?? []).filter((entry) => isGiven('blockIO.weight', entry.weight));
  const hasWeight = isGiven('blockIO.weight', update.weight);
  if (hasWeight || devices.length > 0) {
    const bfq = files.read('io.bfq.weight');
    if (hasWeight && bfq !== undefined) await files.write('io.bfq.weight', String(update.weight));
    else if (hasWeight) await files.write('io.weight', String(ioWeight(update.weight as number)));
    // BFQ before Linux 5.4 shows one bare number and knows no weights per device.
    const takesDevices = bfq !== undefined && !/^\d+\n?$/.test(bfq);
    for (const { major, minor, weight } of takesDevices ? devices : []) {
      await files.write('io.bfq.weight', `${major}:${minor} ${weight}`);
    }
  }
  for (const [name, key] of Object.entries(IO_MAX_KEYS)) {
    for (const { major, minor, rate } of update[name as keyof typeof IO_MAX_KEYS] ?? []) {
      // 0 is how v1 takes a limit away; here the kernel refuses it.
      await files.write('io.max', `${major}:${minor} ${key}=${rate === 0 ? 'max' : decimal(rate)}`);
    }
  }
}

async function setCpu(files: Transaction, update: CpuResources, inForce: CpuResources): Promise<void> {
  if (update.idle !== undefined) await files.write('cpu.idle', String(update.idle));
  if (isGiven('cpu.shares', update.shares))
    await files.write('cpu.weight', String(weightFromShares(update.shares as number)));
  const hasQuota = update.quota !== undefined || update.period !== undefined;
  const isQuotaSet = hasQuota && Boolean(inForce.quota || inForce.period);
  // A burst above the quota in force is refused, so that it may have to wait for the new one.
  const isBurstSet =
    update.burst === undefined ||
    (await files.tryWrite('cpu.max.burst', decimal(update.burst), ...(isQuotaSet ? ['EINVAL'] : [])));
  if (isQuotaSet) await setQuota(files, cpuMax(inForce.quota, inForce.period));
  if (!isBurstSet) await files.write('cpu.max.burst', decimal(update.burst as number));
}

/** Before Linux 6.10 each write of cpu.max divides the burst by 1000. */
async function setQuota(files: Transaction, max: string): Promise<void> {
  const burst = files.read('cpu.max.burst')?.trim() ?? '0';
  await files.write('cpu.max', max);
  if (burst !== '0' && files.read('cpu.max.burst')?.trim() !== burst) await files.write('cpu.max.burst', burst);
}

/**
 * Lays limits over those in force and writes what that changes, in the order in which the kernel
 * takes it; `unified` comes last. If a write fails, everything written is put back. `devices` is
 * not looked at: on v2 it is a BPF program.
 * @param dir the group's directory
 * @param saved the limits in force
 * @throws {ResourceError} before anything is written
 * @throws {CgroupFileError} with the file, the value and the kernel's errno; LimitUnavailableError
 *   if there is no such file
 * @throws {CgroupNotFoundError} if the group is not there
 * @throws {RestoreError} if after a failure not everything could be put back
 */
export async function setV2(
  dir: string,
  saved: LinuxResources,
  update: LinuxResources,
  io: CgroupIo = cgroupIo,
): Promise<Applied> {
  checkResources(update, saved, 'unified');
  checkMemoryUsage(dir, saved, update, io);
  const { devices: _, ...limits } = update;
  const resources = overlayResources(saved, limits);
  const files = new Transaction({ version: 'v2', dirOf: () => dir }, io);
  await files.run(async () => {
    if (update.pids?.limit !== undefined) await files.write('pids.max', pidsMax(update.pids.limit));
    if (update.memory !== undefined) await setMemory(files, update.memory, resources.memory ?? {});
    if (update.blockIO !== undefined) await setIo(files, update.blockIO);
    if (update.cpu !== undefined) await setCpu(files, update.cpu, resources.cpu ?? {});
    if (update.cpu !== undefined) await setCpuset(files, update.cpu);
    if (update.hugepageLimits !== undefined) await setHugepages(files, update.hugepageLimits, 'max');
    if (update.rdma !== undefined) await setRdma(files, update.rdma);
    if (update.unified !== undefined) await writeUnified(files, update.unified);
  });
  return { resources, undo: () => files.undo() };
}
