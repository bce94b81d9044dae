/**
 * Takes a resource away from running processes and gives it back; and what a shim may say and do in
 * between.
 */
import assert from 'node:assert/strict';
import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { Code } from '../../src/base/index.js';
import { mustRun } from './command.js';
import { FifoReader } from './fifo-reader.js';
import type { ShimHandle } from './shim-client.js';
import { bareProcess } from './spec.js';

/** The descriptors of a process: number → what it is. */
export function descriptorsOf(pid: number): Map<number, string> {
  const dir = `/proc/${pid}/fd`;
  const found = new Map<number, string>();
  for (const name of readdirSync(dir)) {
    try {
      found.set(Number(name), readlinkSync(join(dir, name)));
    } catch {
      // closed meanwhile
    }
  }
  return found;
}

/** The limit of descriptor numbers with which a process can open so many more. */
function limitFor(pid: number, room: number): number {
  const taken = descriptorsOf(pid);
  let limit = 0;
  for (let free = 0; free < room || taken.has(limit); limit += 1) if (!taken.has(limit)) free += 1;
  return limit;
}

/**
 * Leaves a running process `room` more descriptors than it has.
 * @returns gives it back what it had
 */
export async function leaveDescriptors(pid: number, room: number): Promise<() => Promise<void>> {
  const of = ['prlimit', '--pid', String(pid)];
  const before = await mustRun([...of, '--nofile', '--noheadings', '--raw', '--output', 'SOFT']);
  const set = async (soft: number | string): Promise<void> => void (await mustRun([...of, `--nofile=${soft}:`]));
  await set(limitFor(pid, room));
  return () => set(before.trim());
}

/** What has been written to the log of a bundle since the last call. */
export function readLog(bundle: string): string {
  const reader = new FifoReader(join(bundle, 'log'));
  try {
    return reader.readNow().toString('utf8');
  } finally {
    reader.close();
  }
}

/**
 * True if a call was done, false if it was refused for want of something; anything else is thrown.
 */
export async function isDone(call: Promise<unknown>): Promise<boolean> {
  try {
    await call;
    return true;
  } catch (error) {
    assert.equal((error as { code?: unknown }).code, Code.ResourceExhausted, String(error));
    assert.match(String(error), /resource exhausted$/);
    return false;
  }
}

export interface ExecStreams {
  readonly stdout?: string;
  readonly stderr?: string;
  readonly terminal?: boolean;
}

/**
 * Adds an exec, starts it, waits for it and deletes it, whatever came of its start.
 * @returns whether it was run; it must succeed then
 */
export async function tryExec(
  { task, id }: ShimHandle,
  execId: string,
  args: readonly string[] = ['true'],
  { stdout = '', stderr = '', terminal = false }: ExecStreams = {},
): Promise<boolean> {
  const value = Buffer.from(JSON.stringify(bareProcess(args, { terminal })));
  const spec = { typeUrl: 'json', value };
  if (!(await isDone(task.exec({ id, execId, terminal, stdin: '', stdout, stderr, spec })))) return false;
  const isRun = await isDone(task.start({ id, execId }));
  if (isRun) assert.equal((await task.wait({ id, execId })).exitStatus, 0);
  await task.delete({ id, execId });
  return isRun;
}

/** Kills a container, deletes it and lets its shim end. */
export async function endShim({ task, id }: ShimHandle): Promise<void> {
  const waiting = task.wait({ id, execId: '' });
  await task.kill({ id, execId: '', signal: 9, all: true });
  await waiting;
  await task.delete({ id, execId: '' });
  await task.shutdown({ id, now: false }).catch(() => undefined);
}
