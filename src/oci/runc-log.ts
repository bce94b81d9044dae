/**
 * Reads the JSON lines the OCI runtime logs (`--log FILE --log-format json`).
 *
 * All runs for one container append to one file and nobody truncates it, so each run remembers the
 * size before it started and looks only at what came after: an error of an earlier run is never
 * taken for its own.
 */
import { closeSync, constants, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { Code, isErrno, LaminaError, messageOf } from '../base/index.js';

/** One line of the log. */
export interface RuncLogEntry {
  /** `debug`, `info`, `warning`, `error`, ... */
  readonly level: string;
  readonly msg: string;
  /** As written, RFC 3339; empty when absent. */
  readonly time: string;
}

export interface RuncLogPart {
  readonly entries: readonly RuncLogEntry[];
  /**
   * Lines (or entries over several) that could not be read: torn writes, or another program's
   * output.
   */
  readonly garbageLines: number;
}

/**
 * More than this at the end of a log is not read: --debug runs write a lot, and the error comes
 * last.
 */
const MAX_READ_BYTES = 256 * 1024;

/**
 * Parses a log; never throws. What is no entry is counted and skipped.
 *
 * runc writes an entry per line; crun since it uses json-c spreads one over several, with the
 * braces on lines of their own.
 */
export function parseRuncLog(text: string): RuncLogPart {
  const entries: RuncLogEntry[] = [];
  let garbageLines = 0;
  let open = '';
  const take = (json: string): void => {
    const entry = parseEntry(json);
    if (entry === undefined) garbageLines += 1;
    else entries.push(entry);
  };
  for (const line of text.split('\n')) {
    if (open !== '' && !line.startsWith('{')) {
      open += `\n${line}`;
      if (!line.startsWith('}')) continue;
      take(open);
      open = '';
    } else {
      // An entry that another one interrupts was never finished.
      if (open !== '') garbageLines += 1;
      open = line.trimEnd() === '{' ? line : '';
      if (open === '' && line.trim() !== '') take(line);
    }
  }
  if (open !== '') garbageLines += 1;
  return { entries, garbageLines };
}

function parseEntry(json: string): RuncLogEntry | undefined {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    // Not JSON: counted by the caller.
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { level, msg, time } = value as Record<string, unknown>;
  if (typeof level !== 'string' || typeof msg !== 'string') return undefined;
  return { level, msg, time: typeof time === 'string' ? time : '' };
}

/** The log's size in bytes now; 0 while there is none. */
export function runcLogSize(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/**
 * Reads what was appended after the first `offset` bytes.
 * @returns the entries, or why there are none, in the words containerd uses
 *   (`open PATH: no such file or directory`)
 */
export function readRuncLog(path: string, offset: number): { part: RuncLogPart; trouble: string | undefined } {
  let fd: number;
  try {
    // Whoever owns the bundle may have put anything there: opening it must not wait.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    const why = isErrno(error, 'ENOENT') ? 'no such file or directory' : messageOf(error);
    return { part: { entries: [], garbageLines: 0 }, trouble: `open ${path}: ${why}` };
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile() && !stat.isDirectory())
      throw new LaminaError(Code.InvalidArgument, 'not a regular file', { subject: path });
    const { size } = stat;
    // A log shorter than before was truncated or replaced: all of it is new.
    const from = size < offset ? 0 : offset;
    const start = Math.max(from, size - MAX_READ_BYTES);
    const buffer = Buffer.alloc(size - start);
    const length = readSync(fd, buffer, 0, buffer.length, start);
    const text = buffer.toString('utf8', 0, length);
    const part = parseRuncLog(start === from ? text : text.slice(text.indexOf('\n') + 1));
    const isUseless = part.garbageLines > 0 && part.entries.length === 0;
    return { part, trouble: isUseless ? `${path}: ${part.garbageLines} unreadable log entries` : undefined };
  } catch (error) {
    return { part: { entries: [], garbageLines: 0 }, trouble: `read ${path}: ${messageOf(error)}` };
  } finally {
    closeSync(fd);
  }
}
