/**
 * The body of an answer, read piece by piece: a read that waits too long fails, and so does one
 * that is cut.
 */
import type { IncomingMessage } from 'node:http';
import { abortError, RegistryError } from './errors.js';
import type { Limits } from './limits.js';

/** The time a body gets to end once all of it was read. */
const END_MS = 1000;

/** The encoding of an answer whose body was compressed on the way, which was not asked for. */
function encodingOf(message: IncomingMessage): string | undefined {
  const encoding = message.headers['content-encoding']?.trim().toLowerCase();
  return encoding === undefined || encoding === '' || encoding === 'identity' ? undefined : encoding;
}

export class Body {
  /** Bytes read so far. */
  bytes = 0;
  readonly #message: IncomingMessage;
  readonly #host: string;
  readonly #limits: Limits;
  readonly #signal: AbortSignal;
  #failure: RegistryError | undefined;
  #isOver = false;
  #wake: (() => void) | undefined;
  /** The wait and the bytes of the reads since then. */
  #waitedMs = 0;
  #gotBytes = 0;

  constructor(message: IncomingMessage, host: string, limits: Limits, signal: AbortSignal) {
    this.#message = message;
    this.#host = host;
    this.#limits = limits;
    this.#signal = signal;
    const wake = (): void => this.#wake?.();
    message.on('readable', wake);
    message.on('end', () => {
      this.#isOver = true;
      wake();
    });
    message.on('error', (cause) => {
      this.#failure ??= new RegistryError('network', `${host} broke the transfer off: ${cause.message}`, { cause });
      wake();
    });
    message.on('close', () => {
      if (!this.#isOver) this.#failure ??= new RegistryError('network', `${host} broke the transfer off`);
      wake();
    });
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  readonly #onAbort = (): void => {
    this.#failure ??= abortError(this.#signal);
    this.destroy();
    this.#wake?.();
  };

  /**
   * The next bytes; undefined at the end.
   * @throws RegistryError `network`, `timeout` or `aborted`
   */
  async read(): Promise<Buffer | undefined> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      const chunk: Buffer | null = this.#message.read();
      if (chunk !== null) {
        this.#count(chunk.length);
        return chunk;
      }
      if (this.#isOver) {
        this.#signal.removeEventListener('abort', this.#onAbort);
        return undefined;
      }
      await this.#wait();
    }
  }

  #count(bytes: number): void {
    this.bytes += bytes;
    this.#gotBytes += bytes;
    if (this.#gotBytes < this.#limits.idleBytes) return;
    this.#gotBytes = 0;
    this.#waitedMs = 0;
  }

  /**
   * Waits for bytes, not longer than is left: who sends a byte now and then gets no more time than
   * who sends none.
   */
  async #wait(): Promise<void> {
    const startMs = performance.now();
    const { idleMs } = this.#limits;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      timer = setTimeout(
        () => {
          this.#failure ??= new RegistryError('timeout', `${this.#host} sent next to nothing for ${idleMs} ms`);
          this.destroy();
          resolve();
        },
        Math.max(0, idleMs - this.#waitedMs),
      );
    });
    clearTimeout(timer);
    this.#wake = undefined;
    this.#waitedMs += performance.now() - startMs;
  }

  /**
   * The whole body.
   * @param what it is, for errors
   * @throws RegistryError `limit` when it is larger than `most`, `timeout` when it takes longer
   *   than all of it may
   */
  async all(most: number, what: string): Promise<Buffer> {
    const tooLarge = (): RegistryError => {
      this.destroy();
      return new RegistryError('limit', `${what} from ${this.#host} is larger than the ${most} bytes allowed`);
    };
    const encoding = encodingOf(this.#message);
    if (encoding !== undefined) {
      this.destroy();
      throw new RegistryError('protocol', `${this.#host} sent ${what} encoded (${encoding}), which was not asked for`);
    }
    if (Number(this.#message.headers['content-length'] ?? 0) > most) throw tooLarge();
    const endMs = performance.now() + this.#limits.bodyMs;
    const chunks: Buffer[] = [];
    let size = 0;
    for (let chunk = await this.read(); chunk !== undefined; chunk = await this.read()) {
      size += chunk.length;
      if (size > most) throw tooLarge();
      if (performance.now() > endMs) {
        this.destroy();
        throw new RegistryError('timeout', `${this.#host} took longer than ${this.#limits.bodyMs} ms for ${what}`);
      }
      chunks.push(chunk);
    }
    return Buffer.concat(chunks, size);
  }

  /** The start of a body that is only shown; whatever goes wrong, what has come is all there is. */
  async start(most: number): Promise<string> {
    const chunks: Buffer[] = [];
    let size = 0;
    try {
      for (let chunk = await this.read(); chunk !== undefined && size < most; chunk = await this.read()) {
        chunks.push(chunk);
        size += chunk.length;
      }
    } catch (error) {
      if (error instanceof RegistryError && error.kind === 'aborted') throw error;
    }
    this.destroy();
    return Buffer.concat(chunks).subarray(0, most).toString('utf8');
  }

  /** True when bytes follow. A body that neither goes on nor ends is given up after a moment. */
  async hasMore(): Promise<boolean> {
    const timer = setTimeout(() => this.destroy(), Math.min(END_MS, this.#limits.idleMs));
    try {
      return (await this.read()) !== undefined;
    } catch {
      return false;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Gives up what was not read; the connection is closed unless all was. */
  destroy(): void {
    this.#signal.removeEventListener('abort', this.#onAbort);
    if (!this.#isOver) this.#message.destroy();
  }
}
