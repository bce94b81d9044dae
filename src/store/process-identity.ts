/** Which process something belongs to, told apart from a later one with the same pid. */
import { readFileSync, readlinkSync } from 'node:fs';
import { isErrno } from '../base/index.js';
import type { ProcessIdentity } from './types.js';

let ownBoot: string | undefined;

function bootId(): string {
  ownBoot ??= readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  return ownBoot;
}

function readNamespace(pid: number | 'self'): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    // Gone meanwhile, or not ours to look at.
    return undefined;
  }
}

/** State and start time of a process; undefined when there is none. @see proc_pid_stat(5) */
function readStat(pid: number): { readonly state: string; readonly startTime: number } | undefined {
  let line: string;
  try {
    line = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
  // The name, in parentheses, may contain anything.
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0] ?? '', startTime: Number(fields[19]) };
}

const isDead = (state: string): boolean => state === 'Z' || state === 'X';

/** The identity of a process, this one by default; undefined when it does not run. */
export function identityOf(pid: number = process.pid): ProcessIdentity | undefined {
  const stat = readStat(pid);
  if (stat === undefined || isDead(stat.state)) return undefined;
  return { pid, startTime: stat.startTime, bootId: bootId(), pidNamespace: readNamespace(pid) };
}

/** True when the process has ended for certain. One in another pid namespace cannot be judged: false. */
export function isGone(identity: ProcessIdentity): boolean {
  if (identity.bootId !== bootId()) return true;
  const { pidNamespace } = identity;
  if (pidNamespace !== undefined && pidNamespace !== readNamespace('self')) return false;
  const stat = readStat(identity.pid);
  return stat === undefined || isDead(stat.state) || stat.startTime !== identity.startTime;
}
