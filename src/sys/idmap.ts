/**
 * Overlay on identity-mapped layers: each lower directory is bind-mounted through the user namespace at a temporary place, the
 * overlay is mounted over those, and then they can go: an overlay holds its layers by clones of its own (Linux 5.19).
 */
import { mkdirSync, mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Code, LaminaError } from '../base/index.js';
import { binding } from './load-binding.js';
import { lowerDirsOf, withLowerDirs } from './overlay-options.js';

const MNT_DETACH = 2;

export interface MappedLowers extends AsyncDisposable {
  /** The overlay's options, with the temporary directories in place of the layers. */
  readonly data: readonly string[];
}

function escapeLower(path: string): string {
  return path.replace(/[\\:]/g, '\\$&');
}

async function removeAll(dir: string, mounted: readonly string[], made: readonly string[]): Promise<void> {
  for (const path of mounted) await binding().umount(path, MNT_DETACH);
  for (const path of made) rmdirSync(path);
  rmdirSync(dir);
}

/**
 * Mounts the layers named in an overlay's options through a user namespace. Dispose once the overlay is mounted.
 * @throws errno EINVAL when a layer's filesystem cannot be mapped; nothing is left then
 */
export async function mapLowerDirs(data: readonly string[], userNamespace: number): Promise<MappedLowers> {
  const lowers = lowerDirsOf(data);
  if (lowers.length === 0) throw new LaminaError(Code.InvalidArgument, 'uidmap= and gidmap= need lowerdir=');
  const dir = mkdtempSync(join(tmpdir(), 'lamina-idmap-'));
  const mounted: string[] = [];
  const made: string[] = [];
  try {
    for (const [index, lower] of lowers.entries()) {
      const path = join(dir, String(index));
      mkdirSync(path);
      made.push(path);
      await binding().idmapMount(lower.replace(/\\(.)/g, '$1'), path, userNamespace);
      mounted.push(path);
    }
  } catch (error) {
    await removeAll(dir, mounted, made);
    throw error;
  }
  return {
    data: withLowerDirs(data, made.map(escapeLower)),
    [Symbol.asyncDispose]: () => removeAll(dir, mounted, made),
  };
}
