/**
 * Pushing blobs: in one piece, in several that go on where they broke, or by a mount from another
 * repository.
 */
import { checkDigest, type Digest } from './digest.js';
import { RegistryError } from './errors.js';
import type { Answer, HostLink } from './host-link.js';
import type { Descriptor } from './manifest.js';
import { nextUrl } from './origin.js';
import { isRepositoryPath } from './reference.js';
import type { RepositoryContext } from './repository.js';
import type { Tries } from './session.js';

/**
 * The bytes to send: `length` bytes from `offset`. It is called again when a piece has to be sent
 * again.
 */
export type BlobSource = (offset: number, length: number) => AsyncIterable<Uint8Array>;

export interface PushOptions {
  /** A repository of the same registry that may have the blob: `library/alpine`. */
  readonly mountFrom?: string;
  /** Sends pieces of this size, so that a break costs one piece; default: all at once. */
  readonly chunkBytes?: number;
  readonly signal?: AbortSignal;
}

/** The fate of a blob: it was there, it was taken from the other repository, or it was sent. */
export type PushResult = 'present' | 'mounted' | 'uploaded';

/** The time limit for ending a failed upload. */
const CANCEL_MS = 5_000;

class Upload {
  readonly #context: RepositoryContext;
  readonly #blob: Pick<Descriptor, 'digest' | 'size'>;
  readonly #source: BlobSource;
  readonly #tries: Tries;
  #location: URL | undefined;
  #position = 0;
  /** Whether a piece may have arrived although no answer came. */
  #isUnsure = false;

  constructor(context: RepositoryContext, blob: Pick<Descriptor, 'digest' | 'size'>, source: BlobSource, tries: Tries) {
    this.#context = context;
    this.#blob = blob;
    this.#source = source;
    this.#tries = tries;
  }

  #request(method: 'POST' | 'PUT' | 'PATCH' | 'GET' | 'DELETE', accepts: readonly number[], signal?: AbortSignal) {
    const path = `/${this.#context.path}/blobs/uploads/`;
    return { method, path, accepts, scopes: this.#context.pushScopes, signal: signal ?? this.#tries.signal };
  }

