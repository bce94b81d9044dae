/**
 * Reading and writing of cgroup interface files.
 *
 * Statistics are read through descriptors that stay open: a read at offset 0 makes the kernel
 * produce the content anew, and gives ENODEV once the file is gone. All such reads share one
 * buffer, so its content is valid until the next read only.
 */
import { closeSync, constants, openSync, readSync, statSync, write, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { fsPath, isErrno } from '../base/index.js';
import { CgroupFileError, isGone, isUnsupported } from './errors.js';

const INITIAL_BUFFER_BYTES = 64 * 1024;
let buffer: Buffer = Buffer.allocUnsafeSlow(INITIAL_BUFFER_BYTES);

/** The content of the last read, `[0, length)` of it; overwritten by the next. */
export function contentBuffer(): Buffer {
  return buffer;
}

/** Reads at offset 0 into the shared buffer, which grows until the whole content fits. */
function readWhole(fd: number): number {
  for (;;) {
    const length = readSync(fd, buffer, 0, buffer.length, 0);
    if (length < buffer.length) return length;
    buffer = Buffer.allocUnsafeSlow(buffer.length * 2);
  }
}

/** Open files that any read opens again. */
const spareFiles = new Set<StatFile>();

/**
 * Closes the statistics files that are kept open for speed only, some thirty per container: for
 * when descriptors run out.
 * @returns how many there were
 */
export function closeSpareFiles(): number {
  const files = [...spareFiles];
  for (const file of files) file.close();
  return files.length;
}

/**
 * Opens a path of the kernel; spare files are closed for it when descriptors run out.
 * @throws errno
 */
export function openFile(path: string, flags: string | number): number {
  try {
    return openSync(fsPath(path), flags);
  } catch (error) {
    if (!isErrno(error, 'EMFILE', 'ENFILE') || closeSpareFiles() === 0) throw error;
    return openSync(fsPath(path), flags);
  }
}

export interface StatFileOptions {
  /**
   * Called when the file is found to be missing: at the first read, or when it was removed since.
   */
  readonly onMissing?: () => void;
  /**
   * It may be closed between two reads: whoever reads does not care which group of this name it is.
   */
  readonly isSpare?: boolean;
}

/** An interface file that may be missing, read again and again through one descriptor. */
export class StatFile {
  readonly path: string;
  readonly #options: StatFileOptions;
  #fd = -1;
  #missing: boolean = false;

  constructor(path: string, options: StatFileOptions = {}) {
    this.path = path;
    this.#options = options;
  }

  /**
   * Reads the content into the shared buffer.
   * @returns its length, -1 if there is no such file, or the kernel cannot produce it (EOPNOTSUPP)
   * @throws {CgroupFileError} for anything else
   */
  read(): number {
    if (this.#missing) return -1;
    const op = this.#fd < 0 ? 'open' : 'read';
    try {
      if (this.#fd < 0) this.#open();
      return readWhole(this.#fd);
    } catch (error) {
      if (!isGone(error) && !isUnsupported(error)) throw new CgroupFileError(op, this.path, error);
      this.close();
      this.#missing = true;
      this.#options.onMissing?.();
      return -1;
    }
  }

  /** The content as text, undefined where `read` says -1. */
  readText(): string | undefined {
    const length = this.read();
    return length < 0 ? undefined : buffer.toString('latin1', 0, length);
  }

  /** Looks for the file again at the next read: its controller may have been enabled since. */
  retry(): void {
    this.#missing = false;
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
    spareFiles.delete(this);
  }

  #open(): void {
    this.#fd = openFile(this.path, 'r');
    if (this.#options.isSpare === true) spareFiles.add(this);
  }
}

/** A page holds nearly every file; a long list of processes comes in larger pieces. */
const CHUNK_BYTES = 4096;
const MAX_CHUNK_BYTES = 256 * 1024;
let chunk: Buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);

/**
 * Calls back with each piece of a file, which is overwritten by the next.
 * @throws {CgroupFileError}
 */
function readPieces(path: string, take: (piece: Buffer) => void): void {
  let fd = -1;
  try {
    fd = openFile(path, 'r');
    // Lists come in pieces, shorter than what there is room for.
    for (let length = -1; length !== 0; ) {
      length = readSync(fd, chunk, 0, chunk.length, null);
      take(chunk.subarray(0, length));
      if (length === chunk.length && length < MAX_CHUNK_BYTES) chunk = Buffer.allocUnsafeSlow(length * 4);
    }
  } catch (error) {
    throw new CgroupFileError('read', path, error);
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

/** Reads a file once; a third of the time of readFileSync. @throws {CgroupFileError} */
export function readCgroupFile(path: string): string {
  let content = '';
  readPieces(path, (piece) => {
    content += piece.toString('latin1');
  });
  return content;
}

/** The same, for content with names in it. @throws {CgroupFileError} */
export function readBytes(path: string): Buffer {
  const pieces: Buffer[] = [];
  readPieces(path, (piece) => pieces.push(Buffer.from(piece)));
  return Buffer.concat(pieces);
}

/**
 * Writes one value in a single write(2), as cgroup files require; never creates the file.
 * @throws {CgroupFileError}
 */
export function writeCgroupFile(path: string, data: string): void {
  let fd = -1;
  try {
    fd = openFile(path, constants.O_WRONLY | constants.O_NOFOLLOW);
    writeSync(fd, data);
  } catch (error) {
    throw new CgroupFileError('write', path, error, data);
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

/**
 * Writes to an open file with one write(2) that may take long, without holding anybody else up.
 * @throws errno
 */
export type WriteSlowly = (fd: number, data: string) => Promise<void>;

/** In a thread of libuv's pool. */
export const writeInPool: WriteSlowly = async (fd, data) => {
  await promisify(write)(fd, Buffer.from(data));
};

/** `writeCgroupFile` for a write that may take long. @throws {CgroupFileError} */
export async function writeCgroupFileSlowly(writeSlowly: WriteSlowly, path: string, data: string): Promise<void> {
  let fd = -1;
  try {
    fd = openFile(path, constants.O_WRONLY | constants.O_NOFOLLOW);
    await writeSlowly(fd, data);
  } catch (error) {
    throw new CgroupFileError('write', path, error, data);
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

/** True if a directory of that name is there. */
export function isDirectory(path: string): boolean {
  try {
    return statSync(fsPath(path)).isDirectory();
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'ENODEV')) return false;
    throw error;
  }
}
