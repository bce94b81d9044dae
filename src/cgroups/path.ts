/**
 * Making the directories of a group.
 *
 * The way down is walked by held descriptors: each step is opened without following symbolic links
 * and must lie in the file system of the mount point, so that neither a link nor something mounted
 * over a group leads elsewhere, whatever happens meanwhile.
 */
import { closeSync, constants, fstatSync, mkdirSync, openSync, rmdirSync } from 'node:fs';
import { posix } from 'node:path';
import { Code, fsPath, isErrno, LaminaError, type UndoStack } from '../base/index.js';
import type { CgroupMount } from './detect.js';
import { CgroupFileError, CgroupNotFoundError, CgroupTreeError } from './errors.js';
import { cgroupDirectory } from './membership.js';

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
const MODE = 0o755;

/**
 * How deep the caller's own group is to be entered for a relative path: runc has it beside on v2,
 * below on v1.
 */
export type RelativeTo = 'beside' | 'below';

/**
 * Makes a path of the hierarchy out of what a user has given: absolute ones begin at the mount
 * point, relative ones at the caller's own group.
 * @param own the caller's own group, as the kernel prints it
 * @throws {LaminaError} InvalidArgument for "..", an empty path, the root, and what no group can be
 *   called
 */
export function hierarchyPath(path: string, mount: CgroupMount, own: () => string, relativeTo: RelativeTo): string {
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  const refuse = (why: string): LaminaError =>
    new LaminaError(Code.InvalidArgument, `cgroup path ${JSON.stringify(path)}: ${why}`, { subject: path });
  if (names.includes('..')) throw refuse('".." is not allowed');
  if (/[\0\n]/.test(path)) throw refuse('line breaks and NUL are not allowed');
  if (names.length === 0) throw refuse('it names no group below the root');
  if (path.startsWith('/')) return posix.join(mount.root, ...names);
  const base = relativeTo === 'beside' ? posix.dirname(own()) : own();
  return posix.join(base, ...names);
}

/** What `makeGroup` has done. */
export interface MadeGroup {
  readonly dir: string;
  /** Every group on the way, from the first below the mount point to the group itself. */
  readonly levels: readonly string[];
  /** The group itself was not there before. */
  readonly isNew: boolean;
}

/**
 * Makes a group and the groups above it that are not there.
 * @param path as the kernel prints it
 * @param undo gets the removal of everything that is made here
 * @throws {CgroupTreeError} permission, limit, read-only, {CgroupNotFoundError} outside the mount,
 *   {LaminaError}
 */
export function makeGroup(mount: CgroupMount, path: string, undo: UndoStack): MadeGroup {
  const dir = cgroupDirectory(mount, path);
  const names = posix.relative(mount.mountPoint, dir).split('/').filter(Boolean);
  const levels: string[] = [];
  const fds = [openSync(fsPath(mount.mountPoint), O_RDONLY | O_DIRECTORY)];
  try {
    let [fd = -1] = fds;
    let isNew = false;
    const { dev } = fstatSync(fd);
    for (const name of names) {
      const level = posix.join(levels.at(-1) ?? mount.mountPoint, name);
      isNew = makeDirectory(fd, name, level);
      if (isNew) undo.add(`make ${level}`, () => removeMade(level));
      fd = openDirectory(fd, name, level);
      fds.push(fd);
      if (fstatSync(fd).dev !== dev) throw invalidLevel(level, 'something else is mounted there');
      levels.push(level);
    }
    return { dir, levels, isNew };
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}

/** Removes a group that was just made; one that somebody else uses by now stays. */
function removeMade(dir: string): void {
  try {
    rmdirSync(fsPath(dir));
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'EBUSY', 'ENOTEMPTY')) throw error;
  }
}

function makeDirectory(parentFd: number, name: string, level: string): boolean {
  try {
    mkdirSync(fsPath(`/proc/self/fd/${parentFd}/${name}`), MODE);
    return true;
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return false;
    throw explainMkdir(level, error);
  }
}

function openDirectory(parentFd: number, name: string, level: string): number {
  try {
    return openSync(fsPath(`/proc/self/fd/${parentFd}/${name}`), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  } catch (error) {
    if (isErrno(error, 'ELOOP', 'ENOTDIR')) throw invalidLevel(level, 'it is no directory');
    if (isErrno(error, 'ENOENT')) throw new CgroupNotFoundError(level, error);
    throw new CgroupFileError('open', level, error);
  }
}

function invalidLevel(level: string, why: string): LaminaError {
  return new LaminaError(Code.InvalidArgument, `cgroup ${level}: ${why}`, { subject: level });
}

function explainMkdir(level: string, error: unknown): Error {
  const parent = posix.dirname(level);
  const options = { subject: parent, cause: error };
  if (isErrno(error, 'EACCES', 'EPERM')) {
    const advice = 'give it to this user (systemd: Delegate=yes), or name a path below a group that is';
    return new CgroupTreeError(
      'permission',
      `create cgroup ${level}: ${parent} may not be written: ${advice}`,
      options,
    );
  }
  if (isErrno(error, 'EAGAIN')) {
    const what = 'cgroup.max.descendants or cgroup.max.depth of a group above is reached';
    return new CgroupTreeError('limit', `create cgroup ${level}: ${what}`, options);
  }
  if (isErrno(error, 'EROFS')) {
    return new CgroupTreeError('read-only', `create cgroup ${level}: the hierarchy is mounted read-only`, options);
  }
  if (isErrno(error, 'ENOENT', 'ENODEV')) return new CgroupNotFoundError(parent, error);
  return new CgroupFileError('make', level, error);
}
