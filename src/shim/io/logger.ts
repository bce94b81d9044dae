/**
 * Logging binaries (`binary://`): descriptors 3 and 4 are the process's stdout and stderr, 5 says
 * when the logger is ready.
 */
import { closeSync, readSync } from 'node:fs';
import { Code, isErrno, LaminaError, messageOf } from '../../base/index.js';
import type { SpawnedProcess, Spawner, SpawnRequest } from '../../oci/index.js';
import { binding, POLLIN, SIGKILL, SIGTERM, sharedPoller } from '../../sys/index.js';
import type { KeeperLink } from '../keeper-link.js';

/** What a logging binary gets between SIGTERM and SIGKILL, as in the stock shim. */
const GRACE_MS = 12_000;
const NAME = 'logger io/';

/** keeper → its loggers that were told to end, and have not; each is removed when it has. */
const ending = new WeakMap<KeeperLink, Set<Promise<void>>>();

/**
 * What the program that takes a process's output is called in the keeper.
 * @param prefix `io/<container>/<exec>/`
 */
export function loggerName(prefix: string): string {
  return `logger ${prefix}`;
}

/** SIGTERM, and SIGKILL for one that is still there after its grace. */
export function endLogger(keeper: KeeperLink, logger: SpawnedProcess): void {
  const all = ending.get(keeper) ?? new Set();
  ending.set(keeper, all);
  const timer = setTimeout(() => logger.kill(SIGKILL), GRACE_MS);
  const ended = logger.exited.then(() => {
    clearTimeout(timer);
    all.delete(ended);
  });
  all.add(ended);
  logger.kill(SIGTERM);
}

/** Resolves when all loggers that were told to end have: who kills them must not be gone before. */
export async function loggersEnded(keeper: KeeperLink): Promise<void> {
  await Promise.all(ending.get(keeper) ?? []);
}

/**
 * Ends the loggers that a predecessor engine had told to end, or lost: those that no process has
 * taken over.
 * @param lost ids of containers whose processes are not known
 */
export function endLeftLoggers(keeper: KeeperLink, lost: readonly string[]): void {
  for (const name of keeper.children.inheritedNames(NAME)) {
    const logger = lost.includes(name.split('/')[1] ?? '') ? undefined : keeper.children.inheritedRun(name);
    if (logger !== undefined) endLogger(keeper, logger);
  }
}

export interface LoggerPlan {
  readonly program: string;
  readonly args: readonly string[];
  /** `binary-v2`: an end of file on descriptor 5 without a byte is a failure. */
  readonly strict: boolean;
}

export interface LoggerOptions {
  /** What it is called in the keeper, where a successor engine finds it again. */
  readonly name: string;
  readonly spawner: Spawner;
  readonly containerId: string;
  readonly namespace: string;
  readonly loggerTimeoutMs: number;
}

/**
 * Starts a logger and waits until it is ready.
 * @param outputs read ends of stdout and, unless it is a terminal's, stderr; the caller closes its
 *   own
 * @throws LaminaError when it cannot be started, ends first (strict), or says nothing in time; it
 *   is gone then
 */
export async function startLogger(
  plan: LoggerPlan,
  outputs: readonly number[],
  options: LoggerOptions,
): Promise<SpawnedProcess> {
  const [ready, signal] = binding().pipe();
  const spare = outputs.length === 1 ? binding().pipe() : undefined;
  let logger: SpawnedProcess | undefined;
  try {
    logger = await spawnLogger(plan.program, options.spawner, {
      name: options.name,
      argv: [plan.program, ...plan.args],
      clearEnv: true,
      env: { CONTAINER_ID: options.containerId, CONTAINER_NAMESPACE: options.namespace },
      fds: [
        [outputs[0] ?? -1, 3],
        [outputs[1] ?? spare?.[0] ?? -1, 4],
        [signal, 5],
      ],
    });
    closeSync(signal);
    const byte = await readReady(ready, options);
    if (!byte && plan.strict) {
      throw new LaminaError(
        Code.Unknown,
        'logging binary did not call ready (it may have crashed or exited prematurely)',
        { subject: plan.program },
      );
    }
    return logger;
  } catch (error) {
    if (logger === undefined) closeSync(signal);
    logger?.kill(SIGKILL);
    throw error;
  } finally {
    closeSync(ready);
    for (const fd of spare ?? []) closeSync(fd);
  }
}

async function spawnLogger(program: string, spawner: Spawner, request: SpawnRequest): Promise<SpawnedProcess> {
  try {
    return await spawner.spawn(request);
  } catch (error) {
    const why = `failed to start binary process: ${messageOf(error)}`;
    throw new LaminaError(Code.Unknown, why, { subject: program, cause: error });
  }
}

/** True for a byte, false for end of file. */
function readReady(fd: number, { loggerTimeoutMs }: LoggerOptions): Promise<boolean> {
  binding().setNonBlocking(fd, true);
  return new Promise((resolve, reject) => {
    const settle = (end: () => void): void => {
      clearTimeout(timer);
      watch[Symbol.dispose]();
      end();
    };
    const timer = setTimeout(() => {
      settle(() =>
        reject(new LaminaError(Code.DeadlineExceeded, `logging binary not ready after ${loggerTimeoutMs} ms`)),
      );
    }, loggerTimeoutMs);
    const watch = sharedPoller().watch(fd, POLLIN, () => {
      try {
        const length = readSync(fd, Buffer.alloc(1));
        settle(() => resolve(length === 1));
      } catch (error) {
        if (!isErrno(error, 'EAGAIN')) settle(() => reject(error));
      }
    });
  });
}
