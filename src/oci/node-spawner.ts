/** The Spawner of the library on its own: programs become children of this Node process. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { Code, codeOf, createDeferred, isErrno, LaminaError, messageOf } from '../base/index.js';
import type { ExitStatus, SpawnedProcess, Spawner, SpawnRequest } from './spawner.js';

/**
 * Starts programs with child_process.
 *
 * Each gets a session of its own. `dieWithParent` cannot be had here. Containers and detached execs
 * outlive the runtime that made them and are re-parented to the nearest subreaper or PID 1, whose
 * business their exit is then.
 */
export const nodeSpawner: Spawner = { spawn: spawnChild };

function spawnChild(request: SpawnRequest): Promise<SpawnedProcess> {
  const [program = '', ...args] = request.argv;
  const started = createDeferred<SpawnedProcess>();
  const ended = createDeferred<ExitStatus>();
  let child: ChildProcess;
  try {
    child = spawn(program, args, {
      stdio: stdioOf(request.fds ?? []),
      env: environmentOf(request),
      detached: true,
      ...(request.cwd === undefined ? {} : { cwd: request.cwd }),
    });
  } catch (error) {
    return Promise.reject(spawnError(request, error));
  }
  child.once('error', (error) => started.reject(spawnError(request, error)));
  child.once('exit', (code, signal) => ended.resolve(exitStatusOf(code, signal)));
  child.once('spawn', () => started.resolve(handleOf(child, ended.promise)));
  return started.promise;
}

function handleOf(child: ChildProcess, exited: Promise<ExitStatus>): SpawnedProcess {
  const pid = child.pid ?? 0;
  const isOver = () => child.exitCode !== null || child.signalCode !== null;
  return {
    pid,
    exited,
    kill: (signal) => {
      if (!isOver()) child.kill(signal);
    },
    killGroup: (signal) => {
      // Until libuv has reaped the leader, which sets exitCode or signalCode, its pid cannot name
      // another group.
      if (!isOver()) process.kill(-pid, signal);
    },
  };
}

function stdioOf(fds: readonly (readonly [number, number])[]): StdioOptions {
  const highest = Math.max(2, ...fds.map(([, childFd]) => childFd));
  const stdio: ('ignore' | number)[] = new Array(highest + 1).fill('ignore');
  for (const [fd, childFd] of fds) stdio[childFd] = fd;
  return stdio;
}

function environmentOf(request: SpawnRequest): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = request.clearEnv ? {} : { ...process.env };
  for (const [key, value] of Object.entries(request.env ?? {})) {
    if (value === undefined) delete env[key];
    else env[key] = value;
  }
  return env;
}

function exitStatusOf(code: number | null, signalName: NodeJS.Signals | null): ExitStatus {
  const signal = signalName === null ? undefined : constants.signals[signalName];
  return { code: signal === undefined ? (code ?? 0) : 128 + signal, signal, timeNs: BigInt(Date.now()) * 1_000_000n };
}

function spawnError(request: SpawnRequest, error: unknown): LaminaError {
  const program = request.argv[0] ?? '';
  // Node reports a missing working directory as a missing program.
  if (isErrno(error, 'ENOENT') && request.cwd !== undefined && !existsSync(request.cwd)) {
    const message = `run ${program} in ${request.cwd}: no such directory`;
    return new LaminaError(Code.InvalidArgument, message, { subject: request.cwd, cause: error });
  }
  return new LaminaError(codeOf(error), `run ${program}: ${messageOf(error)}`, { subject: program, cause: error });
}
