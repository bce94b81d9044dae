/**
 * A small file system in memory that can be filled to the last page or the last name, and emptied
 * again.
 */
import { closeSync, ftruncateSync, mkdirSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno } from '../../src/base/index.js';
import { mustRun } from './command.js';

/** As much as three copies of the test image, and some. */
const SIZE = 'size=24m,nr_inodes=2000';
const PAGE_BYTES = 4096;
const CHUNK = Buffer.alloc(64 * PAGE_BYTES);

/** Does `step` until there is no room for it. */
function untilFull(step: (count: number) => void): void {
  for (let count = 0; ; count += 1) {
    try {
      step(count);
    } catch (error) {
      if (isErrno(error, 'ENOSPC')) return;
      throw error;
    }
  }
}

export class SmallDisk {
  readonly dir: string;
  readonly #ballast: string;

  private constructor(dir: string) {
    this.dir = dir;
    this.#ballast = join(dir, 'ballast');
  }

  /** @param dir is made */
  static async mount(dir: string): Promise<SmallDisk> {
    mkdirSync(dir);
    await mustRun(['mount', '-t', 'tmpfs', '-o', SIZE, 'tmpfs', dir]);
    return new SmallDisk(dir);
  }

  /**
   * Takes every byte but `pages` pages of 4 KiB. Names can still be made, and what is in a page
   * already can grow in it.
   */
  fill(pages = 0): void {
    const file = openSync(this.#ballast, 'w');
    let size = 0;
    const append = (bytes: number): void => {
      size += writeSync(file, CHUNK, 0, bytes, size);
    };
    untilFull(() => append(CHUNK.length));
    untilFull(() => append(PAGE_BYTES));
    ftruncateSync(file, size - pages * PAGE_BYTES);
    closeSync(file);
  }

  /** Takes every name: nothing can be made any more, neither file nor socket. */
  fillNames(): void {
    mkdirSync(this.#ballast);
    untilFull((count) => writeFileSync(join(this.#ballast, String(count)), ''));
  }

  free(): void {
    rmSync(this.#ballast, { recursive: true, force: true });
  }

  async unmount(): Promise<void> {
    await mustRun(['umount', '-l', this.dir]);
  }
}
