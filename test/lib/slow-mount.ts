/**
 * A mount whose unmount waits for as long as a test likes: of a file system in user space on a
 * block device, which the kernel tells of its end (FUSE_DESTROY) and waits for. This process is
 * that file system, and answers no more than the beginning.
 */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { readMountInfo } from '../../src/sys/index.js';
import { mustRun } from './command.js';
import { until } from './wait.js';

const REQUEST_BYTES = 1 << 20;
/** struct fuse_out_header and fuse_init_out of include/uapi/linux/fuse.h. */
const HEADER_BYTES = 16;
const INIT_BYTES = 64;
const UNIQUE_AT = 8;
const MAJOR = 7;
const MINOR = 31;
const MAX_WRITE = 4096;

export class SlowMount {
  readonly #fuse: number;
  readonly #loop: string;

  private constructor(fuse: number, loop: string) {
    this.#fuse = fuse;
    this.#loop = loop;
  }

  /**
   * Mounts on a directory, which is made.
   * @param image a file for its block device, which is made
   */
  static async on(dir: string, image: string): Promise<SlowMount> {
    mkdirSync(dir, { recursive: true });
    writeFileSync(image, '');
    truncateSync(image, 1 << 20);
    const loop = (await mustRun(['losetup', '--find', '--show', image])).trim();
    const fuse = openSync('/dev/fuse', 'r+');
    const options = 'fd=3,rootmode=40000,user_id=0,group_id=0,blksize=512';
    // It may ask for what nobody answers, once it has mounted.
    const mount = spawn('mount', ['-i', '-t', 'fuseblk', '-o', options, loop, dir], {
      stdio: ['ignore', 'ignore', 'inherit', fuse],
    });
    await until('it is mounted', () => readMountInfo().some(({ mountPoint }) => mountPoint === dir));
    answerInit(fuse);
    mount.kill('SIGKILL');
    return new SlowMount(fuse, loop);
  }

  /** Lets the unmount go on. */
  async release(): Promise<void> {
    closeSync(this.#fuse);
    await mustRun(['losetup', '--detach', this.#loop]);
  }
}

function answerInit(fuse: number): void {
  const request = Buffer.alloc(REQUEST_BYTES);
  readSync(fuse, request);
  const answer = Buffer.alloc(HEADER_BYTES + INIT_BYTES);
  answer.writeUInt32LE(answer.length, 0);
  request.copy(answer, UNIQUE_AT, UNIQUE_AT, HEADER_BYTES);
  answer.writeUInt32LE(MAJOR, HEADER_BYTES);
  answer.writeUInt32LE(MINOR, HEADER_BYTES + 4);
  answer.writeUInt32LE(MAX_WRITE, HEADER_BYTES + 20);
  writeSync(fuse, answer);
}
