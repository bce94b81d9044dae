import { realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { LAMINA_BIN } from './repo.js';

/** The installed library folder: links to the release that is current, and the releases (scripts/install). */
export const LAMINA_LIBRARY = join(LAMINA_BIN, '../lib/lamina');

/** Where the installed engine's files lie. */
export function releaseDir(library = LAMINA_LIBRARY): string {
  return dirname(realpathSync(join(library, 'engine.cjs')));
}
