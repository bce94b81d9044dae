/**
 * What the shim processes of one side use, from /proc; see proc(5). runc and the containers' own
 * processes do not count.
 */
import { readdirSync } from 'node:fs';
import { listProcesses, type ProcessInfo, readProcFile } from '../test/lib/proc.js';

const SHIMS = /containerd-shim-|engine\.cjs/;

/**
 * Everything, shim or not, that carries a side's marker in its command line, environment or cgroup.
 */
export function markedProcesses(marker: string): ProcessInfo[] {
  return listProcesses().filter(
    (info) =>
      info.pid !== process.pid &&
      [info.commandLine, readProcFile(info.pid, 'environ'), readProcFile(info.pid, 'cgroup')].some((text) =>
        text.includes(marker),
      ),
  );
}

/** Keepers and engine, or the peer's shims. */
export function shimPids(marker: string): number[] {
  return markedProcesses(marker)
    .filter((info) => info.state !== 'Z' && SHIMS.test(info.commandLine))
    .map((info) => info.pid);
}

function tasksOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return []; // ended meanwhile
  }
}

/** Seconds on a processor so far, all threads that still run. */
export function cpuSeconds(pids: readonly number[]): number {
  let nanoseconds = 0;
  for (const pid of pids) {
    for (const task of tasksOf(pid)) {
      nanoseconds += Number(readProcFile(pid, `task/${task}/schedstat`).split(' ')[0]);
    }
  }
  return nanoseconds / 1e9;
}

/** Times a thread of these went to sleep of its own accord, each of which ends with a wake-up. */
export function sleeps(pids: readonly number[]): number {
  let count = 0;
  for (const pid of pids) {
    for (const task of tasksOf(pid)) {
      count += Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(readProcFile(pid, `task/${task}/status`))?.[1] ?? 0);
    }
  }
  return count;
}

export interface MemoryUse {
  /** Proportional set size, bytes. */
  readonly pss: number;
  /** Pages nobody else maps, bytes: what the end of these processes would free. */
  readonly unshared: number;
}

export function memoryUse(pids: readonly number[]): MemoryUse {
  let pss = 0;
  let unshared = 0;
  for (const pid of pids) {
    const rollup = readProcFile(pid, 'smaps_rollup');
    const kilobytes = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(rollup)?.[1] ?? 0);
    pss += kilobytes('Pss') * 1024;
    unshared += (kilobytes('Private_Clean') + kilobytes('Private_Dirty')) * 1024;
  }
  return { pss, unshared };
}
