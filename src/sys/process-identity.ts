/**
 * Which process: a pid is used again, a pid with the time of its start is not until the next boot.
 * Names and command lines say nothing, as a process chooses them itself.
 *
 * @see proc(5): /proc/PID/stat field 22 (clock ticks after boot), /proc/sys/kernel/random/boot_id
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { Code, isErrno, LaminaError } from '../base/index.js';
import { Pidfd } from './pidfd.js';
import { parseProcessStat } from './procfs.js';

export interface ProcessIdentity {
  readonly pid: number;
  /** In clock ticks after boot. */
  readonly startTime: number;
  /** Of this start of the machine. */
  readonly bootId: string;
  /** The link /proc/PID/ns/pid: in another namespace the pid says nothing. */
  readonly pidNamespace?: string | undefined;
}

/** How /proc is read: files, and links. */
export interface ProcReader {
  file(path: string): string;
  link(path: string): string;
}

const proc: ProcReader = {
  file: (path) => readFileSync(path, 'latin1'),
  link: (path) => readlinkSync(path),
};

/** Neither changes while this process lives. */
let ownBootId: string | undefined;
let ownNamespace: string | undefined;

/** The identity of a process, this one by default; undefined when it does not run. */
export function identityOf(pid: number = process.pid, reader: ProcReader = proc): ProcessIdentity | undefined {
  const startTime = startTimeOf(pid, reader);
  if (startTime === undefined) return undefined;
  return { pid, startTime, bootId: bootIdOf(reader), pidNamespace: namespaceOf(pid, reader) };
}

/**
 * True when that very process has ended for certain. A zombie has: it can do nothing any more,
 * whatever its parent does. False for what cannot be judged: another pid namespace, a process that
 * may not be read.
 */
export function isGone(identity: ProcessIdentity, reader: ProcReader = proc): boolean {
  if (identity.bootId !== bootIdOf(reader)) return true;
  const { pidNamespace } = identity;
  if (pidNamespace !== undefined && pidNamespace !== namespaceOf('self', reader)) return false;
  try {
    return startTimeOf(identity.pid, reader) !== identity.startTime;
  } catch (error) {
    if (isErrno(error, 'EACCES', 'EPERM')) return false;
    throw error;
  }
}

/**
 * A descriptor of that very process.
 * @returns undefined when it has ended, or cannot be judged from here
 */
export function openProcess(identity: ProcessIdentity): Pidfd | undefined {
  let handle: Pidfd;
  try {
    handle = Pidfd.open(identity.pid, { ref: false });
  } catch (error) {
    if (isErrno(error, 'ESRCH', 'EINVAL')) return undefined;
    throw error;
  }
  // Read after the opening: what still has that start time is what was opened.
  const { pidNamespace } = identity;
  const isHere = pidNamespace === undefined || pidNamespace === namespaceOf('self', proc);
  if (isHere && !isGone(identity)) return handle;
  handle[Symbol.dispose]();
  return undefined;
}

function bootIdOf(reader: ProcReader): string {
  const read = (): string => reader.file('/proc/sys/kernel/random/boot_id').trim();
  if (reader !== proc) return read();
  ownBootId ??= read();
  return ownBootId;
}

function namespaceOf(pid: number | 'self', reader: ProcReader): string | undefined {
  if (pid === 'self' && reader === proc && ownNamespace !== undefined) return ownNamespace;
  try {
    const found = reader.link(`/proc/${pid}/ns/pid`);
    if (pid === 'self' && reader === proc) ownNamespace = found;
    return found;
  } catch (error) {
    // Gone meanwhile, or not ours to look at.
    if (isErrno(error)) return undefined;
    throw error;
  }
}

/** Field 22 of /proc/PID/stat; undefined when it is gone or a zombie. */
function startTimeOf(pid: number, reader: ProcReader): number | undefined {
  let text: string;
  try {
    text = reader.file(`/proc/${pid}/stat`);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH')) return undefined;
    throw error;
  }
  const { state, startTime } = parseProcessStat(text);
  if (!/^\d+$/.test(startTime)) {
    const what = `/proc/${pid}/stat`;
    throw new LaminaError(Code.Internal, `${what}: unexpected "${text.slice(0, 80)}"`, { subject: what });
  }
  return 'ZXx'.includes(state) ? undefined : Number(startTime);
}
