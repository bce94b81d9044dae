/** One repository of a registry. */
import { type BlobOptions, readBlob } from './blob.js';
import { checkDigest, type Digest, isDigest } from './digest.js';
import { RegistryError } from './errors.js';
import { type Fetched, type FetchedImage, fetchImage, fetchManifest, resolve, type Target } from './fetching.js';
import type { HostLink } from './host-link.js';
import { listReferrers, listTags, type ReferrerOptions, type TagOptions } from './lists.js';
import type { Descriptor } from './manifest.js';
import type { Operation } from './observer.js';
import { hostPlatform, type Platform } from './platform.js';
import { type PushManifestOptions, pushManifest, remove } from './push-manifest.js';
import { type Reference, repositoryName } from './reference.js';
import type { Session, Tries } from './session.js';
import { type BlobSource, hasBlob, type PushOptions, type PushResult, pushBlob } from './upload.js';

/** Shared by the parts of a repository's operations. */
export interface RepositoryContext {
  readonly session: Session;
  readonly domain: string;
  readonly path: string;
  /** `docker.io/library/alpine`. */
  readonly name: string;
  readonly pullScopes: readonly string[];
  readonly pushScopes: readonly string[];
  readonly deleteScopes: readonly string[];
  tries(operation: Operation, name: string | undefined, links: readonly HostLink[], signal: AbortSignal): Tries;
  manifest(target: Target, signal: AbortSignal | undefined): Promise<Fetched>;
  blobBytes(descriptor: Descriptor, signal: AbortSignal | undefined): Promise<Buffer>;
}

const WORDS: Readonly<Record<Operation, string>> = {
  resolve: 'resolve',
  manifest: 'fetch the manifest of',
  blob: 'fetch a blob of',
  tags: 'list the tags of',
  referrers: 'list the referrers in',
  upload: 'push a blob to',
  'push-manifest': 'push a manifest to',
  delete: 'delete in',
};

export interface CallOptions {
  readonly signal?: AbortSignal;
}

/**
 * A repository. Every method can be given up by its signal, and rejects with RegistryError; what
 * the registry sent was checked when it is returned.
 */
export class Repository {
  /** `docker.io/library/alpine`. */
  readonly name: string;
  readonly #context: RepositoryContext;

  constructor(session: Session, { domain, path }: Pick<Reference, 'domain' | 'path'>) {
    this.name = repositoryName({ domain, path });
    const scope = `repository:${path}`;
    this.#context = {
      session,
      domain,
      path,
      name: this.name,
      pullScopes: [`${scope}:pull`],
      pushScopes: [`${scope}:pull,push`],
      deleteScopes: [`${scope}:delete,pull`],
      tries: (operation, subject, links, signal) => {
        const digest = subject !== undefined && isDigest(subject) ? subject : undefined;
        const at = subject === undefined ? '' : digest === undefined ? `:${subject}` : `@${subject}`;
        const what = `${WORDS[operation]} ${this.name}${at}`;
        const details = { operation, domain, repository: this.name, what };
        return session.tries(digest === undefined ? details : { ...details, digest }, links, signal);
      },
      manifest: async (target, signal) => await fetchManifest(this.#context, target, signal),
      blobBytes: async (descriptor, signal) => await this.blobBytes(descriptor, signal === undefined ? {} : { signal }),
    };
  }

  /** The descriptor of a tag or digest now, without fetching it. */
  async resolve(name: string, options: CallOptions = {}): Promise<Descriptor> {
    return await resolve(this.#context, name, options.signal);
  }

  /** A manifest or index, its bytes checked against digest, size and media type. */
  async manifest(target: Target, options: CallOptions = {}): Promise<Fetched> {
    return await fetchManifest(this.#context, target, options.signal);
  }

  /**
   * The image that runs on a platform, through indexes, with its configuration.
   * @param options platform: default this machine's
   * @throws RegistryError `no-platform`
   */
  async image(name: string, options: CallOptions & { readonly platform?: Platform } = {}): Promise<FetchedImage> {
    return await fetchImage(this.#context, name, options.platform ?? hostPlatform(), options.signal);
  }

  /**
   * The bytes of a blob, as they come. A transfer that breaks goes on where it was. The bytes are
   * right only when the iteration has ended by itself: then size and digest were right. A part
   * (`offset` without `hash`, or `length`) cannot be checked, but for its size.
   */
  readBlob(descriptor: Descriptor, options: BlobOptions = {}): AsyncGenerator<Buffer, void, undefined> {
    const { session, path, domain, pullScopes } = this.#context;
    checkDigest(descriptor.digest, 'the blob');
    const signal = session.signal(options.signal);
    const tries = this.#context.tries('blob', descriptor.digest, session.links(domain, 'pull'), signal);
    return readBlob(descriptor, `/${path}/blobs/${descriptor.digest}`, pullScopes, options, tries);
  }

  /**
   * A small blob, checked.
   * @throws RegistryError `limit` when it is larger than a configuration may be
   */
  async blobBytes(descriptor: Descriptor, options: CallOptions = {}): Promise<Buffer> {
    const { configBytes } = this.#context.session.options.limits;
    if (descriptor.size > configBytes) {
      throw new RegistryError('limit', `${descriptor.digest} has ${descriptor.size} bytes, ${configBytes} are allowed`);
    }
    const chunks: Buffer[] = [];
    for await (const chunk of this.readBlob(descriptor, options)) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  /** Says whether a blob is there. */
  async hasBlob(digest: Digest, options: CallOptions = {}): Promise<boolean> {
    const { session, domain } = this.#context;
    checkDigest(digest, 'the blob');
    return await hasBlob(this.#context, digest, session.links(domain, 'pull'), session.signal(options.signal));
  }

  /** The tags, page by page. */
  tags(options: TagOptions = {}): AsyncGenerator<string> {
    return listTags(this.#context, options);
  }

  /** The manifests that refer to one: signatures, attestations. */
  async referrers(digest: Digest, options: ReferrerOptions = {}): Promise<Descriptor[]> {
    return await listReferrers(this.#context, digest, options);
  }

  /** Pushes a blob unless it is there. */
  async pushBlob(
    blob: Pick<Descriptor, 'digest' | 'size'>,
    source: BlobSource,
    options: PushOptions = {},
  ): Promise<PushResult> {
    return await pushBlob(this.#context, blob, source, options);
  }

  /** Pushes a manifest or index. @returns its descriptor */
  async pushManifest(bytes: Buffer, options: PushManifestOptions = {}): Promise<Descriptor> {
    return await pushManifest(this.#context, bytes, options);
  }

  /** Deletes a manifest by its digest, or a tag by its name. */
  async deleteManifest(name: string, options: CallOptions = {}): Promise<void> {
    await remove(this.#context, 'manifests', name, options.signal);
  }

  async deleteBlob(digest: Digest, options: CallOptions = {}): Promise<void> {
    checkDigest(digest, 'the blob');
    await remove(this.#context, 'blobs', digest, options.signal);
  }
}
