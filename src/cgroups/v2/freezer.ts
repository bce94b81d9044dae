/** The v2 freezer: cgroup.freeze asks, cgroup.events ("frozen 1") answers and notifies. */
import { posix } from 'node:path';
import { Code, LaminaError } from '../../base/index.js';
import type { FileChanges } from '../changes.js';
import { CgroupNotFoundError, isGone } from '../errors.js';
import { isDirectory, readCgroupFile, writeCgroupFile } from '../file.js';
import { parseKey } from '../parse.js';
import { groupsBelow } from '../walk.js';

function readFrozen(dir: string): boolean {
  return parseKey(readCgroupFile(`${dir}/cgroup.events`), 'frozen') === 1n;
}

/** Runs `action`, and says what it means when a file is not there. */
function orNotFound<T>(dir: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (!isGone(error)) throw error;
    if (!isDirectory(dir)) throw new CgroupNotFoundError(dir, error);
    throw new LaminaError(Code.Unimplemented, `cgroup ${dir} has no freezer`, { subject: dir, cause: error });
  }
}

/** True if the processes of the group stand still, for whatever reason. */
export function isFrozen(dir: string): boolean {
  return orNotFound(dir, () => readFrozen(dir));
}

/** True if the group itself was asked to freeze. */
export function isFreezeAsked(dir: string): boolean {
  return orNotFound(dir, () => readCgroupFile(`${dir}/cgroup.freeze`).trim() === '1');
}

/**
 * @throws {LaminaError} DeadlineExceeded, the freeze being undone; Unimplemented without freezer
 *   (before Linux 5.2)
 */
export async function freeze(dir: string, changes: FileChanges, timeoutMs: number): Promise<void> {
  const wasAsked = isFreezeAsked(dir);
  orNotFound(dir, () => writeCgroupFile(`${dir}/cgroup.freeze`, '1'));
  const done = await changes.waitFor(`${dir}/cgroup.events`, () => isFrozen(dir), timeoutMs);
  if (done) return;
  if (!wasAsked) orNotFound(dir, () => writeCgroupFile(`${dir}/cgroup.freeze`, '0'));
  throw new LaminaError(Code.DeadlineExceeded, `freeze ${dir}: processes still run after ${timeoutMs} ms`, {
    subject: dir,
  });
}

/** @throws {LaminaError} DeadlineExceeded if processes neither run nor are held by an ancestor */
export async function thaw(dir: string, changes: FileChanges, timeoutMs: number): Promise<void> {
  orNotFound(dir, () => writeCgroupFile(`${dir}/cgroup.freeze`, '0'));
  const isDone = (): boolean => !isFrozen(dir) || isHeldByAncestor(dir);
  const done = await changes.waitFor(`${dir}/cgroup.events`, isDone, timeoutMs);
  if (done) return;
  throw new LaminaError(Code.DeadlineExceeded, `thaw ${dir}: still frozen after ${timeoutMs} ms`, { subject: dir });
}

/**
 * Asks every group of the tree that was asked to freeze to go on, the highest first; in steps.
 * Waits for none.
 */
export function* thawTree(dir: string): Generator<void, void> {
  for (const group of groupsBelow(dir, 'down')) {
    yield;
    try {
      if (isFreezeAsked(group)) orNotFound(group, () => writeCgroupFile(`${group}/cgroup.freeze`, '0'));
    } catch (error) {
      if (!(error instanceof CgroupNotFoundError)) throw error;
    }
  }
}

function isHeldByAncestor(dir: string): boolean {
  try {
    return readFrozen(posix.dirname(dir));
  } catch (error) {
    if (isGone(error)) return false; // The root has no cgroup.events.
    throw error;
  }
}
