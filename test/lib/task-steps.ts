/** What tests do with the container of a shim that they drive themselves (shim-client.ts). */
import assert from 'node:assert/strict';
import * as api from '../../src/api/index.js';
import { Code, codeOf, LaminaError } from '../../src/base/index.js';
import { SIGKILL } from '../../src/sys/index.js';
import type { ShimHandle } from './shim-client.js';
import { bareProcess } from './spec.js';

export interface Streams {
  readonly stdin: string;
  readonly stdout: string;
  readonly stderr: string;
  readonly terminal: boolean;
}

/** Code and message of a call that has to fail. */
export async function failureOf(call: Promise<unknown>): Promise<LaminaError> {
  const error = await call.then(
    () => assert.fail('the call succeeded'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof LaminaError, String(error));
  return error;
}

export async function addExec(
  shim: ShimHandle,
  execId: string,
  args: readonly string[],
  streams: Partial<Streams> = {},
): Promise<void> {
  const { terminal = false, stdin = '', stdout = '', stderr = '' } = streams;
  const spec = api.packJson(api.OCI_TYPE_URL.process, bareProcess(args, { terminal }));
  await shim.task.exec({ id: shim.id, execId, terminal, stdin, stdout, stderr, spec });
}

/** An exec from its beginning to its end. @returns its exit status */
export async function runExec(shim: ShimHandle, execId: string, args: readonly string[]): Promise<number> {
  await addExec(shim, execId, args);
  await shim.task.start({ id: shim.id, execId });
  const { exitStatus } = await shim.task.wait({ id: shim.id, execId });
  await shim.task.delete({ id: shim.id, execId });
  return exitStatus;
}

export async function statusOf(shim: ShimHandle, execId = ''): Promise<number> {
  return (await shim.task.state({ id: shim.id, execId })).status;
}

export async function keeperPidOf(shim: ShimHandle): Promise<number> {
  return (await shim.task.connect({ id: shim.id })).shimPid;
}

/** Ends a container that runs, and deletes it. @returns its exit status */
export async function killAndDelete(shim: ShimHandle): Promise<number> {
  await shim.task.kill({ id: shim.id, execId: '', signal: SIGKILL, all: true });
  const { exitStatus } = await shim.task.wait({ id: shim.id, execId: '' });
  await shim.task.delete({ id: shim.id, execId: '' });
  return exitStatus;
}

/** Ends a shim without containers. The stock one may be gone before it has answered. */
export async function shutdown(shim: ShimHandle): Promise<void> {
  try {
    await shim.task.shutdown({ id: shim.id, now: false });
  } catch (error) {
    if (codeOf(error) !== Code.Unavailable) throw error;
  }
  shim.connection.close();
}
