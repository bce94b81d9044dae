import { readdirSync } from 'node:fs';
import { isErrno } from '../base/index.js';

const HUGEPAGES_DIR = '/sys/kernel/mm/hugepages';
let known: readonly string[] | undefined;

/** "hugepages-2048kB" → "2MB", the name hugetlb's files use; undefined for another name. */
export function parseHugepageSize(name: string): string | undefined {
  const match = /^hugepages-([1-9]\d{0,14})kB$/.exec(name);
  if (match === null) return undefined;
  const kilobytes = Number(match[1]);
  if (kilobytes >= 1 << 20) return `${Math.floor(kilobytes / (1 << 20))}GB`;
  if (kilobytes >= 1 << 10) return `${Math.floor(kilobytes / (1 << 10))}MB`;
  return `${kilobytes}KB`;
}

/**
 * The page sizes of this machine, which do not change while it runs; none without hugetlb support.
 */
export function hugepageSizes(): readonly string[] {
  known ??= readSizes();
  return known;
}

function readSizes(): readonly string[] {
  try {
    return readdirSync(HUGEPAGES_DIR)
      .map(parseHugepageSize)
      .filter((size) => size !== undefined)
      .sort();
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}
