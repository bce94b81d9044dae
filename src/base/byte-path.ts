/**
 * Paths and names of the kernel as strings.
 *
 * To the kernel they are bytes. Nearly all are UTF-8, and then the string is what everybody
 * expects. A byte that is part of no UTF-8 sequence becomes one of U+DC80 to U+DCFF, half a
 * surrogate pair that no valid text contains, so that nothing is lost and two names never become
 * one. Python calls this `surrogateescape` (PEP 383).
 *
 * Node would replace such bytes by U+FFFD in what it reads, and write others in their place. So
 * whatever opens a path of the kernel takes `fsPath`, and whatever reads one takes `pathFromBytes`.
 */
import { isUtf8 } from 'node:buffer';

const ESCAPE = 0xdc00;
/** Half a pair alone; with the flag `u` a whole pair is one character, and not in this range. */
const ESCAPED = /[\u{dc80}-\u{dcff}]/u;
const FIRST_BYTE_LENGTHS: readonly (readonly [least: number, most: number, length: number])[] = [
  [0x00, 0x7f, 1],
  [0xc2, 0xdf, 2],
  [0xe0, 0xef, 3],
  [0xf0, 0xf4, 4],
];

/** How long the UTF-8 sequence at `at` is; 0 if there is none. */
function sequenceLength(bytes: Buffer, at: number): number {
  const first = bytes[at] as number;
  const length = FIRST_BYTE_LENGTHS.find(([least, most]) => first >= least && first <= most)?.[2] ?? 0;
  const end = at + length;
  return length > 0 && end <= bytes.length && isUtf8(bytes.subarray(at, end)) ? length : 0;
}

/** Decodes a path, a name, or a whole file of them such as /proc/PID/cgroup. Never throws. */
export function pathFromBytes(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (isUtf8(buffer)) return buffer.toString('utf8');
  let text = '';
  let valid = 0;
  for (let at = 0; at < buffer.length; ) {
    const length = sequenceLength(buffer, at);
    if (length === 0) {
      text += buffer.toString('utf8', valid, at) + String.fromCharCode(ESCAPE + (buffer[at] as number));
      valid = at + 1;
    }
    at += Math.max(length, 1);
  }
  return text + buffer.toString('utf8', valid);
}

/** The bytes of a path, as `pathFromBytes` has read them. */
export function pathToBytes(path: string): Buffer {
  if (!ESCAPED.test(path)) return Buffer.from(path, 'utf8');
  const characters = [...path].map((each) =>
    ESCAPED.test(each) ? Buffer.from([each.charCodeAt(0) - ESCAPE]) : Buffer.from(each, 'utf8'),
  );
  return Buffer.concat(characters);
}

/**
 * A path for a function of node:fs or of the addon: the string itself wherever that means the same.
 */
export function fsPath(path: string): string | Buffer {
  return ESCAPED.test(path) ? pathToBytes(path) : path;
}

/**
 * Undoes the octal escapes in /proc/PID/mountinfo and its like (blank, tab, line break, backslash,
 * "#").
 */
export function unescapeOctal(path: string): string {
  if (!path.includes('\\')) return path;
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
