/** Moving a process into a group: cgroup.procs, on v2 and v1. */
import { posix } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Code, LaminaError } from '../base/index.js';
import { CgroupFileError, CgroupNotFoundError, CgroupTreeError, isGone, isUnsupported } from './errors.js';
import { isDirectory, readCgroupFile, writeCgroupFile } from './file.js';

/** A process that is just being forked is refused with EINVAL for a moment (runc#1326). */
const ATTEMPTS = 5;
const WAIT_MS = 30;

/**
 * @throws {LaminaError} InvalidArgument; 0 would be this process, and negative ones mean nothing
 */
export function assertPid(pid: number): void {
  if (Number.isSafeInteger(pid) && pid > 0) return;
  throw new LaminaError(Code.InvalidArgument, `pid ${pid}: not a process`, { subject: String(pid) });
}

/**
 * Moves a process, with all its threads.
 * @returns false if it has ended
 * @throws {CgroupTreeError, CgroupNotFoundError, CgroupFileError}
 */
export async function moveProcess(dir: string, pid: number): Promise<boolean> {
  const file = `${dir}/cgroup.procs`;
  for (let attempt = 1; ; attempt += 1) {
    try {
      writeCgroupFile(file, String(pid));
      return true;
    } catch (error) {
      if (!(error instanceof CgroupFileError)) throw error;
      if (error.errno === 'ESRCH') return false;
      if (error.errno !== 'EINVAL' || attempt === ATTEMPTS) throw explain(dir, pid, error);
    }
    await delay(WAIT_MS);
  }
}

function readOr(path: string, missing: string): string {
  try {
    return readCgroupFile(path).trim();
  } catch (error) {
    if (error instanceof CgroupFileError) return missing;
    throw error;
  }
}

function explain(dir: string, pid: number, error: CgroupFileError): Error {
  const what = `move process ${pid} into cgroup ${dir}`;
  const options = { subject: dir, cause: error };
  if (isGone(error) && !isDirectory(dir)) return new CgroupNotFoundError(dir, error);
  const type = readOr(`${dir}/cgroup.type`, 'domain');
  if (type === 'domain invalid') {
    return new CgroupTreeError(
      'domain-invalid',
      `${what}: it is "domain invalid", as a group above is threaded`,
      options,
    );
  }
  if (isUnsupported(error)) {
    return new CgroupTreeError('threaded', `${what}: it is "${type}", which this process cannot join`, options);
  }
  switch (error.errno) {
    case 'EBUSY': {
      const enabled = readOr(`${dir}/cgroup.subtree_control`, '');
      const rule = `it has enabled ${enabled} for groups below, so only those can have processes`;
      return new CgroupTreeError('internal-processes', `${what}: ${rule}`, options);
    }
    case 'EACCES':
    case 'EPERM': {
      const need = `this user must be allowed to write cgroup.procs there and in the nearest group above both, ${posix.dirname(dir)} or higher`;
      return new CgroupTreeError('permission', `${what}: ${need}`, options);
    }
    case 'EROFS':
      return new CgroupTreeError('read-only', `${what}: the hierarchy is mounted read-only`, options);
    case 'ENOSPC':
      return new CgroupTreeError('no-controller', `${what}: its cpuset.cpus or cpuset.mems is empty`, options);
    default:
      return error;
  }
}
