/**
 * Short-lived files for one run of the runtime: what it prints, and what it is to read.
 *
 * A file, unlike a pipe, can never fill up or be held open by a left-over child, so no run waits for a reader.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** `$XDG_RUNTIME_DIR`, else the temp directory. */
export function scratchDir(): string {
  return process.env['XDG_RUNTIME_DIR'] || tmpdir();
}

function scratchPath(prefix: string): string {
  return join(scratchDir(), `${prefix}-${process.pid}-${randomBytes(6).toString('hex')}`);
}

/**
 * Opens a nameless file for reading and writing, its offset at 0.
 * @param content what it holds already
 * @returns a descriptor; the caller closes it
 */
export function openScratch(content?: Uint8Array | string): number {
  const path = scratchPath('lamina');
  const fd = openSync(path, 'wx+', 0o600);
  try {
    unlinkSync(path);
    // With a position, so that the offset the child inherits stays at the start.
    if (content !== undefined) writeAll(fd, typeof content === 'string' ? Buffer.from(content) : content);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function writeAll(fd: number, content: Uint8Array): void {
  for (let done = 0; done < content.length; ) done += writeSync(fd, content, done, content.length - done, done);
}

/** The last `maxBytes` of a scratch file as text, without white space at either end. */
export function readScratchTail(fd: number, maxBytes: number): string {
  const size = fstatSync(fd).size;
  const buffer = Buffer.alloc(Math.min(size, maxBytes));
  const length = readSync(fd, buffer, 0, buffer.length, size - buffer.length);
  return buffer.toString('utf8', 0, length).trim();
}
