/**
 * Finds and loads the native addon, once, at first use.
 *
 * Looked for: `LAMINA_ADDON` and nothing else when that is set; else `lamina.node` beside the
 * module (the installed bundle, PREFIX/lib/lamina), else `build/lamina.node` in the module's folder
 * or one above it (a checkout: dist/src/sys → build/).
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Code, LaminaError, messageOf } from '../base/index.js';
import type { NativeBinding } from './binding.js';

/** How far above the module's folder build/ may be: dist/src/sys is three deep. */
const LEVELS_UP = 3;

/** Where the addon may be, best first. */
export function addonCandidates(moduleDir: string, override: string | undefined): string[] {
  if (override !== undefined && override !== '') return [resolve(override)];
  const candidates = [join(moduleDir, 'lamina.node')];
  for (let dir = moduleDir, level = 0; level <= LEVELS_UP; dir = dirname(dir), level += 1) {
    const candidate = join(dir, 'build', 'lamina.node');
    if (!candidates.includes(candidate)) candidates.push(candidate);
  }
  return candidates;
}

/**
 * Loads the addon from the first candidate that exists.
 * @throws LaminaError Unavailable naming the paths tried, or the one that could not be loaded
 */
export function loadBinding(candidates: readonly string[]): NativeBinding {
  const path = candidates.find((candidate) => existsSync(candidate));
  if (path === undefined) {
    const tried = candidates.join(', ');
    throw new LaminaError(
      Code.Unavailable,
      `load native addon: not found in ${tried}: install Lamina again (in a checkout: npm run build:native), or let LAMINA_ADDON name it`,
      { subject: 'lamina.node' },
    );
  }
  try {
    const loaded: NativeBinding = createRequire(import.meta.url)(path);
    return loaded;
  } catch (cause) {
    throw new LaminaError(Code.Unavailable, `load native addon ${path}: ${messageOf(cause)}`, { subject: path, cause });
  }
}

let loaded: NativeBinding | undefined;

/** The addon. @throws LaminaError Unavailable when it cannot be found or loaded */
export function binding(): NativeBinding {
  if (loaded === undefined) {
    const { LAMINA_ADDON: override } = process.env;
    loaded = loadBinding(addonCandidates(dirname(fileURLToPath(import.meta.url)), override));
  }
  return loaded;
}
