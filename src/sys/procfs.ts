/**
 * What /proc tells about processes and mounts: parsers (pure) and readers (one synchronous read each; /proc never waits for a disk).
 *
 * @see proc(5), Documentation/filesystems/proc.rst
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { Code, isErrno, LaminaError } from '../base/index.js';

/** The fields of /proc/PID/stat that identify a process and its place. */
export interface ProcessStat {
  readonly pid: number;
  /** Name of the program, cut to 15 bytes by the kernel. */
  readonly comm: string;
  /** One letter: R, S, D, Z, T, X, ... */
  readonly state: string;
  readonly ppid: number;
  readonly pgrp: number;
  readonly session: number;
  /** Clock ticks after boot; together with pid this names a process for good. */
  readonly startTimeTicks: bigint;
}

function malformed(file: string, text: string): LaminaError {
  return new LaminaError(Code.Internal, `parse ${file}: unexpected "${text.slice(0, 80)}"`, { subject: file });
}

/** Parses /proc/PID/stat. The name may hold anything, parentheses and line breaks included, so it ends at the last `)`. */
export function parseProcessStat(text: string): ProcessStat {
  const open = text.indexOf('(');
  const close = text.lastIndexOf(')');
  const rest = text.slice(close + 2).split(' ');
  const [state, ppid, pgrp, session] = rest;
  // Field 22 of the file, where the state is field 3.
  const start = rest[19];
  if (open < 0 || close < open || state === undefined || start === undefined || !/^\d+$/.test(start)) {
    throw malformed('stat', text);
  }
  return {
    pid: Number(text.slice(0, open)),
    comm: text.slice(open + 1, close),
    state,
    ppid: Number(ppid),
    pgrp: Number(pgrp),
    session: Number(session),
    startTimeTicks: BigInt(start),
  };
}

/** Reads /proc/PID/stat. @throws errno ENOENT or ESRCH when there is no such process */
export function readProcessStat(pid: number): ProcessStat {
  return parseProcessStat(readFileSync(`/proc/${pid}/stat`, 'latin1'));
}

/** One line of /proc/PID/cgroup. */
export interface CgroupMembership {
  /** 0 for the unified hierarchy. */
  readonly hierarchyId: number;
  /** Empty for the unified hierarchy; `name=systemd` and the like for named ones. */
  readonly controllers: readonly string[];
  /** Path below the hierarchy's root as the reader's cgroup namespace shows it. */
  readonly path: string;
}

/** Parses /proc/PID/cgroup: `id:controller,controller:path` per line. */
export function parseCgroups(text: string): CgroupMembership[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const match = /^(\d+):([^:]*):(.*)$/.exec(line);
      const [, id, controllers, path] = match ?? [];
      if (id === undefined || controllers === undefined || path === undefined) throw malformed('cgroup', line);
      return { hierarchyId: Number(id), controllers: controllers === '' ? [] : controllers.split(','), path };
    });
}

/** Reads /proc/PID/cgroup. @throws errno ENOENT or ESRCH when there is no such process */
export function readCgroups(pid: number | 'self'): CgroupMembership[] {
  return parseCgroups(readFileSync(`/proc/${pid}/cgroup`, 'utf8'));
}

/** One line of /proc/PID/mountinfo. */
export interface MountInfo {
  readonly id: number;
  readonly parentId: number;
  /** `major:minor`. */
  readonly device: string;
  /** The directory of the filesystem that is mounted here. */
  readonly root: string;
  readonly mountPoint: string;
  readonly options: readonly string[];
  /** `shared:N`, `master:N`, `propagate_from:N`, `unbindable`. */
  readonly propagation: readonly string[];
  readonly type: string;
  readonly source: string;
  readonly superOptions: readonly string[];
}

/** Undoes the kernel's octal escapes of blank, tab, line break, backslash and `#`. */
function unescapeOctal(text: string): string {
  if (!text.includes('\\')) return text;
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}

function parseMountLine(line: string): MountInfo {
  const words = line.split(' ');
  const dash = words.indexOf('-', 6);
  const [id, parentId, device, root, mountPoint, options] = words;
  // The source may be empty: then two blanks follow each other.
  const [type, source, superOptions] = words.slice(dash + 1);
  if (dash < 0 || device === undefined || root === undefined || mountPoint === undefined || type === undefined) {
    throw malformed('mountinfo', line);
  }
  return {
    id: Number(id),
    parentId: Number(parentId),
    device,
    root: unescapeOctal(root),
    mountPoint: unescapeOctal(mountPoint),
    options: (options ?? '').split(','),
    propagation: words.slice(6, dash),
    type: unescapeOctal(type),
    source: unescapeOctal(source ?? ''),
    superOptions: (superOptions ?? '').split(','),
  };
}

/** Parses /proc/PID/mountinfo, in the kernel's order. */
export function parseMountInfo(text: string): MountInfo[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map(parseMountLine);
}

/** Reads /proc/PID/mountinfo. */
export function readMountInfo(pid: number | 'self' = 'self'): MountInfo[] {
  return parseMountInfo(readFileSync(`/proc/${pid}/mountinfo`, 'utf8'));
}

/** -1000 (never killed for memory) to 1000. */
export function readOomScoreAdj(pid: number | 'self'): number {
  return Number(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8'));
}

/** @throws errno EACCES when the value is lower than allowed without CAP_SYS_RESOURCE, EINVAL when out of range */
export function writeOomScoreAdj(pid: number | 'self', value: number): void {
  writeFileSync(`/proc/${pid}/oom_score_adj`, String(value));
}

const AT_PAGESZ = 6n;

/** The size of a memory page in bytes, which is also the limit of mount(2)'s data. */
export function readPageSize(): number {
  const auxv = readFileSync('/proc/self/auxv');
  const word = process.arch === 'ia32' || process.arch === 'arm' ? 4 : 8;
  const read = (at: number): bigint => (word === 8 ? auxv.readBigUInt64LE(at) : BigInt(auxv.readUInt32LE(at)));
  for (let at = 0; at + 2 * word <= auxv.length; at += 2 * word) {
    if (read(at) === AT_PAGESZ) return Number(read(at + word));
  }
  return 4096;
}

/** True in a user namespace other than the first: its ids are not all of those there are. */
export function inUserNamespace(): boolean {
  try {
    return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'latin1'));
  } catch (error) {
    // A kernel without user namespaces.
    if (isErrno(error, 'ENOENT')) return false;
    throw error;
  }
}