  /** Where the upload goes on. */
  #next(answer: Answer): URL {
    const { location } = answer.headers;
    answer.body.destroy();
    if (location === undefined) throw new RegistryError('protocol', `${answer.url.host} names no place to upload to`);
    const { allowsHttp } = this.#context.session.options;
    return nextUrl(location, answer.url, `the upload location of ${answer.url.host}`, allowsHttp);
  }

  /** @returns true when the registry takes the blob from the other repository */
  async mount(link: HostLink, from: string): Promise<boolean> {
    const call = this.#request('POST', [201, 202]);
    const scopes = [...call.scopes, `repository:${from}:pull`];
    let answer: Answer;
    try {
      answer = await link.exchange({ ...call, scopes, query: { mount: this.#blob.digest, from } });
    } catch (error) {
      // Not allowed to read there: it is sent then.
      if (error instanceof RegistryError && (error.status ?? 0) >= 400 && !error.isTransient) return false;
      throw error;
    }
    if (answer.status === 201) {
      answer.body.destroy();
      return true;
    }
    this.#location = this.#next(answer);
    return false;
  }

  async #start(link: HostLink): Promise<URL> {
    this.#location ??= this.#next(await link.exchange(this.#request('POST', [202])));
    return this.#location;
  }

  /** Sends all bytes with the last request. */
  async whole(link: HostLink): Promise<void> {
    const target = await this.#start(link);
    // Whatever comes of it, this place is used up.
    this.#location = undefined;
    const { size } = this.#blob;
    await this.#commit(link, target, size);
    this.#tries.count(size);
  }

  async #commit(link: HostLink, target: URL, size: number): Promise<void> {
    const { digest } = this.#blob;
    const url = new URL(target);
    url.search += `${url.search === '' ? '?' : '&'}digest=${encodeURIComponent(digest)}`;
    const answer = await link.exchange({
      ...this.#request('PUT', [201]),
      target: url,
      headers: { 'content-type': 'application/octet-stream' },
      payload: () => (size === 0 ? Buffer.alloc(0) : { size, chunks: this.#source(this.#position, size) }),
      responseMs: this.#context.session.options.limits.uploadResponseMs,
    });
    answer.body.destroy();
    const told = answer.headers['docker-content-digest'];
    if (told !== undefined && told !== digest) {
      throw new RegistryError('digest', `${url.host} took ${digest} for something else`);
    }
  }

  /**
   * Asks how much has arrived, after a break. A registry that cannot tell any more gets all again.
   */
  async #catchUp(link: HostLink): Promise<void> {
    if (!this.#isUnsure || this.#location === undefined) return;
    const answer = await link.exchange({ ...this.#request('GET', [204, 400, 404, 416]), target: this.#location });
    const end = /^(?:bytes=)?0-(\d+)$/.exec(answer.headers.range ?? '')?.[1];
    const { location } = answer.headers;
    answer.body.destroy();
    this.#isUnsure = false;
    // "0-0" is one byte, or none: some registries cannot say so. Then it begins anew.
    const isClear = answer.status === 204 && end !== undefined && end !== '0';
    const position = isClear ? Number(end) + 1 : 0;
    this.#position = position <= this.#blob.size ? position : 0;
    if (this.#position === 0) this.#location = undefined;
    else if (location !== undefined) this.#location = this.#next(answer);
  }

  /** Sends the pieces that are left, then says that it is all. */
  async pieces(link: HostLink, chunkBytes: number): Promise<void> {
    const { size } = this.#blob;
    await this.#catchUp(link);
    while (this.#position < size) {
      const target = await this.#start(link);
      const start = this.#position;
      const length = Math.min(chunkBytes, size - start);
      this.#isUnsure = true;
      const answer = await link.exchange({
        ...this.#request('PATCH', [202]),
        target,
        headers: { 'content-type': 'application/octet-stream', 'content-range': `${start}-${start + length - 1}` },
        payload: () => ({ size: length, chunks: this.#source(start, length) }),
        responseMs: this.#context.session.options.limits.uploadResponseMs,
      });
      this.#location = this.#next(answer);
      this.#isUnsure = false;
      this.#position += length;
      this.#tries.count(length);
      this.#tries.progress();
    }
    await this.#commit(link, await this.#start(link), 0);
    this.#location = undefined;
  }

  /** Tells the registry that nothing more comes; whether it hears it does not matter. */
  async cancel(link: HostLink): Promise<void> {
    if (this.#location === undefined) return;
    const signal = AbortSignal.timeout(CANCEL_MS);
    try {
      const answer = await link.exchange({
        ...this.#request('DELETE', [204, 202, 404], signal),
        target: this.#location,
      });
      answer.body.destroy();
    } catch {
      // It removes what is old by itself.
    }
  }
}

/** Says whether the repository has a blob. */
export async function hasBlob(
  context: RepositoryContext,
  digest: Digest,
  links: readonly HostLink[],
  signal: AbortSignal,
): Promise<boolean> {
  return await context.tries('upload', digest, links, signal).run(async (link) => {
    const answer = await link.exchange({
      method: 'HEAD',
      path: `/${context.path}/blobs/${digest}`,
      scopes: context.pushScopes,
      accepts: [200, 404],
      signal,
    });
    answer.body.destroy();
    return answer.status === 200;
  });
}

/**
 * Pushes a blob, unless it is there. A failure leaves no upload behind.
 * @throws RegistryError, `size` when the source gives more or less than the size
 */
export async function pushBlob(
  context: RepositoryContext,
  blob: Pick<Descriptor, 'digest' | 'size'>,
  source: BlobSource,
  options: PushOptions,
): Promise<PushResult> {
  checkDigest(blob.digest, 'the blob');
  const { mountFrom, chunkBytes } = options;
  if (mountFrom !== undefined && !isRepositoryPath(mountFrom)) {
    throw new RegistryError('bad-reference', 'what a blob is to be mounted from is no repository');
  }
  if (chunkBytes !== undefined && !(Number.isSafeInteger(chunkBytes) && chunkBytes > 1)) {
    throw new RegistryError('rejected', 'a piece has at least two bytes');
  }
  const signal = context.session.signal(options.signal);
  const links = context.session.links(context.domain, 'push').slice(0, 1);
  if (await hasBlob(context, blob.digest, links, signal)) return 'present';
  const tries = context.tries('upload', blob.digest, links, signal);
  const upload = new Upload(context, blob, source, tries);
  let mayMount = mountFrom !== undefined;
  try {
    return await tries.run(async (link) => {
      if (mayMount && mountFrom !== undefined && (await upload.mount(link, mountFrom))) return 'mounted';
      mayMount = false;
      if (chunkBytes === undefined) await upload.whole(link);
      else await upload.pieces(link, chunkBytes);
      return 'uploaded';
    });
  } catch (error) {
    const [link] = links;
    if (link !== undefined) await upload.cancel(link);
    throw error;
  }
}
