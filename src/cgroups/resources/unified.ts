/** The OCI `unified` map: file → value, written as they are. */
import type { Transaction } from './transaction.js';

/**
 * The order of files that depend on each other; a controller stands for its other files. What is
 * not named comes at the end, the group's own files (cgroup.freeze) after everything.
 */
const ORDER = [
  'pids',
  'memory.swap.max',
  'memory.max',
  'memory.low',
  'memory',
  'io',
  'cpu.idle',
  'cpu.weight',
  'cpu.max.burst',
  'cpu.max',
  'cpu',
  'cpuset.cpus',
  'cpuset.mems',
  'cpuset',
  'hugetlb',
  'rdma',
  'misc',
];

function rank(file: string): number {
  const exact = ORDER.indexOf(file);
  if (exact >= 0) return exact;
  const controller = file.slice(0, file.indexOf('.'));
  if (controller === 'cgroup') return ORDER.length + 1;
  const general = ORDER.indexOf(controller);
  return general >= 0 ? general : ORDER.length;
}

/** The map's files in the order in which they are written. */
export function unifiedOrder(unified: Readonly<Record<string, string>>): string[] {
  return Object.keys(unified).sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}

/** An empty value is one too: it empties cpuset.cpus. */
function linesOf(value: string): string[] {
  const lines = value.split('\n').filter((line) => line !== '');
  return lines.length === 0 ? [value] : lines;
}

/**
 * Writes every file of the map, line by line: a write of several lines is not understood by all
 * files.
 */
export async function writeUnified(files: Transaction, unified: Readonly<Record<string, string>>): Promise<void> {
  const burst = unified['cpu.max'] === undefined ? undefined : unified['cpu.max.burst'];
  for (const file of unifiedOrder(unified)) {
    const value = unified[file] as string;
    // A burst above the quota in force has to wait for the new quota.
    if (file === 'cpu.max.burst' && burst !== undefined) {
      await files.tryWrite(file, value, 'EINVAL');
      continue;
    }
    for (const line of linesOf(value)) await files.write(file, line);
    if (file === 'cpu.max' && burst !== undefined && files.read('cpu.max.burst')?.trim() !== burst.trim()) {
      await files.write('cpu.max.burst', burst);
    }
  }
}
