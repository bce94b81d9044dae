/**
 * The worker (native/worker) as a keeper's child: what may take long for one container's sake is
 * done there, and is waited for by that container alone. Should the engine die meanwhile, the work
 * goes on, and its successor waits for it before it does the like.
 */
import { closeSync, readFileSync } from 'node:fs';
import { Code, LaminaError, waitAtMost } from '../base/index.js';
import type { ExitStatus, SpawnedProcess } from '../oci/index.js';
import { binding, parseWorkError, type RunWork, SIGKILL, type Work, workerProgram } from '../sys/index.js';
import type { KeeperChildren } from './keeper-children.js';

const FIRST_FD = 3;
/** How long a killed worker is waited for. */
const KILL_MS = 2000;

/** Who runs the worker. */
export type WorkerParent = Pick<KeeperChildren, 'spawn' | 'inheritedRun'>;

/**
 * Runs work for one container.
 * @param id of the container; the programs that are run for it are found by it, see
 *   `KeeperChildren.inheritedRuns`
 */
export function keeperWork(children: WorkerParent, id: string): RunWork {
  return async (work) => {
    const name = `${work.what} ${id}`;
    // A predecessor's: two that write or unmount the same thing would meddle with each other.
    for (let before = children.inheritedRun(name); before !== undefined; before = children.inheritedRun(name)) {
      await before.exited;
    }
    await run(children, name, work);
  };
}

async function run(children: WorkerParent, name: string, { args, fds = [], timeoutMs }: Work): Promise<void> {
  const output = binding().memfd('lamina-work', Buffer.alloc(0));
  try {
    const program = FIRST_FD + fds.length;
    const given = fds.map((fd, index): [number, number] => [fd, FIRST_FD + index]);
    const worker = await children.spawn({
      name,
      argv: [`/proc/self/fd/${program}`, ...args],
      fds: [[output, 1], ...given, [workerProgram(), program]],
      dieWithParent: true,
    });
    const status = await (timeoutMs === undefined ? worker.exited : within(worker, timeoutMs));
    if (status === undefined) throw new LaminaError(Code.DeadlineExceeded, `${name}: killed after ${timeoutMs} ms`);
    if (status.signal !== undefined) {
      throw new LaminaError(Code.Unavailable, `${name}: killed by signal ${status.signal}`);
    }
    if (status.code !== 0) throw parseWorkError(readFileSync(`/proc/self/fd/${output}`, 'utf8'));
  } finally {
    closeSync(output);
  }
}

/**
 * Waits for its end; kills it when it has had its time. Then it has a moment to go: it may sleep in
 * the kernel, but whatever it was asked for, it does no more of it.
 * @returns undefined when it was killed
 */
async function within(worker: SpawnedProcess, timeoutMs: number): Promise<ExitStatus | undefined> {
  const status = await waitAtMost(worker.exited, timeoutMs);
  if (status !== undefined) return status;
  worker.killGroup?.(SIGKILL);
  await waitAtMost(worker.exited, KILL_MS);
  return undefined;
}
