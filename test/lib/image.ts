import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { REPO } from './repo.js';

/** The name of the test image, as scripts/make-image.mjs builds it. */
export const IMAGE = 'lamina.test/probe:latest';

/** The image of a pod's first container, which only waits. */
export const PAUSE_IMAGE = 'lamina.test/pause:latest';

let folder: string | undefined;

/** The folder with `image.tar`, `pause.tar`, `rootfs/` and `bin/`; built on first use. */
export function imageFolder(): string {
  folder ??= execFileSync(process.execPath, [join(REPO, 'scripts/make-image.mjs')], { encoding: 'utf8' }).trim();
  return folder;
}

/** A test program built for the host, the same binary as in the image. */
export function hostProgram(name: 'probe' | 'iolog'): string {
  return join(imageFolder(), 'bin', name);
}

/** Copies the image's root file system to a folder a container may write to. */
export function copyRootfs(target: string): void {
  mkdirSync(target, { recursive: true });
  cpSync(join(imageFolder(), 'rootfs'), target, { recursive: true, verbatimSymlinks: true });
}
