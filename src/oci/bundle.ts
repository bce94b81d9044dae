/** The files of a container's bundle directory: where they are, and those the shim writes. */
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Code, codeOf, isErrno, LaminaError, messageOf, randomName } from '../base/index.js';

/** Paths in a bundle; who writes each is in docs/oci.md. */
export interface BundlePaths {
  readonly dir: string;
  readonly config: string;
  readonly rootfs: string;
  /** Symbolic link to a directory that survives restarts; criu works there. */
  readonly work: string;
  /** FIFO the daemon reads the shim's log from. */
  readonly log: string;
  /** What the OCI runtime logs. */
  readonly runtimeLog: string;
  readonly options: string;
  readonly runtime: string;
  readonly address: string;
  readonly initPid: string;
  execPid(execId: string): string;
}

export function bundlePaths(dir: string): BundlePaths {
  return {
    dir,
    config: join(dir, 'config.json'),
    rootfs: join(dir, 'rootfs'),
    work: join(dir, 'work'),
    log: join(dir, 'log'),
    runtimeLog: join(dir, 'log.json'),
    options: join(dir, 'options.json'),
    runtime: join(dir, 'runtime'),
    address: join(dir, 'address'),
    initPid: join(dir, 'init.pid'),
    execPid: (execId) => join(dir, `${execId}.pid`),
  };
}

/**
 * Writes a file so that a reader sees the old content or the new, never a part: a temporary name,
 * then a rename.
 */
export function writeFileAtomic(path: string, content: string | Uint8Array, mode = 0o600): void {
  const temporary = join(dirname(path), `.${basename(path)}.${randomName()}`);
  try {
    writeFileSync(temporary, content, { mode, flag: 'wx' });
    renameSync(temporary, path);
  } catch (error) {
    removeIfThere(temporary);
    throw error;
  }
}

/** Unlinks a file that may be absent. */
export function removeIfThere(path: string): void {
  // Asked first: an error that nobody sees costs more than everything else here.
  if (!existsSync(path)) return;
  try {
    unlinkSync(path);
  } catch (error) {
    // Never written, or renamed already.
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}

/**
 * Reads the pid file the runtime wrote.
 * @throws LaminaError NotFound when it is missing, DataLoss when it holds no pid
 */
export function readPidFile(path: string): number {
  const text = readBundleFile(path).trim();
  const pid = Number(text);
  if (/^[1-9]\d{0,9}$/.test(text) && pid <= 0x7fffffff) return pid;
  throw new LaminaError(Code.DataLoss, `read ${path}: ${JSON.stringify(text.slice(0, 40))} is not a pid`, {
    subject: path,
  });
}

/** A config.json of this size would be refused by the runtimes, too. */
const MAX_FILE_BYTES = 16 * 1024 * 1024;

/**
 * Reads a text file of the bundle, or one that a client names.
 * @throws LaminaError naming it, with the code its errno stands for
 */
export function readBundleFile(path: string): string {
  let fd: number | undefined;
  try {
    // Whoever hands us a path may have put a FIFO there: opening it must not wait.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    const stat = fstatSync(fd);
    // A directory says so itself.
    if (!stat.isFile() && !stat.isDirectory()) {
      throw new LaminaError(Code.InvalidArgument, `read ${path}: not a regular file`, { subject: path });
    }
    const { size } = stat;
    if (size > MAX_FILE_BYTES) {
      throw new LaminaError(Code.InvalidArgument, `read ${path}: more than ${MAX_FILE_BYTES} bytes`, { subject: path });
    }
    return readFileSync(fd, 'utf8');
  } catch (error) {
    if (error instanceof LaminaError) throw error;
    const why = isErrno(error, 'ENOENT') ? 'no such file or directory' : messageOf(error);
    throw new LaminaError(codeOf(error), `read ${path}: ${why}`, { subject: path, cause: error });
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
