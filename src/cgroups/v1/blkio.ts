/**
 * blkio files of v1. Which exist depends on the kernel: CFQ's (before 5.0), BFQ's, and the
 * throttling layer's.
 */
import { readFileSync } from 'node:fs';
import { isErrno } from '../../base/index.js';
import { parseCounterText, parseDevice } from '../parse.js';
import type { V1BlkioEntry, V1BlkioStat } from '../stats.js';

type Field = keyof V1BlkioStat;

/** File families, best first: the first with any entry is taken. */
export const BLKIO_FAMILIES: readonly (readonly (readonly [Field, string])[])[] = [
  [
    ['ioServiceBytesRecursive', 'blkio.io_service_bytes_recursive'],
    ['ioServicedRecursive', 'blkio.io_serviced_recursive'],
    ['ioQueuedRecursive', 'blkio.io_queued_recursive'],
    ['ioServiceTimeRecursive', 'blkio.io_service_time_recursive'],
    ['ioWaitTimeRecursive', 'blkio.io_wait_time_recursive'],
    ['ioMergedRecursive', 'blkio.io_merged_recursive'],
    ['ioTimeRecursive', 'blkio.time_recursive'],
    ['sectorsRecursive', 'blkio.sectors_recursive'],
  ],
  [
    ['ioServiceBytesRecursive', 'blkio.bfq.io_service_bytes_recursive'],
    ['ioServicedRecursive', 'blkio.bfq.io_serviced_recursive'],
    ['ioQueuedRecursive', 'blkio.bfq.io_queued_recursive'],
    ['ioServiceTimeRecursive', 'blkio.bfq.io_service_time_recursive'],
    ['ioWaitTimeRecursive', 'blkio.bfq.io_wait_time_recursive'],
    ['ioMergedRecursive', 'blkio.bfq.io_merged_recursive'],
    ['ioTimeRecursive', 'blkio.bfq.time_recursive'],
    ['sectorsRecursive', 'blkio.bfq.sectors_recursive'],
  ],
  [
    ['ioServiceBytesRecursive', 'blkio.throttle.io_service_bytes_recursive'],
    ['ioServicedRecursive', 'blkio.throttle.io_serviced_recursive'],
  ],
  // Before Linux 4.20 the throttling layer counts for the group alone.
  [
    ['ioServiceBytesRecursive', 'blkio.throttle.io_service_bytes'],
    ['ioServicedRecursive', 'blkio.throttle.io_serviced'],
  ],
];

/** Parses "MAJOR:MINOR [OP] VALUE" lines; the line "Total N" is left out. */
export function parseBlkio(text: string, deviceName: (number: string) => string): V1BlkioEntry[] {
  const entries: V1BlkioEntry[] = [];
  for (const line of text.split('\n')) {
    const [number = '', ...rest] = line.split(' ');
    const device = parseDevice(number);
    const value = rest.pop();
    if (device === undefined || value === undefined || rest.length > 1) continue;
    entries.push({ op: rest[0] ?? '', device: deviceName(number), ...device, value: parseCounterText(value) });
  }
  return entries;
}

/** Parses /proc/partitions: "MAJOR:MINOR" → "/dev/NAME". */
export function parsePartitions(text: string): Map<string, string> {
  const names = new Map<string, string>();
  for (const match of text.matchAll(/^\s*(\d+)\s+(\d+)\s+\d+\s+(\S+)$/gm)) {
    names.set(`${match[1]}:${match[2]}`, `/dev/${match[3]}`);
  }
  return names;
}

let names: ReadonlyMap<string, string> = new Map();

/** The name of a block device, '' if there is none; the list is read again when a number is new. */
export function blockDeviceName(number: string): string {
  if (!names.has(number)) names = new Map([[number, ''], ...readPartitions()]);
  return names.get(number) ?? '';
}

function readPartitions(): Map<string, string> {
  try {
    return parsePartitions(readFileSync('/proc/partitions', 'latin1'));
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return new Map(); // A kernel without block devices.
    throw error;
  }
}
