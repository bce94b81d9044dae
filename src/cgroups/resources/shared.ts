/** What v1 and v2 set in the same way. */
import type { CpuResources, HugepageLimit, LinuxResources } from '../../oci/index.js';
import { decimal } from './convert.js';
import type { Transaction } from './transaction.js';

export async function setCpuset(files: Transaction, { cpus = '', mems = '' }: CpuResources): Promise<void> {
  if (cpus !== '') await files.write('cpuset.cpus', cpus);
  if (mems !== '') await files.write('cpuset.mems', mems);
}

/**
 * Page limits, and with them those of reservations, where there is such a file (Linux 5.7).
 * @param suffix what the files' names end in: 'max', on v1 'limit_in_bytes'
 */
export async function setHugepages(
  files: Transaction,
  limits: readonly HugepageLimit[],
  suffix: string,
): Promise<void> {
  let isReservable: boolean | undefined;
  for (const { pageSize, limit } of limits) {
    await files.write(`hugetlb.${pageSize}.${suffix}`, decimal(limit));
    if (isReservable === false) continue;
    isReservable = await files.tryWrite(`hugetlb.${pageSize}.rsvd.${suffix}`, decimal(limit), 'ENOENT');
  }
}

export async function setRdma(files: Transaction, limits: NonNullable<LinuxResources['rdma']>): Promise<void> {
  for (const [device, { hcaHandles, hcaObjects }] of Object.entries(limits)) {
    const parts = [device];
    if (hcaHandles !== undefined) parts.push(`hca_handle=${hcaHandles}`);
    if (hcaObjects !== undefined) parts.push(`hca_object=${hcaObjects}`);
    if (parts.length > 1) await files.write('rdma.max', parts.join(' '));
  }
}
