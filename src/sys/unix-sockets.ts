/**
 * Paths at which somebody listens, from /proc/net/unix: hints, no more. The kernel writes a path as
 * it is, so a line break in one makes lines that are no socket's.
 *
 * @see proc_net_unix(5)
 */
import { readFileSync } from 'node:fs';

/**
 * `Num: RefCount Protocol Flags Type St Inode Path`; flag __SO_ACCEPTCON: it listens; type 1: a
 * stream.
 */
const LISTENING_STREAM = /^[0-9a-fA-F]+: [0-9A-F]{8} [0-9A-F]{8} 00010000 0001 01 +\d+ (\/.*)$/;

/** Absolute paths of stream sockets that listen, each once. @param text of /proc/net/unix */
export function parseListeningPaths(text: string): string[] {
  const paths = text.split('\n').flatMap((line) => LISTENING_STREAM.exec(line)?.[1] ?? []);
  return [...new Set(paths)];
}

/** Those of this network namespace. */
export function readListeningPaths(): string[] {
  return parseListeningPaths(readFileSync('/proc/self/net/unix', 'utf8'));
}
