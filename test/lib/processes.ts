/** Finds the processes of Lamina that belong to one private daemon, and ends them one by one. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Box } from './box.js';
import type { Containerd } from './containerd.js';
import { isAlive, listProcesses, readProcess, readProcFile, sendSignal } from './proc.js';
import { until } from './wait.js';

/** A daemon, real or played, by the environment its shims run in. */
interface Environment {
  readonly env: NodeJS.ProcessEnv;
}

const ENGINE = /engine\.[cm]js( --dedicated)?$/;
const KEEPER = /containerd-shim-lamina-v2 .* start$/;

export function stateDir(daemon: Environment): string {
  return daemon.env['LAMINA_STATE_DIR'] ?? '';
}

function processesOf(daemon: Environment, program: RegExp): number[] {
  const variable = `LAMINA_STATE_DIR=${stateDir(daemon)}`;
  return listProcesses()
    .filter((info) => info.state !== 'Z' && program.test(info.commandLine))
    .filter((info) => readProcFile(info.pid, 'environ').split('\0').includes(variable))
    .map((info) => info.pid);
}

/** Pids of the engines that serve this daemon's state directory. */
export function engines(daemon: Environment): number[] {
  return processesOf(daemon, ENGINE);
}

/** The one engine of a daemon in shared mode. */
export async function theEngine(daemon: Environment): Promise<number> {
  let seen: number[] = [];
  return await until(
    'one engine runs',
    () => {
      seen = engines(daemon);
      return seen.length === 1 && seen[0];
    },
    { detail: () => `there are: ${seen.join(', ')}` },
  );
}

/** The keeper of a container: the process the shim's start verb has left. */
export async function keeperOf(box: Box, id: string): Promise<number> {
  const pid = await box.pidOf(id);
  const keeper = readProcess(pid)?.ppid ?? 0;
  if (!KEEPER.test(readProcess(keeper)?.commandLine ?? ''))
    throw new Error(`the parent of ${id} is no keeper: ${keeper}`);
  return keeper;
}

export function keepers(daemon: Environment): number[] {
  return processesOf(daemon, KEEPER);
}

/** Kills every engine there is at this moment, and waits for nothing. */
export function strikeEngines(daemon: Environment): void {
  for (const pid of engines(daemon)) sendSignal(pid, 'SIGKILL');
}

/** Kills every engine of the daemon with SIGKILL and waits until they are gone. */
export async function killEngine(daemon: Environment): Promise<number[]> {
  const pids = engines(daemon);
  if (pids.length === 0) throw new Error('no engine to kill');
  for (const pid of pids) sendSignal(pid, 'SIGKILL');
  await until(`the engines ${pids.join(', ')} are gone`, () => pids.every((pid) => !isAlive(pid)));
  return pids;
}

/** Kills the engine and waits for its successor, which keepers start at once. */
export async function replaceEngine(daemon: Environment): Promise<number> {
  const before = await killEngine(daemon);
  return await until('a new engine runs', () => engines(daemon).find((pid) => !before.includes(pid)));
}

/** What the state directory holds. */
export function stateFiles(daemon: Environment): string[] {
  const dir = stateDir(daemon);
  return existsSync(dir) ? readdirSync(dir) : [];
}

/** What the engines have written to stderr. Empty when all is well. */
export function engineLog(daemon: Environment): string {
  return stateFiles(daemon)
    .filter((name) => name.endsWith('.log'))
    .map((name) => readFileSync(join(stateDir(daemon), name), 'utf8'))
    .join('');
}

/**
 * Lines of the daemon's log that say it has lost the connection to this container's shim. Its
 * normal end makes one too.
 */
export function disconnects(daemon: Containerd, id: string): string[] {
  const log = readFileSync(join(daemon.dir, 'containerd.log'), 'utf8');
  return log.split('\n').filter((line) => line.includes('shim disconnected') && line.includes(id));
}
