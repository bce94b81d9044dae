import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { isErrno } from '../../src/base/index.js';
import { until } from './wait.js';

/** One process as /proc shows it; unreadable parts are empty. See proc(5). */
export interface ProcessInfo {
  readonly pid: number;
  readonly ppid: number;
  readonly name: string;
  /** R, S, D, T, Z, ... */
  readonly state: string;
  /** Clock ticks since boot; with the pid it identifies a process for good. */
  readonly startTime: string;
  readonly commandLine: string;
}

export function readProcFile(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8');
  } catch {
    return ''; // gone meanwhile
  }
}

export function readProcLink(pid: number, name: string): string {
  try {
    return readlinkSync(`/proc/${pid}/${name}`);
  } catch {
    return ''; // gone meanwhile, or a zombie
  }
}

export function readProcess(pid: number): ProcessInfo | undefined {
  const stat = readProcFile(pid, 'stat');
  // The name is in parentheses and may itself contain any character.
  const end = stat.lastIndexOf(')');
  if (end < 0) return undefined;
  const fields = stat.slice(end + 2).split(' ');
  return {
    pid,
    ppid: Number(fields[1]),
    name: stat.slice(stat.indexOf('(') + 1, end),
    state: fields[0] ?? '',
    startTime: fields[19] ?? '',
    commandLine: readProcFile(pid, 'cmdline').replaceAll('\0', ' ').trim(),
  };
}

export function listProcesses(): ProcessInfo[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => readProcess(Number(name)))
    .filter((info) => info !== undefined);
}

export function isAlive(pid: number): boolean {
  const info = readProcess(pid);
  return info !== undefined && info.state !== 'Z';
}

/**
 * Sends SIGTERM to a container's init until it has ended: the init of a pid namespace ignores what
 * it does not handle, and a shell that has only just started may not have come to its trap yet.
 */
export async function terminate(pid: number): Promise<void> {
  await until(`process ${pid} ends`, () => !isAlive(pid) || !sendSignal(pid, 'SIGTERM'));
}

/** The direct children of a process. */
export function childrenOf(pid: number): ProcessInfo[] {
  return listProcesses().filter((info) => info.ppid === pid);
}

/** Sends a signal to a process that may have ended meanwhile. @returns false if it has */
export function sendSignal(pid: number, signal: number | NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch (error) {
    if (isErrno(error, 'ESRCH')) return false;
    throw error;
  }
}
