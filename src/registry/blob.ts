/**
 * Blobs: read as a stream that goes on by Range where it broke, and is checked by its digest at the
 * end.
 */
import type { Hash } from 'node:crypto';
import { hashFor } from './digest.js';
import { RegistryError } from './errors.js';
import type { Answer, HostLink } from './host-link.js';
import type { Descriptor } from './manifest.js';
import { type Tries, toRegistryError } from './session.js';

export interface BlobOptions {
  /** The first byte that is wanted; default 0. */
  readonly offset?: number;
  /** How many bytes; default: all the rest. */
  readonly length?: number;
  /**
   * For `offset`: a hash that was fed all bytes before it, of the digest's algorithm. With it, and
   * when nothing is left out at the end, the whole is checked.
   */
  readonly hash?: Hash;
  readonly signal?: AbortSignal;
}

/** As many bytes are an achievement: failures are counted anew. */
const PROGRESS_BYTES = 1024 * 1024;

/** Checks a 206: it must be what was asked for, or the beginning of it. */
function checkRange(answer: Answer, host: string, start: number, size: number): void {
  const header = answer.headers['content-range'];
  const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(header ?? '');
  const [first, last] = [Number(match?.[1]), Number(match?.[2])];
  const isWanted = match !== null && first === start && last >= first && last < size;
  if (!isWanted || (match[3] !== '*' && Number(match[3]) !== size)) {
    throw new RegistryError('size', `${host} sent another range than asked for (${String(header).slice(0, 60)})`);
  }
}

/** One transfer: what is still wanted, and how it is checked. */
class Transfer {
  position: number;
  readonly #descriptor: Descriptor;
  readonly #path: string;
  readonly #end: number;
  readonly #hash: Hash | undefined;
  readonly #tries: Tries;
  readonly #hosts = new Set<string>();
  #mark: number;

  constructor(descriptor: Descriptor, path: string, options: BlobOptions, tries: Tries) {
    const { offset = 0, length = descriptor.size - offset, hash } = options;
    for (const value of [offset, length]) {
      if (!Number.isSafeInteger(value) || value < 0 || offset + length > descriptor.size) {
        throw new RegistryError('rejected', `bytes ${offset} to ${offset + length} are not in ${descriptor.digest}`);
      }
    }
    this.#descriptor = descriptor;
    this.#path = path;
    this.#tries = tries;
    this.position = offset;
    this.#mark = offset;
    this.#end = offset + length;
    const isToEnd = this.#end === descriptor.size;
    this.#hash = isToEnd ? (hash ?? (offset === 0 ? hashFor(descriptor.digest) : undefined)) : undefined;
  }

  get isDone(): boolean {
    return this.position >= this.#end;
  }

  async open(link: HostLink, scopes: readonly string[]): Promise<Answer> {
    const { size } = this.#descriptor;
    const isPart = this.position > 0 || this.#end < size;
    const answer = await link.exchange({
      method: 'GET',
      path: this.#path,
      scopes,
      accepts: [200, 206],
      headers: isPart ? { range: `bytes=${this.position}-${this.#end - 1}` } : {},
      signal: this.#tries.signal,
    });
    this.#hosts.add(answer.url.host);
    try {
      this.#check(answer);
    } catch (error) {
      answer.body.destroy();
      throw error;
    }
    return answer;
  }

  #check(answer: Answer): void {
    const { size } = this.#descriptor;
    if (answer.status === 206) {
      checkRange(answer, answer.url.host, this.position, size);
      return;
    }
    const length = answer.headers['content-length'];
    if (length !== undefined && Number(length) !== size) {
      throw new RegistryError('size', `${answer.url.host} has ${length} bytes for a blob of ${size}`);
    }
  }

  /** The bytes of an answer that are wanted and have not come yet. */
  async *read(answer: Answer): AsyncGenerator<Buffer> {
    const { body, url } = answer;
    // A server that ignores Range sends all again.
    let skip = answer.status === 206 ? 0 : this.position;
    for (let chunk = await body.read(); chunk !== undefined; chunk = await body.read()) {
      const rest = chunk.subarray(Math.min(skip, chunk.length));
      skip -= chunk.length - rest.length;
      const wanted = rest.subarray(0, this.#end - this.position);
      if (wanted.length > 0) {
        this.#take(wanted);
        yield wanted;
      }
      if (!this.isDone) continue;
      const hasMore = rest.length > wanted.length || (await body.hasMore());
      if (!hasMore || this.#end < this.#descriptor.size) return;
      throw new RegistryError('size', `${url.host} sends more than the ${this.#descriptor.size} bytes of the blob`);
    }
    if (this.position < this.#end && answer.status === 200) {
      throw new RegistryError('network', `${url.host} ended the transfer after ${this.position} bytes of ${this.#end}`);
    }
  }

  #take(chunk: Buffer): void {
    this.#hash?.update(chunk);
    this.position += chunk.length;
    this.#tries.count(chunk.length);
    if (this.position - this.#mark < PROGRESS_BYTES) return;
    this.#mark = this.position;
    this.#tries.progress();
  }

  verify(): void {
    const { digest } = this.#descriptor;
    if (this.#hash === undefined) return;
    const found = `${digest.slice(0, digest.indexOf(':'))}:${this.#hash.digest('hex')}`;
    if (found === digest) return;
    const from = [...this.#hosts].join(', ');
    throw new RegistryError('digest', `what ${from || 'the descriptor'} gave has the digest ${found}, not ${digest}`);
  }
}

/**
 * The bytes of a blob, in pieces as they come. They are checked at the end: until then they are
 * only claimed to be the blob. Ending the iteration early ends the transfer.
 */
export async function* readBlob(
  descriptor: Descriptor,
  path: string,
  scopes: readonly string[],
  options: BlobOptions,
  tries: Tries,
): AsyncGenerator<Buffer, void, undefined> {
  const transfer = new Transfer(descriptor, path, options, tries);
  let isStopped = true;
  let answer: Answer | undefined;
  try {
    while (!transfer.isDone) {
      const before = transfer.position;
      try {
        tries.begin();
        answer = await transfer.open(tries.link, scopes);
        yield* transfer.read(answer);
        if (transfer.position === before) throw new RegistryError('protocol', `${answer.url.host} sent nothing`);
        if (transfer.isDone) transfer.verify();
      } catch (error) {
        answer?.body.destroy();
        isStopped = false;
        // When all has come and is wrong, another host has nothing to add.
        await tries.failed(transfer.isDone ? toRegistryError(error).with({ isFinal: true }) : error);
        isStopped = true;
        continue;
      }
      tries.succeeded();
    }
    if (descriptor.size === 0) transfer.verify();
    isStopped = false;
    tries.done('ok');
  } finally {
    answer?.body.destroy();
    if (isStopped) tries.done('stopped');
  }
}
