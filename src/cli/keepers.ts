/**
 * The keepers and engines of this node, found in /proc: both of a state directory, as that is what they have in common. Each keeper is asked over its own socket
 * who serves it, so an answer also shows that the engine serves: it has come through the keeper, after everything that had waited there.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { lamina } from '../api/index.js';
import { isErrno, LaminaError } from '../base/index.js';
import { socketPath } from '../shim/socket-path.js';
import { connect, createClient } from '../ttrpc/index.js';

const SHIM = 'containerd-shim-lamina-v2';
/** The keeper's listening socket: LISTENER_FD in native/keeper/start.c. */
const LISTENER_FD = 3;
const DEFAULT_STATE_DIR = '/run/lamina';

export interface Keeper {
  readonly pid: number;
  readonly namespace: string;
  readonly id: string;
  /** Path of its socket. */
  readonly socket: string;
  /** Where it finds its engine. */
  readonly library: string;
}

/** An engine's process. */
export interface EngineProcess {
  readonly pid: number;
  /** Tells it from another process that got its pid. */
  readonly startTime: string;
  /** Started by one keeper for itself. */
  readonly isDedicated: boolean;
  readonly library: string;
  readonly env: NodeJS.ProcessEnv;
}

/** The state directory of root's keepers, or of those whose environment we have. */
export function stateDir(env: NodeJS.ProcessEnv = process.env): string {
  const given = env['LAMINA_STATE_DIR'] ?? '';
  if (given !== '') return given;
  const runtimeDir = env['XDG_RUNTIME_DIR'];
  return process.geteuid?.() === 0 || runtimeDir === undefined ? DEFAULT_STATE_DIR : join(runtimeDir, 'lamina');
}

/** Reads of a process that may end at any moment. */
function ofProcess<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    // Gone, a zombie, or somebody else's.
    if (isErrno(error, 'ENOENT', 'ESRCH', 'EACCES', 'EPERM') || error instanceof LaminaError) return undefined;
    throw error;
  }
}

function words(pid: number, file: string): string[] {
  return readFileSync(`/proc/${pid}/${file}`, 'utf8').split('\0').slice(0, -1);
}

/** Fields 3 and 22 of /proc/PID/stat; the program's name before them may hold anything. */
function life(pid: number): { readonly state: string; readonly startTime: string } {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { state: fields[0] ?? '', startTime: fields[19] ?? '' };
}

function environment(pid: number): NodeJS.ProcessEnv {
  return Object.fromEntries(
    words(pid, 'environ').map((word) => {
      const at = word.indexOf('=', 1);
      return at < 0 ? [word, ''] : [word.slice(0, at), word.slice(at + 1)];
    }),
  );
}

function pids(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function flagValue(argv: readonly string[], flag: string): string {
  const at = argv.findIndex((word) => word === `-${flag}` || word === `--${flag}`);
  return at < 0 ? '' : (argv[at + 1] ?? '');
}

function keeperAt(pid: number): Keeper | undefined {
  return ofProcess(() => {
    const argv = words(pid, 'cmdline');
    if (basename(argv[0] ?? '') !== SHIM || argv.at(-1) !== 'start') return undefined;
    const env = environment(pid);
    if (stateDir(env) !== stateDir()) return undefined;
    const program = readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, '');
    return {
      pid,
      namespace: flagValue(argv, 'namespace'),
      id: flagValue(argv, 'id'),
      socket: socketPath(LISTENER_FD, pid),
      library: env['LAMINA_LIB'] ?? join(dirname(program), '../lib/lamina'),
    };
  });
}

function engineAt(pid: number): EngineProcess | undefined {
  return ofProcess(() => {
    const argv = words(pid, 'cmdline');
    const script = argv.find((word) => word.endsWith('/engine.cjs'));
    const last = argv.at(-1);
    if (script === undefined || (last !== script && last !== '--dedicated')) return undefined;
    const env = environment(pid);
    if (stateDir(env) !== stateDir()) return undefined;
    return { pid, startTime: life(pid).startTime, isDedicated: last === '--dedicated', library: dirname(script), env };
  });
}

/** All keepers that serve, by pid. */
export function findKeepers(): Keeper[] {
  const found = pids().map(keeperAt);
  // The start verb has its keeper's socket for a moment, too: the keeper came later.
  const bySocket = new Map<string, Keeper>();
  for (const keeper of found) if (keeper !== undefined) bySocket.set(keeper.socket, keeper);
  return [...bySocket.values()];
}

/** All engines, whether they answer or not. */
export function findEngines(): EngineProcess[] {
  return pids()
    .map(engineAt)
    .filter((engine) => engine !== undefined);
}

/** True until the process is gone or dead. */
export function isRunning(engine: EngineProcess): boolean {
  const now = ofProcess(() => life(engine.pid));
  return now !== undefined && now.startTime === engine.startTime && now.state !== 'Z' && now.state !== 'X';
}

/**
 * Asks a keeper's engine who it is.
 * @throws LaminaError DeadlineExceeded when nobody answers in time, Unavailable when the keeper is gone, Unimplemented from an engine of before this service
 */
export async function askKeeper(keeper: Keeper, timeoutMs: number): Promise<lamina.EngineStatus> {
  const connection = await connect({ path: keeper.socket });
  try {
    return await createClient(lamina.EngineDefinition, connection).status({}, { timeoutMs });
  } finally {
    connection.close();
  }
}
