import { copyFileSync, cpSync, linkSync, lstatSync, readdirSync, realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { LAMINA_BIN } from './repo.js';

/**
 * The installed library folder: links to the release that is current, and the releases
 * (scripts/install).
 */
export const LAMINA_LIBRARY = join(LAMINA_BIN, '../lib/lamina');

/** Where the installed engine's files lie. */
export function releaseDir(library = LAMINA_LIBRARY): string {
  return dirname(realpathSync(join(library, 'engine.cjs')));
}

/** The node of the installed release. */
export const LAMINA_NODE = join(releaseDir(), 'node');

/**
 * Copies a library or a release; node, which is larger than all the rest and never changed, is
 * linked where that can be done.
 */
export function copyInstalled(from: string, to: string): void {
  const isNode = (path: string): boolean => basename(path) === 'node' && lstatSync(path).isFile();
  cpSync(from, to, { recursive: true, verbatimSymlinks: true, filter: (path) => !isNode(path) });
  for (const name of readdirSync(from, { recursive: true, encoding: 'utf8' })) {
    if (!isNode(join(from, name))) continue;
    try {
      linkSync(join(from, name), join(to, name));
    } catch {
      // Another file system.
      copyFileSync(join(from, name), join(to, name));
    }
  }
}
