import { closeSync, constants, openSync, readSync } from 'node:fs';
import { isErrno } from '../../src/base/index.js';
import { binding } from '../../src/sys/index.js';
import { mustRun } from './command.js';
import { until } from './wait.js';

const CHUNK = 65_536;

/** Makes a FIFO as clients of containerd do. */
export async function makeFifo(path: string): Promise<string> {
  await mustRun(['mkfifo', '-m', '700', path]);
  return path;
}

/** Bytes that wait in a FIFO. It need not have a reader: the shim keeps one. */
export function waitingIn(path: string): number {
  const fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  try {
    return binding().bytesReadable(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * The reading end of a FIFO, under full control: it reads when told to and can leave at any byte.
 */
export class FifoReader {
  readonly #fd: number;
  readonly #chunk = Buffer.alloc(CHUNK);
  isAtEnd = false;

  constructor(path: string) {
    this.#fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  }

  /** Everything that is there now, at most `limit` bytes. At the end of file `isAtEnd` is set. */
  readNow(limit = Number.POSITIVE_INFINITY): Buffer {
    const chunks: Buffer[] = [];
    for (let left = limit; left > 0; ) {
      let got: number;
      try {
        got = readSync(this.#fd, this.#chunk, 0, Math.min(CHUNK, left), null);
      } catch (error) {
        if (isErrno(error, 'EAGAIN')) break;
        throw error;
      }
      if (got === 0) {
        this.isAtEnd = true;
        break;
      }
      chunks.push(Buffer.from(this.#chunk.subarray(0, got)));
      left -= got;
    }
    return Buffer.concat(chunks);
  }

  /** Reads exactly `count` bytes, or all up to the end of file. The FIFO must have had a writer. */
  async read(count = Number.POSITIVE_INFINITY): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let left = count;
    await until(`${count} bytes or the end`, () => {
      const data = this.readNow(left);
      chunks.push(data);
      left -= data.length;
      return left <= 0 || this.isAtEnd;
    });
    return Buffer.concat(chunks);
  }

  close(): void {
    closeSync(this.#fd);
  }
}
