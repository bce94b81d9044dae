/**
 * Work that may take as long as a disk, or a tenant, likes: done by a process of its own, the
 * worker (native/worker), never on a thread that tenants share. Here are its face and its errors;
 * who runs it is the caller's business, a keeper in the engine.
 */
import { existsSync, openSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { getSystemErrorMap } from 'node:util';
import { Code, LaminaError } from '../base/index.js';

export interface Work {
  /** What it is to whoever reads logs: "mount", "unmount", "limits". */
  readonly what: string;
  /** The worker's operation and its arguments; see native/worker/worker.h. */
  readonly args: readonly string[];
  /**
   * Descriptors that become 3 and so on in the worker; the caller keeps them, and may close them
   * once the work is done.
   */
  readonly fds?: readonly number[];
  /** It is killed after so long; absent: never. */
  readonly timeoutMs?: number;
}

/**
 * Does work and resolves when it is done. Where the one that waits dies meanwhile, the work goes
 * on.
 * @throws {WorkError} with what failed; LaminaError DeadlineExceeded when it was killed for its
 *   time, Unavailable when it was by others
 */
export type RunWork = (work: Work) => Promise<void>;

/** A system call that failed in the worker. Looks like Node's own errors. */
export class WorkError extends Error {
  readonly code: string;
  /** Negative, as in Node's. */
  readonly errno: number;
  readonly syscall: string;
  readonly path: string | undefined;
  /** Which one of the list it was doing. */
  readonly index: number;
  /** What it could not undo. */
  readonly left: readonly string[];

  constructor(errno: number, syscall: string, path: string, index: number, left: readonly string[]) {
    const [code, text] = getSystemErrorMap().get(-errno) ?? [`E${errno}`, `errno ${errno}`];
    super(`${code}: ${text}, ${syscall}${path === '' ? '' : ` '${path}'`}`);
    this.name = 'WorkError';
    this.code = code;
    this.errno = -errno;
    this.syscall = syscall;
    this.path = path === '' ? undefined : path;
    this.index = index;
    this.left = left;
  }
}

/** What the worker says of a failure. @throws LaminaError Internal for what it would never say */
export function parseWorkError(output: string): WorkError {
  const [errno = '', syscall = '', path = '', index = '', ...left] = output.split('\0').slice(0, -1);
  if (!/^\d+$/.test(errno) || !/^\d+$/.test(index)) {
    throw new LaminaError(Code.Internal, `lamina-worker: unknown failure ${JSON.stringify(output)}`);
  }
  return new WorkError(Number(errno), syscall, path, Number(index), left);
}

/** How far above the module's folder build/ may be: dist/src/sys is three deep. */
const LEVELS_UP = 3;
const NAME = 'lamina-worker';

/** Where the worker may be, best first: beside the bundle, or in the build folder of a checkout. */
export function workerCandidates(moduleDir: string): string[] {
  const candidates = [join(moduleDir, NAME)];
  for (let level = 0; level <= LEVELS_UP; level += 1)
    candidates.push(resolve(moduleDir, '../'.repeat(level), 'build', NAME));
  return candidates;
}

let program: number | undefined;

/**
 * The worker's program as an open file, by which it is executed: of the build that this code is of,
 * whatever is installed meanwhile.
 * @throws LaminaError Unavailable when it is not there
 */
export function workerProgram(): number {
  if (program !== undefined) return program;
  const candidates = workerCandidates(dirname(fileURLToPath(import.meta.url)));
  const path = candidates.find((candidate) => existsSync(candidate));
  if (path === undefined) {
    throw new LaminaError(Code.Unavailable, `${NAME}: not found in ${candidates.join(', ')}`, { subject: NAME });
  }
  program = openSync(path, 'r');
  return program;
}
