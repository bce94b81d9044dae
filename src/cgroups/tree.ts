/** The processes of a group and of everything below it. */
import { readdirSync, readFileSync } from 'node:fs';
import { isErrno } from '../base/index.js';
import { CgroupNotFoundError, isGone, isUnsupported } from './errors.js';
import { readCgroupFile } from './file.js';
import { parsePids } from './parse.js';
import { atOnce } from './turns.js';
import { groupsBelow } from './walk.js';

/** How many pids an error names. */
const SHOWN_PIDS = 5;

/** "3, 5, 8, 13, 21 and 29995 more". */
export function pidList(pids: readonly number[]): string {
  const shown = pids.slice(0, SHOWN_PIDS).join(', ');
  return pids.length > SHOWN_PIDS ? `${shown} and ${pids.length - SHOWN_PIDS} more` : shown;
}

/** The process a thread belongs to, with all its threads; undefined if it has ended. */
function processOf(tid: number): { pid: number; threads: string[] } | undefined {
  try {
    const match = /^Tgid:\s*(\d+)$/m.exec(readFileSync(`/proc/${tid}/status`, 'latin1'));
    if (match === null) return undefined;
    return { pid: Number(match[1]), threads: readdirSync(`/proc/${match[1]}/task`) };
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}

/**
 * The processes that have threads in a group. Each is asked for once, however many threads it has.
 */
function* processesOfThreads(dir: string): Generator<void, number[]> {
  const left = new Set(parsePids(readCgroupFile(`${dir}/cgroup.threads`)));
  const found = new Set<number>();
  for (const tid of left) {
    yield;
    const process = processOf(tid);
    if (process === undefined) continue;
    found.add(process.pid);
    for (const thread of process.threads) left.delete(Number(thread));
  }
  return [...found];
}

/** undefined in a threaded group, which lists threads only. */
function processesIn(dir: string): number[] | undefined {
  try {
    return parsePids(readCgroupFile(`${dir}/cgroup.procs`));
  } catch (error) {
    if (isUnsupported(error)) return undefined;
    throw error;
  }
}

export interface ListOptions {
  /** With those of the groups below; default true. */
  readonly below?: boolean;
}

/** As `listProcesses`, in steps. */
export function* processesBelow(dir: string, options: ListOptions = {}): Generator<void, number[]> {
  const found = new Set<number>();
  let isThere = false;
  let isThreaded = false;
  for (const group of options.below === false ? [dir] : groupsBelow(dir, 'down')) {
    yield;
    try {
      const listed: number[] | undefined = isThreaded ? undefined : processesIn(group);
      // A domain lists the processes of all threaded groups below it; only where none was passed
      // are threads asked.
      isThreaded ||= listed === undefined && !isThere;
      for (const pid of isThreaded ? yield* processesOfThreads(group) : (listed ?? [])) found.add(pid);
      isThere = true;
    } catch (error) {
      if (!isGone(error)) throw error;
      if (!isThere) throw new CgroupNotFoundError(dir, error);
      // A sub-group removed while we walk.
    }
  }
  if (!isThere) throw new CgroupNotFoundError(dir);
  return [...found];
}

/**
 * Every process of the group and below, once each.
 * @throws {CgroupNotFoundError} if the group itself is not there
 */
export function listProcesses(dir: string, options: ListOptions = {}): number[] {
  return atOnce(processesBelow(dir, options));
}

/** Whether there is a process in the group or below, in steps. False if the group is not there. */
export function* isOccupied(dir: string): Generator<void, boolean> {
  for (const group of groupsBelow(dir, 'down')) {
    yield;
    try {
      if ((processesIn(group) ?? (yield* processesOfThreads(group))).length > 0) return true;
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  }
  return false;
}

/** The same as `listProcesses`; none if the group is not there. */
export function listRemaining(dir: string): number[] {
  try {
    return listProcesses(dir);
  } catch (error) {
    if (error instanceof CgroupNotFoundError) return [];
    throw error;
  }
}
