/** Lists that come in pages: tags and referrers. */
import { checkDigest, type Digest } from './digest.js';
import { cleanText, RegistryError } from './errors.js';
import type { Answer } from './host-link.js';
import { nextLink } from './links.js';
import { type Descriptor, parseJsonBytes, parseManifest } from './manifest.js';
import { MediaType } from './media-types.js';
import type { Operation } from './observer.js';
import { nextUrl } from './origin.js';
import { isTag } from './reference.js';
import type { RepositoryContext } from './repository.js';

interface Page {
  readonly answer: Answer;
  readonly bytes: Buffer;
}

interface ListRequest {
  readonly operation: Operation;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly accept: string;
  /** Statuses that are answers; of a 404 the body is not read. */
  readonly accepts: readonly number[];
  readonly capability: 'resolve' | 'referrers';
  readonly digest?: Digest;
}

/** Where the next page is: on the same host, in the same list. */
function followingPage(answer: Answer, path: string): URL | undefined {
  const link = nextLink(answer.headers['link']);
  if (link === undefined) return undefined;
  const host = answer.url.host;
  const url = nextUrl(link, answer.url, `the link to the next page of ${host}`, () => false);
  if (url.origin !== answer.url.origin || !url.pathname.endsWith(path)) {
    throw new RegistryError('protocol', `the link to the next page of ${host} leads elsewhere`);
  }
  return url;
}

/** Pages of a list, from one host: the first that answers. */
async function* pages(context: RepositoryContext, list: ListRequest, signal: AbortSignal): AsyncGenerator<Page> {
  const { session } = context;
  const { limits } = session.options;
  let links = session.links(context.domain, list.capability);
  const seen = new Set<string>();
  let target: URL | undefined;
  for (let count = 0; ; count += 1) {
    if (count >= limits.pages) {
      throw new RegistryError('limit', `${context.name}: more than ${limits.pages} pages of ${list.operation}`);
    }
    const tries = context.tries(list.operation, list.digest, links, signal);
    const page = await tries.run(async (link): Promise<Page> => {
      const answer = await link.exchange({
        method: 'GET',
        path: list.path,
        query: list.query,
        ...(target === undefined ? {} : { target }),
        headers: { accept: list.accept },
        scopes: context.pullScopes,
        accepts: list.accepts,
        signal,
      });
      // The next pages are this host's.
      links = [link];
      if (answer.status === 404) {
        answer.body.destroy();
        return { answer, bytes: Buffer.alloc(0) };
      }
      return { answer, bytes: await answer.body.all(limits.jsonBytes, list.operation) };
    });
    yield page;
    target = page.answer.status === 404 ? undefined : followingPage(page.answer, list.path);
    if (target === undefined) return;
    if (seen.has(target.href))
      throw new RegistryError('protocol', `the pages of ${page.answer.url.host} go in a circle`);
    seen.add(target.href);
  }
}

export interface TagOptions {
  /** Tags in one page, as a wish; default: the registry's. */
  readonly pageSize?: number;
  readonly signal?: AbortSignal;
}

/** The tags of a repository in the registry's order, page by page. */
export async function* listTags(context: RepositoryContext, options: TagOptions): AsyncGenerator<string> {
  const signal = context.session.signal(options.signal);
  const most = context.session.options.limits.tags;
  let count = 0;
  const list: ListRequest = {
    operation: 'tags',
    path: `/${context.path}/tags/list`,
    query: options.pageSize === undefined ? {} : { n: String(options.pageSize) },
    accept: 'application/json',
    accepts: [200],
    capability: 'resolve',
  };
  for await (const { answer, bytes } of pages(context, list, signal)) {
    const where = `the tags of ${answer.url.host}`;
    const page = parseJsonBytes(bytes, where);
    const tags = typeof page === 'object' && page !== null && 'tags' in page ? (page.tags ?? []) : undefined;
    if (!Array.isArray(tags)) throw new RegistryError('protocol', `${where}: no list`);
    count += tags.length;
    if (count > most) throw new RegistryError('limit', `${context.name} has more than the ${most} tags allowed`);
    for (const tag of tags) {
      if (typeof tag !== 'string' || !isTag(tag)) {
        throw new RegistryError('protocol', `${where}: "${cleanText(String(tag), 60)}" is no tag`);
      }
      yield tag;
    }
  }
}

export interface ReferrerOptions {
  /** Only those of this type. */
  readonly artifactType?: string;
  readonly signal?: AbortSignal;
}

/** The tag under which registries without the referrers API have them: `sha256-…`. */
export function referrersTag(digest: Digest): string {
  const [algorithm = '', hex = ''] = digest.split(':');
  return `${algorithm.slice(0, 32)}-${hex.slice(0, 64)}`;
}

/**
 * The manifests that refer to one by their subject: signatures, attestations. By the API, else by
 * the tag.
 * @throws RegistryError `limit` when there are more than an index may have
 */
export async function listReferrers(
  context: RepositoryContext,
  digest: Digest,
  options: ReferrerOptions,
): Promise<Descriptor[]> {
  checkDigest(digest, 'the subject');
  const signal = context.session.signal(options.signal);
  const { limits } = context.session.options;
  const { artifactType } = options;
  const list: ListRequest = {
    operation: 'referrers',
    path: `/${context.path}/referrers/${digest}`,
    query: artifactType === undefined ? {} : { artifactType },
    accept: MediaType.OciIndex,
    accepts: [200, 404],
    capability: 'referrers',
    digest,
  };
  const found: Descriptor[] = [];
  let isKnown = false;
  for await (const { answer, bytes } of pages(context, list, signal)) {
    if (answer.status === 404) break;
    isKnown = true;
    const where = `the referrers of ${digest} from ${answer.url.host}`;
    const index = parseManifest(bytes, MediaType.OciIndex, where, limits);
    if (index.kind !== 'index') throw new RegistryError('protocol', `${where}: no index`);
    found.push(...index.manifests);
    if (found.length > limits.children) {
      throw new RegistryError('limit', `${where}: more than the ${limits.children} allowed`);
    }
  }
  const all = isKnown ? found : await referrersByTag(context, digest, options.signal);
  // A registry may filter, or not.
  return all.filter((descriptor) => artifactType === undefined || descriptor.artifactType === artifactType);
}

/** The referrers that the tag lists; none when there is no such tag. */
export async function referrersByTag(
  context: RepositoryContext,
  digest: Digest,
  signal: AbortSignal | undefined,
): Promise<readonly Descriptor[]> {
  try {
    const { content } = await context.manifest(referrersTag(digest), signal);
    return content.kind === 'index' ? content.manifests : [];
  } catch (error) {
    if (error instanceof RegistryError && error.kind === 'not-found') return [];
    throw error;
  }
}
