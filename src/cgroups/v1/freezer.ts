/**
 * The v1 freezer: freezer.state takes FROZEN or THAWED and reads FREEZING while processes are on
 * their way. It notifies of nothing, so it is polled. A process forked meanwhile can slip through
 * and keep the group at FREEZING; writing FROZEN again catches it
 * (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst). A program that is being replaced by
 * execve does not stand still before its other threads have died, which they do not while they are
 * frozen: only a thaw helps those.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Code, LaminaError } from '../../base/index.js';
import { CgroupNotFoundError, isGone } from '../errors.js';
import { isDirectory, readCgroupFile, writeCgroupFile } from '../file.js';
import { groupsBelow } from '../walk.js';

const FIRST_WAIT_MS = 1;
const LAST_WAIT_MS = 20;
/**
 * So often FROZEN is written before the group is thawed for a moment; 170 ms later for the first
 * time.
 */
const WRITES_PER_THAW = 12;
const THAW_MS = 5;

function access<T>(dir: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (isGone(error) && !isDirectory(dir)) throw new CgroupNotFoundError(dir, error);
    throw error;
  }
}

function readState(dir: string): string {
  return access(dir, () => readCgroupFile(`${dir}/freezer.state`).trim());
}

function writeState(dir: string, state: 'FROZEN' | 'THAWED'): void {
  access(dir, () => writeCgroupFile(`${dir}/freezer.state`, state));
}

/** True if all processes stand still, by this group's freeze or by an ancestor's. */
export function isFrozen(dir: string): boolean {
  return readState(dir) === 'FROZEN';
}

/** True if the group itself was asked to freeze. */
export function isFreezeAsked(dir: string): boolean {
  return access(dir, () => readCgroupFile(`${dir}/freezer.self_freezing`).trim() === '1');
}

/** @throws {LaminaError} DeadlineExceeded, the freeze being undone */
export async function freeze(dir: string, timeoutMs: number): Promise<void> {
  const wasAsked = isFreezeAsked(dir);
  const deadline = performance.now() + timeoutMs;
  let waitMs = FIRST_WAIT_MS;
  for (let write = 1; ; write += 1) {
    writeState(dir, 'FROZEN');
    if (isFrozen(dir)) return;
    if (performance.now() >= deadline) break;
    await delay(waitMs);
    waitMs = Math.min(waitMs * 2, LAST_WAIT_MS);
    if (write % WRITES_PER_THAW === 0) {
      writeState(dir, 'THAWED');
      await delay(THAW_MS);
    }
  }
  if (!wasAsked) writeState(dir, 'THAWED');
  throw new LaminaError(Code.DeadlineExceeded, `freeze ${dir}: processes still run after ${timeoutMs} ms`, {
    subject: dir,
  });
}

/** Takes effect at once; where an ancestor is frozen, when that is thawed. */
export function thaw(dir: string): void {
  writeState(dir, 'THAWED');
}

/** Thaws every group of the tree that was asked to freeze, the highest first; in steps. */
export function* thawTree(dir: string): Generator<void, void> {
  for (const group of groupsBelow(dir, 'down')) {
    yield;
    try {
      if (isFreezeAsked(group)) thaw(group);
    } catch (error) {
      if (!(error instanceof CgroupNotFoundError)) throw error;
    }
  }
}
