/** Sending signals to all processes of a group where the kernel does not do it by itself. */
import { setTimeout as delay } from 'node:timers/promises';
import { Code, codeOf, isErrno, LaminaError } from '../base/index.js';
import { Pidfd, SIGKILL } from '../sys/index.js';
import { CgroupNotFoundError } from './errors.js';
import type { CgroupMembership } from './membership.js';
import { pidList } from './tree.js';

/** What it takes of a group. */
export interface SignalTarget {
  readonly path: string;
  pids(): Promise<number[]>;
  freeze(timeoutMs: number): Promise<void>;
  /** Ends the group's own freeze. */
  thaw(): Promise<void>;
  /** Ends every freeze of the group and of the groups below. */
  thawAll(): Promise<void>;
  /** True if the group is frozen by its own freeze, so that a user has paused it. */
  isPaused(): boolean;
}

/**
 * A group that does not freeze so fast (a process in uninterruptible sleep) is signaled unfrozen.
 */
const FREEZE_TIMEOUT_MS = 500;
/** Rounds over a group that could not be frozen and keeps forking. */
const MAX_ROUNDS = 16;
const FIRST_WAIT_MS = 1;
const LAST_WAIT_MS = 50;
/** Processes that are held at once, a descriptor each. */
const MAX_HELD = 64;

/** Freezes for the time of one walk. False if the group does not freeze, or has no freezer. */
async function tryFreeze(target: SignalTarget): Promise<boolean> {
  try {
    await target.freeze(FREEZE_TIMEOUT_MS);
    return true;
  } catch (error) {
    const code = codeOf(error);
    if (code === Code.DeadlineExceeded || code === Code.Unimplemented) return false;
    throw error;
  }
}

/**
 * Sends a signal once to each process of the group and below; a paused group stays paused.
 * Frozen, no process can fork away from the walk.
 */
export async function signalProcesses(target: SignalTarget, signal: number): Promise<number> {
  if (target.isPaused()) return signalRound(target, signal, new Set());
  const isFrozen = await tryFreeze(target);
  const signaled = new Set<number>();
  try {
    let total = 0;
    for (let round = 0; round < (isFrozen ? 1 : MAX_ROUNDS); round += 1) {
      const sent = await signalRound(target, signal, signaled);
      total += sent;
      if (sent === 0) break;
    }
    return total;
  } finally {
    if (isFrozen) await thawUnlessGone(target);
  }
}

/** Once signaled, the processes may end so fast that somebody has removed the group already. */
async function thawUnlessGone(target: SignalTarget): Promise<void> {
  try {
    await target.thaw();
  } catch (error) {
    if (!(error instanceof CgroupNotFoundError)) throw error;
  }
}

/** @param signaled those that have had it; whom this round signals is added */
async function signalRound(target: SignalTarget, signal: number, signaled: Set<number>): Promise<number> {
  const pids = (await target.pids()).filter((pid) => !signaled.has(pid));
  let sent = 0;
  for (let first = 0; first < pids.length; first += MAX_HELD) {
    const some = pids.slice(first, first + MAX_HELD);
    for (const pid of some) signaled.add(pid);
    sent += await signalMembers(target, some, signal);
  }
  return sent;
}

/**
 * A process that was listed may have ended since, and its number may be another's. Held by a
 * descriptor and listed again, it is the group's, or has ended, and then the descriptor leads to
 * nothing.
 * @returns how many have had the signal
 * @throws errno EMFILE, ENFILE
 */
async function signalMembers(target: SignalTarget, pids: readonly number[], signal: number): Promise<number> {
  const held: [number, Pidfd][] = [];
  try {
    for (const pid of pids) {
      const pidfd = openPidfd(pid);
      if (pidfd !== undefined) held.push([pid, pidfd]);
    }
    if (held.length === 0) return 0;
    const listed = new Set(await target.pids());
    return held.filter(([pid, pidfd]) => listed.has(pid) && pidfd.signal(signal)).length;
  } finally {
    for (const [, pidfd] of held) pidfd[Symbol.dispose]();
  }
}

/** @returns undefined if there is no such process */
function openPidfd(pid: number): Pidfd | undefined {
  try {
    return Pidfd.open(pid);
  } catch (error) {
    if (isErrno(error, 'ESRCH')) return undefined;
    throw error;
  }
}

/**
 * Kills until the group is empty.
 * @throws {LaminaError} DeadlineExceeded with the processes that are left
 */
export async function killProcesses(target: SignalTarget, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  try {
    for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(waitMs * 2, LAST_WAIT_MS)) {
      if ((await target.pids()).length === 0) return;
      await tryFreeze(target);
      const left = await target.pids();
      await signalRound(target, SIGKILL, new Set());
      // On v1 a frozen process dies only when it is thawed, and a group below may have been frozen
      // by itself.
      await target.thawAll();
      if (left.length === 0) return;
      if (performance.now() >= deadline) {
        throw new LaminaError(Code.DeadlineExceeded, `kill ${target.path}: processes are left: ${pidList(left)}`, {
          subject: target.path,
        });
      }
      await delay(waitMs);
    }
  } catch (error) {
    if (!(error instanceof CgroupNotFoundError)) throw error; // Removed: nobody is left.
  }
}

/**
 * Refuses to act on a group that this process is in, directly or below it.
 * @param own where this process is in the same hierarchy
 * @throws {LaminaError} FailedPrecondition
 */
export function assertNotOurs(action: string, path: string, own: CgroupMembership['unified']): void {
  if (own === undefined || !(own === path || own.startsWith(path.endsWith('/') ? path : `${path}/`))) return;
  throw new LaminaError(Code.FailedPrecondition, `${action} ${path}: this process is in that cgroup too`, {
    subject: path,
  });
}
