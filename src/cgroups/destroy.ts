/** Removing a group with everything below it. */
import { rmdirSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Code, fsPath, isErrno, LaminaError } from '../base/index.js';
import { CgroupFileError, CgroupNotFoundError, CgroupTreeError } from './errors.js';
import { isDirectory } from './file.js';
import { pidList, processesBelow } from './tree.js';
import { inTurns } from './turns.js';
import { groupsBelow } from './walk.js';

const FIRST_WAIT_MS = 1;
const LAST_WAIT_MS = 50;

/** Waits until a group has no process any more, or the time is over. May come back early. */
export type WaitUntilEmpty = (dir: string, timeoutMs: number) => Promise<void>;

type Removal = 'removed' | 'busy';

function tryRemove(dir: string): Removal {
  try {
    rmdirSync(fsPath(dir));
    return 'removed';
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return 'removed';
    // A fake hierarchy says ENOTEMPTY, the kernel EBUSY.
    if (isErrno(error, 'EBUSY', 'ENOTEMPTY', 'EINTR')) return 'busy';
    // A read-only mount says EROFS for what does not exist, too.
    if (!isDirectory(dir)) return 'removed';
    if (isErrno(error, 'EROFS')) {
      throw new CgroupTreeError('read-only', `remove cgroup ${dir}: the hierarchy is mounted read-only`, {
        subject: dir,
        cause: error,
      });
    }
    if (isErrno(error, 'EACCES', 'EPERM')) {
      throw new CgroupTreeError('permission', `remove cgroup ${dir}: this user may not write the group above it`, {
        subject: dir,
        cause: error,
      });
    }
    throw new CgroupFileError('remove', dir, error);
  }
}

/**
 * Removes the groups below, the lowest first, as far as they are empty and time allows; in steps.
 * @param deadline by performance.now()
 * @returns false if time is over
 */
export function* removeBelow(dir: string, deadline: number): Generator<void, boolean> {
  for (const group of groupsBelow(dir, 'up')) {
    yield;
    if (performance.now() > deadline) return false;
    if (group !== dir) tryRemove(group);
  }
  return true;
}

/** The same, and the group itself. */
function* removeWhatIsEmpty(dir: string, deadline: number): Generator<void, Removal> {
  if (tryRemove(dir) === 'removed') return 'removed';
  return (yield* removeBelow(dir, deadline)) ? tryRemove(dir) : 'busy';
}

/**
 * Removes a group, with the groups below it, as soon as no process is left. Nothing to do if it is
 * not there.
 * @param deadline by performance.now()
 * @throws {CgroupTreeError} read-only, permission
 * @throws {LaminaError} FailedPrecondition with the pids when some are left at the deadline
 */
export async function removeTree(dir: string, waitUntilEmpty: WaitUntilEmpty, deadline: number): Promise<void> {
  for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(waitMs * 2, LAST_WAIT_MS)) {
    if ((await inTurns(removeWhatIsEmpty(dir, deadline))) === 'removed') return;
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) throw await notEmpty(dir);
    await waitUntilEmpty(dir, leftMs);
    if ((await inTurns(removeWhatIsEmpty(dir, deadline))) === 'removed') return;
    // Empty, and yet busy: processes on their way out hold it for a moment.
    await delay(Math.min(waitMs, Math.max(0, deadline - performance.now())));
  }
}

async function notEmpty(dir: string): Promise<LaminaError> {
  const pids = await remaining(dir);
  const left = pids.length === 0 ? 'it is still busy' : `processes are left: ${pidList(pids)}`;
  return new LaminaError(Code.FailedPrecondition, `remove cgroup ${dir}: ${left} at the deadline`, {
    subject: dir,
  });
}

async function remaining(dir: string): Promise<number[]> {
  try {
    return await inTurns(processesBelow(dir));
  } catch (error) {
    if (error instanceof CgroupNotFoundError) return [];
    throw error;
  }
}
