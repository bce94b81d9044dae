/**
 * Private copies of the programs under test. PSS divides a page among the processes that map it: if
 * this tool ran on the engine's own node file, the engine would seem to take next to nothing of it.
 * A copy also stays the same when a new build is installed meanwhile.
 */
import { copyFileSync, cpSync, existsSync, mkdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/**
 * Copies Lamina's installed tree; returns the shim's new path.
 * @param program `PREFIX/bin/containerd-shim-lamina-v2`
 */
export function stageLamina(program: string, dir: string): string {
  const library = join(dirname(program), '../lib/lamina');
  for (const needed of [program, join(library, 'engine.cjs')]) {
    if (!existsSync(needed))
      throw new Error(`${needed} is missing: run scripts/install build/install, or name it with --lamina`);
  }
  const copy = join(dir, 'lamina/lib/lamina');
  cpSync(library, copy, { recursive: true, verbatimSymlinks: true });
  return stageProgram(program, join(dir, 'lamina/bin'));
}

/** Copies one program; returns its new path. */
export function stageProgram(program: string, dir: string): string {
  if (!existsSync(program)) throw new Error(`${program} is missing`);
  mkdirSync(dir, { recursive: true });
  const copy = join(dir, basename(program));
  copyFileSync(program, copy);
  return copy;
}
