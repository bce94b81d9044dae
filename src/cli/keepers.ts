/**
 * The keepers of this node. Each registers in the state directory (native/keeper/registration.h).
 * Those of before there were registrations are looked for at every path that could be a keeper's,
 * which is then only a hint. Either way a keeper is what answers at its socket, as a process of
 * ours: its name, command line and environment say nothing.
 */
import { closeSync, constants, lstatSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { lamina } from '../api/index.js';
import { Code, isErrno, LaminaError, messageOf } from '../base/index.js';
import { binding, connectUnix, readListeningPaths } from '../sys/index.js';
import { connect, createClient } from '../ttrpc/index.js';
import { OwnProcess } from './own-process.js';

const REGISTRATION = /^keeper-[0-9a-f]{16}$/;
/** As containerd names a shim's socket: a SHA-256. */
const SOCKET_NAME = /^[0-9a-f]{64}$/;
const OPEN_TO_OTHERS = 0o022;

/** What a keeper has written down of itself: fields of native/keeper/registration.c. */
export interface Registration {
  readonly socket: string;
  readonly namespace: string;
  readonly id: string;
  /** Where it looks for its engine. */
  readonly library: string;
  /** Where that listens. */
  readonly engineSocket: string;
  /** Of its code; see HELLO in native/README.md. */
  readonly build: string;
}

/** A keeper that answered, or that is known to be there. */
export interface Keeper {
  readonly pid: number;
  readonly socket: string;
  /** Empty where neither keeper nor engine say. */
  readonly namespace: string;
  readonly id: string;
  /** Empty for a keeper of before there were builds. */
  readonly build: string;
  /** Undefined for a keeper of before there were registrations. */
  readonly registration: Registration | undefined;
}

/** An answer of a keeper's engine, and which process listens there as far as the kernel knows. */
export interface Answer {
  readonly status: lamina.EngineStatus;
  readonly listenerPid: number;
}

/**
 * Parses a registration: NUL-terminated `key=value`.
 * @returns undefined when it has no absolute socket
 */
export function parseRegistration(text: string): Registration | undefined {
  const values = new Map<string, string>();
  for (const field of text.split('\0')) {
    const at = field.indexOf('=');
    if (at > 0) values.set(field.slice(0, at), field.slice(at + 1));
  }
  const value = (key: string): string => values.get(key) ?? '';
  if (!value('socket').startsWith('/')) return undefined;
  return {
    socket: value('socket'),
    namespace: value('namespace'),
    id: value('id'),
    library: value('library'),
    engineSocket: value('engine'),
    build: value('build'),
  };
}

/** Those in a state directory that is ours alone. Some may be of keepers that were killed. */
export function readRegistrations(stateDir: string): Registration[] {
  const names = readdirSync(stateDir).filter((name) => REGISTRATION.test(name));
  return names.flatMap((name) => {
    const text = readOwnFile(join(stateDir, name));
    return (text === undefined ? undefined : parseRegistration(text)) ?? [];
  });
}

/** A file that may be removed at any moment. */
export function readOwnFile(path: string): string | undefined {
  try {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      return readFileSync(fd, 'utf8');
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** Sockets that may be those of keepers that register nothing, or of other shims. */
export function hintedSockets(): string[] {
  const trusted = new Map<string, boolean>();
  return readListeningPaths().filter((path) => {
    if (!SOCKET_NAME.test(basename(path))) return false;
    const folder = dirname(path);
    const isTrusted = trusted.get(folder) ?? isPrivatePath(folder);
    trusted.set(folder, isTrusted);
    return isTrusted;
  });
}

/**
 * True if root and this user alone decide what a folder's path leads to. Looks at nothing behind a
 * part that others decide.
 */
function isPrivatePath(folder: string): boolean {
  const parts = folder.split('/').filter(Boolean);
  if (parts.includes('..') || parts.includes('.')) return false;
  let path = '/';
  for (const part of ['', ...parts]) {
    path = join(path, part);
    const info = lstatSync(path, { throwIfNoEntry: false });
    if (info === undefined || !info.isDirectory() || (info.mode & OPEN_TO_OTHERS) !== 0) return false;
    if (info.uid !== 0 && info.uid !== process.geteuid?.()) return false;
  }
  return true;
}

/**
 * Connects to a socket of this user's.
 * @returns the descriptor, and the pid of the process that called listen(2) last: 0 when it is in
 *   another pid namespace
 * @throws LaminaError Unavailable when nobody listens, PermissionDenied when another user does,
 *   DeadlineExceeded when it takes no more connections
 */
export function connectOwn(path: string, type: 'stream' | 'seqpacket'): { readonly fd: number; readonly pid: number } {
  let fd: number;
  try {
    fd = connectUnix(path, type);
  } catch (error) {
    const code = isErrno(error, 'EAGAIN') ? Code.DeadlineExceeded : Code.Unavailable;
    throw new LaminaError(code, `connect to ${path}: ${messageOf(error)}`, { subject: path, cause: error });
  }
  const { uid, pid } = binding().peerCredentials(fd);
  if (uid === process.geteuid?.()) return { fd, pid };
  closeSync(fd);
  throw new LaminaError(Code.PermissionDenied, `${path}: uid ${uid} listens there`, { subject: path });
}

/**
 * Asks whoever serves at a keeper's socket who they are.
 * @throws LaminaError DeadlineExceeded when nobody answers in time, Unavailable when the keeper is
 * gone, PermissionDenied when it is another user's, Unimplemented from another shim
 */
export async function askKeeper(socket: string, timeoutMs: number): Promise<Answer> {
  const { fd, pid } = connectOwn(socket, 'stream');
  const connection = await connect({ fd });
  try {
    const status = await createClient(lamina.EngineDefinition, connection).status({}, { timeoutMs });
    return { status, listenerPid: pid };
  } finally {
    connection.close();
  }
}

/**
 * Which process a keeper is that has answered.
 * @returns undefined when what it says does not agree with the kernel: it is no process of ours
 */
export function identify(
  socket: string,
  { status, listenerPid }: Answer,
  registration: Registration | undefined,
): Keeper | undefined {
  // One that registers calls listen(2) itself; before, the start verb did, and has ended.
  if (registration !== undefined && listenerPid !== status.keeperPid) return undefined;
  using process = OwnProcess.open(status.keeperPid);
  if (process === undefined) return undefined;
  return {
    pid: status.keeperPid,
    socket,
    namespace: status.namespace || (registration?.namespace ?? ''),
    id: status.id || (registration?.id ?? ''),
    build: status.keeperBuild || (registration?.build ?? ''),
    registration,
  };
}

/**
 * Which process of ours listens at a socket, for one that does not answer: what called listen(2)
 * last, which a keeper that registers does itself.
 * @returns undefined when nobody does, or no process of ours, or one that has ended
 */
export function listenerAt(socket: string): number | undefined {
  try {
    const { fd, pid } = connectOwn(socket, 'stream');
    closeSync(fd);
    using process = OwnProcess.open(pid);
    return process?.pid;
  } catch (error) {
    if (error instanceof LaminaError) return undefined;
    throw error;
  }
}

export function describeKeeper({ pid, namespace, id, socket }: Keeper): string {
  return `keeper ${pid} (${namespace === '' ? socket : `${namespace}/${id}`})`;
}
