/**
 * The state directory: where keepers register and engines listen. What lies there is believed only
 * while nobody else can write there.
 */
import { lstatSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { Code, isErrno, LaminaError } from '../base/index.js';

const DEFAULT_STATE_DIR = '/run/lamina';
/** Write permission of group and others. */
const OPEN_TO_OTHERS = 0o022;
const PERMISSIONS = 0o7777;

/**
 * As keepers of this user and environment have it; undefined when there is none. See "Finding an
 * engine" in native/README.md.
 */
export function stateDir(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const given = env['LAMINA_STATE_DIR'] ?? '';
  if (given !== '') return given;
  if (process.geteuid?.() === 0) return DEFAULT_STATE_DIR;
  const runtimeDir = env['XDG_RUNTIME_DIR'] ?? '';
  return runtimeDir === '' ? undefined : join(runtimeDir, 'lamina');
}

/**
 * The state directory, after a look at who may write there.
 * @returns undefined when it is not there: then nothing runs
 * @throws LaminaError PermissionDenied, FailedPrecondition: what is wrong with which directory, and
 *   what to do
 */
export function checkedStateDir(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const directory = stateDir(env);
  const isRoot = process.geteuid?.() === 0;
  if (directory === undefined) throw needsRoot('this user has no state directory');
  if (!directory.startsWith('/')) throw wrong(directory, 'is not an absolute path', 'let LAMINA_STATE_DIR be one');
  let info: Stats | undefined;
  try {
    info = lstatSync(directory, { throwIfNoEntry: false });
  } catch (error) {
    if (!isErrno(error)) throw error;
    if (!isRoot && isErrno(error, 'EACCES')) throw needsRoot(`${directory} is not to be seen by this user`);
    throw wrong(directory, `cannot be looked at (${error.code})`, 'mend the path to it');
  }
  if (info === undefined) {
    if (!isRoot) throw needsRoot(`there is no ${directory}`);
    return undefined;
  }
  const problem = problemOf(directory, info);
  if (problem !== undefined) throw problem;
  return directory;
}

function problemOf(directory: string, info: Stats): LaminaError | undefined {
  const euid = process.geteuid?.() ?? 0;
  if (!info.isDirectory()) {
    const what = info.isSymbolicLink() ? 'a symbolic link' : 'a file';
    return wrong(directory, `is ${what}, not a directory`, 'remove it');
  }
  if (info.uid !== euid) {
    if (euid !== 0) return needsRoot(`${directory} belongs to uid ${info.uid}`);
    return wrong(directory, `belongs to uid ${info.uid}, not to uid ${euid}`, `chown ${euid} ${directory}`);
  }
  if ((info.mode & OPEN_TO_OTHERS) === 0) return undefined;
  const mode = (info.mode & PERMISSIONS).toString(8).padStart(4, '0');
  return wrong(directory, `has mode ${mode}, so others may write there`, `chmod 0700 ${directory}`);
}

function wrong(directory: string, what: string, remedy: string): LaminaError {
  const elsewhere = "or, if this is not the daemon's, set LAMINA_STATE_DIR to what the daemon has";
  return new LaminaError(Code.FailedPrecondition, `state directory ${directory} ${what}: ${remedy}, ${elsewhere}`, {
    subject: directory,
  });
}

function needsRoot(why: string): LaminaError {
  return new LaminaError(
    Code.PermissionDenied,
    `${why}, and engines and keepers are seen only by the user that they run as: run this as that user, usually root (sudo lamina …)`,
  );
}
