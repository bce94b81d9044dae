/**
 * Overlay's `lowerdir=` option: taking it apart, and making it fit into the one page mount(2)
 * takes. Pure.
 *
 * @see Documentation/filesystems/overlayfs.rst
 */
import { dirname } from 'node:path';

const LOWER = 'lowerdir=';

/** Splits a lowerdir value at the colons that are not escaped; escapes are kept. */
export function splitLowerDirs(value: string): string[] {
  return value.match(/(?:\\.|[^:\\])+/g) ?? [];
}

/** The value of lowerdir, taken apart; empty when there is none. */
export function lowerDirsOf(data: readonly string[]): string[] {
  const option = data.find((entry) => entry.startsWith(LOWER));
  return option === undefined ? [] : splitLowerDirs(option.slice(LOWER.length));
}

/** The options with another list of lower directories (escaped as they must be). */
export function withLowerDirs(data: readonly string[], lowers: readonly string[]): string[] {
  return data.map((entry) => (entry.startsWith(LOWER) ? LOWER + lowers.join(':') : entry));
}

function commonParent(paths: readonly string[]): string {
  let parent = dirname(paths[0] ?? '/');
  while (parent !== '/' && !paths.every((path) => path.startsWith(`${parent}/`))) parent = dirname(parent);
  return parent;
}

export interface ShortOptions {
  /**
   * Directory the lower directories are relative to; undefined: they are absolute, as they were.
   */
  readonly cwd: string | undefined;
  readonly data: readonly string[];
}

/**
 * Shortens lowerdir by the directory all layers share, when the options are longer than
 * `limitBytes`.
 *
 * Left alone are paths with escapes (the directory's own name would have to be unescaped first, and
 * containerd's never have any), relative paths, and layers that share nothing but the root.
 */
export function shortenLowerDirs(data: readonly string[], limitBytes: number): ShortOptions {
  const unchanged = { cwd: undefined, data };
  if (Buffer.byteLength(data.join(',')) <= limitBytes) return unchanged;
  const lowers = lowerDirsOf(data);
  if (lowers.length === 0 || lowers.some((lower) => !lower.startsWith('/') || lower.includes('\\'))) return unchanged;
  const cwd = commonParent(lowers);
  if (cwd === '/') return unchanged;
  return {
    cwd,
    data: withLowerDirs(
      data,
      lowers.map((lower) => lower.slice(cwd.length + 1)),
    ),
  };
}
