/**
 * The engines of a state directory: those that listen there, and those that keepers name as theirs.
 * The lock file beside an engine's socket, in a directory that is ours alone, says which process
 * was started to serve it (native/README.md, "Finding an engine").
 */
import { readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { lamina } from '../api/index.js';
import { Code, codeOf, LaminaError } from '../base/index.js';
import { LM_MSG_ASK, LM_MSG_STATUS, type Message, MessageSocket } from '../sys/index.js';
import { realpathOf } from './installation.js';
import { connectOwn, readOwnFile } from './keepers.js';
import { OwnProcess } from './own-process.js';

const SOCKET = /^engine-[0-9a-f]{16}\.sock$/;

/** An engine's process, held on to. */
export interface EngineProcess {
  readonly process: OwnProcess;
  /** Where it listens; undefined for one that serves the keeper that started it. */
  readonly socket: string | undefined;
  /**
   * What it has said of itself, or a keeper's answer; undefined for one that is silent, or too old
   * to be asked.
   */
  readonly status: lamina.EngineStatus | undefined;
}

/** The installation that an engine's folder is part of. */
export function libraryOf(directory: string): string {
  const parent = dirname(directory);
  return basename(parent) === 'releases' ? dirname(parent) : directory;
}

/** True for the same place, links resolved. */
export function isSamePlace(a: string, b: string): boolean {
  return a === b || (realpathOf(a) ?? a) === (realpathOf(b) ?? b);
}

/** The script that keepers with this library start. */
function scriptOf(library: string): string {
  return join(library, 'engine.cjs');
}

/**
 * Engines that listen in a state directory that is ours alone.
 * @param library this command's; of engines of another installation that say nothing, none is
 *   believed
 */
export async function listeningEngines(stateDir: string, library: string, timeoutMs: number): Promise<EngineProcess[]> {
  const sockets = readdirSync(stateDir)
    .filter((name) => SOCKET.test(name))
    .map((name) => join(stateDir, name));
  const found = await Promise.all(sockets.map((socket) => engineAt(socket, library, timeoutMs)));
  return found.filter((engine) => engine !== undefined);
}

async function engineAt(socket: string, library: string, timeoutMs: number): Promise<EngineProcess | undefined> {
  let status: lamina.EngineStatus | undefined;
  try {
    status = await askEngine(socket, timeoutMs);
  } catch (error) {
    // Nobody listens, or another user does.
    if (codeOf(error) === Code.Unavailable || codeOf(error) === Code.PermissionDenied) return undefined;
    if (codeOf(error) !== Code.DeadlineExceeded && codeOf(error) !== Code.Unimplemented) throw error;
  }
  const [pid = ''] = wordsOf(socket, '.lock');
  const [recorded, startTime] = wordsOf(socket, '.id');
  const process = OwnProcess.open(status?.pid ?? Number(pid));
  if (process === undefined) return undefined;
  // Its own word came over a socket of ours. What a file says may be of a process that is gone, and
  // its pid another's by now.
  const isIt =
    status !== undefined ||
    (recorded === undefined ? process.hasWord(scriptOf(library)) : recorded === pid && process.startTime === startTime);
  if (isIt) return { process, socket, status };
  process[Symbol.dispose]();
  return undefined;
}

/** The words of a file that lies beside an engine's socket. */
function wordsOf(socket: string, ending: string): string[] {
  return (readOwnFile(socket.replace(/\.sock$/, ending)) ?? '').split(/\s+/).filter((word) => word !== '');
}

/**
 * Asks an engine who it is, over the socket at which keepers find it.
 * @throws LaminaError Unavailable when nobody listens, PermissionDenied when another user does,
 * DeadlineExceeded without an answer in time, Unimplemented from an engine of before ASK
 */
async function askEngine(socket: string, timeoutMs: number): Promise<lamina.EngineStatus> {
  const { fd } = connectOwn(socket, 'seqpacket');
  return await new Promise((resolve, reject) => {
    const link = new MessageSocket({
      fd,
      onMessage: (message) => {
        clearTimeout(timer);
        link.close();
        try {
          resolve(statusIn(message));
        } catch (error) {
          reject(error);
        }
      },
      onClose: () => {
        clearTimeout(timer);
        reject(new LaminaError(Code.Unimplemented, `the engine at ${socket} is too old to be asked`));
      },
    });
    const timer = setTimeout(() => {
      link.close();
      reject(new LaminaError(Code.DeadlineExceeded, `no answer at ${socket} within ${timeoutMs} ms`));
    }, timeoutMs);
    link.send({ type: LM_MSG_ASK });
  });
}

function statusIn({ type, fields: [bytes] }: Message): lamina.EngineStatus {
  if (type !== LM_MSG_STATUS || bytes === undefined) {
    throw new LaminaError(Code.Unimplemented, `message ${type} as an answer`);
  }
  return lamina.EngineStatus.decode(bytes);
}

/**
 * The engine that a keeper names as its own, and that is none of those that listen: one that was
 * started for that keeper, or whose socket is gone.
 * @returns undefined when that is no process of ours
 */
export function namedEngine(status: lamina.EngineStatus): EngineProcess | undefined {
  const process = OwnProcess.open(status.pid);
  return process === undefined ? undefined : { process, socket: undefined, status };
}
