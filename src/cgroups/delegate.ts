/** Handing a group over to another user (Documentation/admin-guide/cgroup-v2.rst, "Delegation"). */
import { lchownSync, lstatSync, readFileSync } from 'node:fs';
import { fsPath, isErrno, type UndoStack } from '../base/index.js';
import { CgroupFileError } from './errors.js';

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** The kernel's own list (Linux 4.15), and what it has at least. */
const LIST = '/sys/kernel/cgroup/delegate';
const AT_LEAST = ['cgroup.procs', 'cgroup.threads', 'cgroup.subtree_control'];

function delegatedFiles(): string[] {
  try {
    return readFileSync(LIST, 'latin1')
      .split('\n')
      .filter((name) => name !== '' && !name.includes('/'));
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return AT_LEAST;
    throw error;
  }
}

/**
 * Makes a user the owner of a v2 group: of its directory and of the files with which to manage
 * groups below it, not of its limits.
 * @param undo gets what gives them back
 * @throws {CgroupFileError} PermissionDenied
 */
export function delegateGroup(dir: string, owner: Owner, undo: UndoStack): void {
  changeOwner(dir, owner, undo);
  for (const name of delegatedFiles()) changeOwner(`${dir}/${name}`, owner, undo);
}

function changeOwner(path: string, { uid, gid }: Owner, undo: UndoStack): void {
  try {
    const file = fsPath(path);
    const before = lstatSync(file);
    lchownSync(file, uid, gid);
    undo.add(`chown ${path}`, () => lchownSync(file, before.uid, before.gid));
  } catch (error) {
    // Files of controllers that are not enabled here.
    if (!isErrno(error, 'ENOENT')) throw new CgroupFileError('chown', path, error);
  }
}
