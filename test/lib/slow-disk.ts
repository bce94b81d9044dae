/**
 * A disk whose writes wait for as long as a test likes: a file system in a file of another one, which can be frozen. What is written to it
 * stays in memory; whoever syncs it, as the last unmount of an overlay does with its upper file system, waits for the thaw.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun, runCommand } from './command.js';

export class SlowDisk {
  /** Where it is mounted. */
  readonly dir: string;
  readonly #outer: string;

  private constructor(outer: string, dir: string) {
    this.#outer = outer;
    this.dir = dir;
  }

  /** @param dir is made */
  static async mount(dir: string): Promise<SlowDisk> {
    const disk = new SlowDisk(join(dir, 'outer'), join(dir, 'disk'));
    for (const path of [dir, disk.#outer, disk.dir]) mkdirSync(path);
    await mountImage(join(dir, 'image'), '96M', disk.#outer);
    await mountImage(join(disk.#outer, 'image'), '64M', disk.dir);
    return disk;
  }

  async freeze(): Promise<void> {
    await mustRun(['fsfreeze', '--freeze', this.#outer]);
  }

  async thaw(): Promise<void> {
    await mustRun(['fsfreeze', '--unfreeze', this.#outer]);
  }

  async unmount(): Promise<void> {
    await runCommand(['fsfreeze', '--unfreeze', this.#outer]);
    for (const path of [this.dir, this.#outer]) await mustRun(['umount', path]);
  }
}

async function mountImage(image: string, size: string, dir: string): Promise<void> {
  await mustRun(['mke2fs', '-q', '-t', 'ext4', image, size]);
  await mustRun(['mount', '-o', 'loop', image, dir]);
}
