/**
 * Opening named pipes, and other files by path, without ever waiting for the other end.
 *
 * A path is first opened with O_PATH and looked at, then opened for real through that descriptor: what is opened is what was checked,
 * and opening a device or another surprise has no side effect.
 *
 * @see fifo(7), open(2)
 */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { Code, isErrno, LaminaError } from '../base/index.js';
import { binding } from './load-binding.js';

/** Not among Node's constants; the same on all of Linux' architectures that Node runs on. */
const O_PATH = 0o10000000;

function openChecked(path: string, flags: number): number {
  const handle = openSync(path, O_PATH);
  try {
    if (!fstatSync(handle).isFIFO()) {
      throw new LaminaError(Code.InvalidArgument, `open fifo ${path}: not a fifo`, { subject: path });
    }
    return openSync(`/proc/self/fd/${handle}`, flags);
  } finally {
    closeSync(handle);
  }
}

/**
 * Opens the read end, non-blocking. Reads give 0 bytes while there was no writer, EAGAIN while there is one with nothing to say.
 * @throws LaminaError InvalidArgument when path is no FIFO; errno ENOENT, EACCES
 */
export function openFifoReader(path: string): number {
  return openChecked(path, constants.O_RDONLY | constants.O_NONBLOCK);
}

/**
 * Opens the write end, non-blocking.
 * @returns null when nobody has the read end open (ENXIO)
 * @throws as openFifoReader
 */
export function openFifoWriter(path: string): number | null {
  try {
    return openChecked(path, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (isErrno(error, 'ENXIO')) return null;
    throw error;
  }
}

/** Opens both ends in one non-blocking descriptor: never end of file, never a broken pipe. @throws as openFifoReader */
export function openFifoBoth(path: string): number {
  return openChecked(path, constants.O_RDWR | constants.O_NONBLOCK);
}

/** Both ends of a FIFO for a process that writes to it. */
export interface FifoOutput {
  /** Write end, blocking, a description of its own: fit to be a process's standard output. */
  readonly writer: number;
  /** Read end, non-blocking, never to be read: while it is open the writer gets no SIGPIPE when the real reader leaves. */
  readonly spareReader: number;
}

/** Opens a FIFO for a process to write to, whether or not there is a reader yet. @throws as openFifoReader */
export function openFifoOutput(path: string): FifoOutput {
  const spareReader = openFifoReader(path);
  let writer: number | undefined;
  try {
    writer = openChecked(path, constants.O_WRONLY | constants.O_NONBLOCK);
    setBlocking(writer);
    return { writer, spareReader };
  } catch (error) {
    closeSync(spareReader);
    if (writer !== undefined) closeSync(writer);
    throw error;
  }
}

/** Clears O_NONBLOCK. It belongs to the description: every duplicate of fd, in other processes too, is changed. */
export function setBlocking(fd: number): void {
  binding().setNonBlocking(fd, false);
}

/** Opens (and creates, mode 0644 by default) a file that output is appended to. */
export function openAppend(path: string, mode = 0o644): number {
  return openSync(path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT, mode);
}

/** Closes several descriptors. */
export function closeFds(fds: Iterable<number>): void {
  for (const fd of fds) closeSync(fd);
}
