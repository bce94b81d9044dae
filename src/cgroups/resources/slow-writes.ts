/**
 * Which writes to a group's files may take long. A lowered memory limit reclaims inside the write,
 * with the container's disk and swap; a list of memory nodes waits for the address spaces of its
 * processes; a throttle waits until a disk's queue is empty. Such a write must not be done on a
 * thread that others need.
 *
 * What is known to be quick is listed; everything else may take long.
 */
import { parseCounterText } from '../parse.js';

/**
 * Files whose writes store a number, or work for a time that no process of the group has an
 * influence on.
 */
const QUICK: readonly RegExp[] = [
  /^pids\.max$/,
  /^cpu\.(shares|weight|weight\.nice|max|max\.burst|idle|uclamp\.\w+|cfs_quota_us|cfs_period_us|cfs_burst_us)$/,
  // Protection and swap limits only change what a later reclaim does.
  /^memory\.(min|low|oom\.group|swap\.(max|high)|zswap\.(max|writeback))$/,
  /^memory\.(soft_limit_in_bytes|swappiness|oom_control|kmem\.tcp\.limit_in_bytes)$/,
  /^(hugetlb\.[\w.]+|rdma\.max|misc\.max|devices\.(allow|deny))$/,
];

/**
 * Limits that reclaim when less is allowed than is used, each with the file that tells what is
 * used.
 */
const RECLAIMING: Readonly<Record<string, string>> = {
  'memory.max': 'memory.current',
  'memory.limit_in_bytes': 'memory.usage_in_bytes',
  'memory.memsw.limit_in_bytes': 'memory.memsw.usage_in_bytes',
};

/** undefined for what is no plain number: the kernel takes "64M", too. */
function bytesOf(text: string | undefined): bigint | undefined {
  const value = text?.trim();
  if (value === undefined) return undefined;
  if (value === '-1') return parseCounterText('max');
  return value === 'max' || /^\d{1,19}$/.test(value) ? parseCounterText(value) : undefined;
}

/**
 * Whether writing `data` to `file` may take long. A memory limit that is not lowered, and above
 * what is used, reclaims nothing: the limit in force keeps the group from using more in between.
 * @param file its bare name
 * @param read what a file of the same group shows; undefined if it cannot be read
 */
export function mayTakeLong(file: string, data: string, read: (file: string) => string | undefined): boolean {
  const used = RECLAIMING[file];
  if (used === undefined) {
    // It may be exceeded at any time, so no other value is safe.
    if (file === 'memory.high') return data.trim() !== 'max';
    return !QUICK.some((pattern) => pattern.test(file));
  }
  const limit = bytesOf(data);
  const inForce = bytesOf(read(file));
  if (limit === undefined || inForce === undefined || limit < inForce) return true;
  const usage = bytesOf(read(used));
  return usage === undefined || limit < usage;
}
