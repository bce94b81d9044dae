/** The bytes of the matrix, and what a terminal makes of them. */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SIZES } from './cases.js';

/** Letters in a line, with its end: far from the 4095 that a terminal takes. */
const LINE = 64;

/** Every value of a byte, in no order that repeats within the largest size. */
export function bytesOf(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  let state = 0x9e3779b9;
  for (let i = 0; i < size; i += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state & 0xff;
  }
  return bytes;
}

/** Letters in lines, which a terminal passes on. The last byte ends a line. */
export function linesOf(size: number): Buffer {
  const letters = bytesOf(size).map((byte, i) => ((i + 1) % LINE === 0 || i + 1 === size ? 10 : 97 + (byte % 26)));
  return Buffer.from(letters);
}

/** What a terminal shows of lines that are written to it, or echoes of lines that are typed. */
export function asShown(lines: Buffer): Buffer {
  return Buffer.from(lines.toString('latin1').replaceAll('\n', '\r\n'), 'latin1');
}

export function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Puts the bytes of each size into a folder: `bytes-N`, and `lines-N` for terminals. */
export function writeData(folder: string): void {
  for (const size of SIZES) {
    writeFileSync(join(folder, `bytes-${size}`), bytesOf(size));
    writeFileSync(join(folder, `lines-${size}`), linesOf(size));
  }
}
