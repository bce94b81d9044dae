/**
 * What /proc tells about mounts and this process: parsers (pure) and readers (one synchronous read
 * each; /proc never waits for a disk).
 *
 * @see proc(5), Documentation/filesystems/proc.rst
 */
import { readFileSync } from 'node:fs';
import { Code, isErrno, LaminaError, pathFromBytes, unescapeOctal } from '../base/index.js';

function malformed(file: string, text: string): LaminaError {
  return new LaminaError(Code.Internal, `parse ${file}: unexpected "${text.slice(0, 80)}"`, { subject: file });
}

/**
 * What /proc/PID/stat says after the program's name, which may hold any byte, parentheses too.
 * @returns the state's letter, and field 22 as text: the start in clock ticks after boot. Each
 *   empty where it is missing
 */
export function parseProcessStat(text: string): { readonly state: string; readonly startTime: string } {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0] ?? '', startTime: fields[19] ?? '' };
}

/**
 * One line of /proc/PID/mountinfo. Paths are bytes: see `pathFromBytes`, and `fsPath` for using
 * them.
 */
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
  return parseMountInfo(pathFromBytes(readFileSync(`/proc/${pid}/mountinfo`)));
}

/** The mounts at and below a path, of this process. A node has many; only these are parsed. */
export function readMountsBelow(path: string): MountInfo[] {
  const prefix = path === '/' ? '/' : `${path}/`;
  // What the kernel may write with escapes is not looked for.
  const text = /[\s\\#]/.test(path) ? '' : path;
  const lines = pathFromBytes(readFileSync('/proc/self/mountinfo')).split('\n');
  return parseMountInfo(lines.filter((line) => line.includes(text)).join('\n')).filter(
    ({ mountPoint }) => mountPoint === path || mountPoint.startsWith(prefix),
  );
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
