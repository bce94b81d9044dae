/** Which cgroups a process is in: /proc/PID/cgroup (cgroups(7)). */
import { posix } from 'node:path';
import { Code, isErrno, LaminaError, pathFromBytes } from '../base/index.js';
import type { CgroupMount } from './detect.js';
import { CgroupFileError, CgroupNotFoundError } from './errors.js';
import { readBytes } from './file.js';

/**
 * Paths as the kernel prints them: from the root of the hierarchy, or of the reader's cgroup
 * namespace. A string stands for bytes as `pathFromBytes` says: UTF-8, and what is not UTF-8 as
 * half surrogate pairs.
 */
export interface CgroupMembership {
  /** The "0::" line: the path in the v2 hierarchy; undefined if there is none. */
  readonly unified: string | undefined;
  /** v1 controller ("memory", "name=systemd") → path. */
  readonly controllers: ReadonlyMap<string, string>;
}

/**
 * Parses the content of /proc/PID/cgroup: bytes, or text read as `pathFromBytes` or as UTF-8. The
 * kernel escapes nothing there, and lets no group have a line break in its name. Lines that make no
 * sense are left out.
 */
export function parseMembership(content: string | Uint8Array): CgroupMembership {
  let unified: string | undefined;
  const controllers = new Map<string, string>();
  const text = typeof content === 'string' ? content : pathFromBytes(content);
  for (const line of text.split('\n')) {
    const match = /^(\d+):([^:]*):(\/.*)$/s.exec(line);
    if (match === null) continue;
    const [, id, names = '', path = ''] = match;
    if (names === '') {
      if (id === '0') unified = path;
    } else {
      for (const name of names.split(',')) controllers.set(name, path);
    }
  }
  return { unified, controllers };
}

/**
 * Reads which cgroups a process is in.
 * @throws {LaminaError} NotFound if there is no such process, {CgroupFileError}
 */
export function readMembership(pid: number | 'self'): CgroupMembership {
  return parseMembership(readMembershipBytes(pid));
}

/** The content of /proc/PID/cgroup. @throws as `readMembership` */
export function readMembershipBytes(pid: number | 'self'): Buffer {
  try {
    return readBytes(`/proc/${pid}/cgroup`);
  } catch (error) {
    if (!(error instanceof CgroupFileError) || !isErrno(error.cause, 'ENOENT', 'ESRCH')) throw error;
    throw new LaminaError(Code.NotFound, `no process ${pid}`, { subject: String(pid), cause: error });
  }
}

/**
 * Where a cgroup is in the file system.
 * @param path from the root of the hierarchy, as the kernel prints it
 * @throws {CgroupNotFoundError} if it lies outside what is mounted, or outside the caller's cgroup
 *   namespace ("/../x")
 */
export function cgroupDirectory(mount: CgroupMount, path: string): string {
  if (path.split('/').includes('..')) throw new CgroupNotFoundError(path);
  const inside = posix.relative(mount.root, path);
  if (inside === '..' || inside.startsWith('../')) throw new CgroupNotFoundError(path);
  return inside === '' ? mount.mountPoint : posix.join(mount.mountPoint, inside);
}
