/**
 * Short-lived files for one run of the runtime: what it prints, and what it is to read.
 *
 * A file, unlike a pipe, can never fill up or be held open by a left-over child, so no run waits
 * for a reader.
 */
import { fstatSync, readSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { binding } from '../sys/index.js';

/** `$XDG_RUNTIME_DIR`, else the temp directory. */
export function scratchDir(): string {
  return process.env['XDG_RUNTIME_DIR'] || tmpdir();
}

/**
 * Opens a nameless file in memory for reading and writing, its offset at 0.
 * @param content what it holds already
 * @returns a descriptor; the caller closes it
 * @throws {LaminaError} Unavailable without the native addon
 */
export function openScratch(content: Uint8Array | string = ''): number {
  return binding().memfd('lamina', typeof content === 'string' ? Buffer.from(content) : content);
}

/** The last `maxBytes` of a scratch file as text, without white space at either end. */
export function readScratchTail(fd: number, maxBytes: number): string {
  const size = fstatSync(fd).size;
  const buffer = Buffer.alloc(Math.min(size, maxBytes));
  const length = readSync(fd, buffer, 0, buffer.length, size - buffer.length);
  return buffer.toString('utf8', 0, length).trim();
}
