/** What the root group has no files for: it is the whole machine, and has no limits. */
import { readFileSync } from 'node:fs';
import { isErrno } from '../../base/index.js';
import { U64_MAX } from '../parse.js';
import type { V2MemoryStat } from '../stats.js';

const BYTES_PER_KIB = 1024n;

/** A line of /proc/meminfo in bytes; 0 if there is no such line. */
function parseMeminfo(text: string, key: string): bigint {
  const match = new RegExp(`^${key}:\\s+(\\d{1,18}) kB$`, 'm').exec(text);
  return match === null ? 0n : BigInt(match[1] as string) * BYTES_PER_KIB;
}

function readMeminfo(): string {
  try {
    return readFileSync('/proc/meminfo', 'latin1');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return '';
    throw error;
  }
}

/**
 * Memory in use and its limits, from the root's memory.stat and /proc/meminfo, as runc has them.
 */
export function rootMemory(
  stat: Pick<V2MemoryStat, 'anon' | 'file'>,
): Pick<V2MemoryStat, 'usage' | 'usageLimit' | 'swapUsage' | 'swapLimit'> {
  const meminfo = readMeminfo();
  return {
    usage: stat.anon + stat.file,
    usageLimit: U64_MAX,
    swapUsage: parseMeminfo(meminfo, 'SwapTotal') - parseMeminfo(meminfo, 'SwapFree'),
    swapLimit: U64_MAX,
  };
}
