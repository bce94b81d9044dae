/** Walking a group with everything below it. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { isErrno } from '../base/index.js';
import { CgroupNotFoundError, isGone, isUnsupported } from './errors.js';
import { readCgroupFile } from './file.js';
import { parsePids } from './parse.js';

/** A directory without sub-directories has two links: "." and its parent's entry. kernfs keeps that count. */
const LEAF_LINKS = 2;

/** The groups right below; none if the group is not there. */
export function subgroups(dir: string): string[] {
  try {
    if (statSync(dir).nlink === LEAF_LINKS) return [];
    return readdirSync(dir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => `${dir}/${entry.name}`);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return []; // Removed while we walk.
    throw error;
  }
}

/** The process a thread belongs to; undefined if it has ended. */
function processOf(tid: number): number | undefined {
  try {
    const match = /^Tgid:\s*(\d+)$/m.exec(readFileSync(`/proc/${tid}/status`, 'latin1'));
    return match === null ? undefined : Number(match[1]);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
}

function processesIn(dir: string): number[] {
  try {
    return parsePids(readCgroupFile(`${dir}/cgroup.procs`));
  } catch (error) {
    // A threaded group does not list processes, only threads.
    if (!isUnsupported(error)) throw error;
    return parsePids(readCgroupFile(`${dir}/cgroup.threads`))
      .map(processOf)
      .filter((pid) => pid !== undefined);
  }
}

export interface ListOptions {
  /** With those of the groups below; default true. */
  readonly below?: boolean;
}

/** Every process of the group and below, once each. @throws {CgroupNotFoundError} if the group itself is not there */
export function listProcesses(dir: string, options: ListOptions = {}): number[] {
  const found = new Set<number>();
  const visit = (group: string): void => {
    try {
      for (const pid of processesIn(group)) found.add(pid);
    } catch (error) {
      if (!isGone(error)) throw error;
      if (group === dir) throw new CgroupNotFoundError(dir, error);
      return; // A sub-group removed while we walk.
    }
    if (options.below !== false) for (const child of subgroups(group)) visit(child);
  };
  visit(dir);
  return [...found];
}

/** The same; none if the group is not there. */
export function listRemaining(dir: string): number[] {
  try {
    return listProcesses(dir);
  } catch (error) {
    if (error instanceof CgroupNotFoundError) return [];
    throw error;
  }
}
