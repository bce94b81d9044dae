/**
 * Opening the write end of a named pipe without ever waiting for the other end.
 *
 * A path is first opened with O_PATH and looked at, then opened for real through that descriptor:
 * what is opened is what was checked, and opening a device or another surprise has no side effect.
 *
 * @see fifo(7), open(2)
 */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { Code, isErrno, LaminaError } from '../base/index.js';

/** Not among Node's constants; the same on all of Linux' architectures that Node runs on. */
const O_PATH = 0o10000000;

/**
 * Opens the write end, non-blocking. A symbolic link is followed; only a FIFO is opened.
 * @returns null when nobody has the read end open (ENXIO)
 * @throws {LaminaError} InvalidArgument when path is no FIFO; errno ENOENT, EACCES
 */
export function openFifoWriter(path: string): number | null {
  const handle = openSync(path, O_PATH);
  try {
    if (!fstatSync(handle).isFIFO()) {
      throw new LaminaError(Code.InvalidArgument, `open fifo ${path}: not a fifo`, { subject: path });
    }
    return openSync(`/proc/self/fd/${handle}`, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (isErrno(error, 'ENXIO')) return null;
    throw error;
  } finally {
    closeSync(handle);
  }
}
