/** What v1 and v2 set in the same way. */
import type { CpuResources, HugepageLimit, LinuxResources } from '../../oci/index.js';
import { decimal } from './convert.js';
import type { Transaction } from './transaction.js';

export function setCpuset(files: Transaction, { cpus = '', mems = '' }: CpuResources): void {
  if (cpus !== '') files.write('cpuset.cpus', cpus);
  if (mems !== '') files.write('cpuset.mems', mems);
}

/**
 * Page limits, and with them those of reservations, where there is such a file (Linux 5.7).
 * @param suffix what the files' names end in: 'max', on v1 'limit_in_bytes'
 */
export function setHugepages(files: Transaction, limits: readonly HugepageLimit[], suffix: string): void {
  let isReservable: boolean | undefined;
  for (const { pageSize, limit } of limits) {
    files.write(`hugetlb.${pageSize}.${suffix}`, decimal(limit));
    if (isReservable === false) continue;
    isReservable = files.tryWrite(`hugetlb.${pageSize}.rsvd.${suffix}`, decimal(limit), 'ENOENT');
  }
}

export function setRdma(files: Transaction, limits: NonNullable<LinuxResources['rdma']>): void {
  for (const [device, { hcaHandles, hcaObjects }] of Object.entries(limits)) {
    const parts = [device];
    if (hcaHandles !== undefined) parts.push(`hca_handle=${hcaHandles}`);
    if (hcaObjects !== undefined) parts.push(`hca_object=${hcaObjects}`);
    if (parts.length > 1) files.write('rdma.max', parts.join(' '));
  }
}
