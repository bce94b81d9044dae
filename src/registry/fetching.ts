/** Manifests: what a tag is, their bytes, and the one for a platform. */
import { algorithmOf, checkDigest, type Digest, digestOf, isDigest } from './digest.js';
import { cleanText, RegistryError } from './errors.js';
import type { Answer, HostLink } from './host-link.js';
import { type Descriptor, type Index, type Manifest, parseJsonBytes, parseManifest } from './manifest.js';
import { bareMediaType, isImageConfigType, isIndexType, isManifestType, MANIFEST_TYPES } from './media-types.js';
import { formatPlatform, normalisePlatform, type Platform, platformRank } from './platform.js';
import { isTag } from './reference.js';
import type { RepositoryContext } from './repository.js';

/** A tag, a digest, or a descriptor, whose size and media type are then checked too. */
export type Target = string | Descriptor;

/** A manifest or index and where it came from. */
export interface Fetched {
  readonly descriptor: Descriptor;
  /** Exactly what the registry sent; the digest is of these. */
  readonly bytes: Buffer;
  readonly content: Manifest | Index;
}

/** An image for one platform. */
export interface FetchedImage {
  /** The document the tag named: an index, or the manifest itself. */
  readonly target: Fetched;
  /** The indexes on the way to the manifest, the target first. */
  readonly indexes: readonly Fetched[];
  readonly manifest: Fetched & { readonly content: Manifest };
  /** The configuration's bytes, checked; parsed below. */
  readonly configBytes: Buffer;
  /** Its JSON. It is the image author's word and was not looked at beyond the platform. */
  readonly config: unknown;
}

/** The tag or digest of a target, checked. */
export function targetName(target: Target): string {
  const name = typeof target === 'string' ? target : target.digest;
  if (isDigest(name) || isTag(name)) return name;
  throw new RegistryError('bad-reference', `"${cleanText(name, 100)}" is neither a tag nor a digest`);
}

function request(context: RepositoryContext, method: 'GET' | 'HEAD', name: string, signal: AbortSignal) {
  return {
    method,
    path: `/${context.path}/manifests/${name}`,
    headers: { accept: [...MANIFEST_TYPES, '*/*'].join(', ') },
    scopes: context.pullScopes,
    accepts: [200],
    signal,
  };
}

/** The digest an answer claims, if any. */
function toldDigest({ headers, url }: Answer): Digest | undefined {
  const told = headers['docker-content-digest'];
  return told === undefined ? undefined : checkDigest(told, `Docker-Content-Digest of ${url.host}`);
}

/** Reads a manifest and checks it against all that is known of it. */
async function readManifest(context: RepositoryContext, answer: Answer, target: Target): Promise<Fetched> {
  const { limits } = context.session.options;
  const name = targetName(target);
  const host = answer.url.host;
  const bytes = await answer.body.all(limits.manifestBytes, `the manifest ${name}`);
  const told = toldDigest(answer);
  const wanted = isDigest(name) ? name : told;
  const digest = wanted ?? digestOf(bytes);
  for (const expected of [wanted, told]) {
    if (expected === undefined) continue;
    const found = digestOf(bytes, algorithmOf(expected));
    if (found !== expected) {
      throw new RegistryError('digest', `the manifest that ${host} sent has the digest ${found}, not ${expected}`);
    }
  }
  if (typeof target !== 'string' && target.size !== bytes.length) {
    throw new RegistryError('size', `${host} sent ${bytes.length} bytes for a manifest of ${target.size}`);
  }
  const content = parseManifest(bytes, answer.headers['content-type'], `the manifest ${digest}`, limits);
  if (typeof target !== 'string' && isKnownType(target.mediaType) && target.mediaType !== content.mediaType) {
    throw new RegistryError(
      'protocol',
      `${digest} is ${content.mediaType}, and its descriptor says ${target.mediaType}`,
    );
  }
  return { descriptor: { mediaType: content.mediaType, digest, size: bytes.length }, bytes, content };
}

function isKnownType(mediaType: string): boolean {
  return isIndexType(mediaType) || isManifestType(mediaType);
}

/** Fetches a manifest or an index. @throws RegistryError */
export async function fetchManifest(
  context: RepositoryContext,
  target: Target,
  given: AbortSignal | undefined,
): Promise<Fetched> {
  const name = targetName(target);
  const signal = context.session.signal(given);
  // A host that says what a tag is must be trusted; any host may serve a digest.
  const links = context.session.links(context.domain, isDigest(name) ? 'pull' : 'resolve');
  const tries = context.tries('manifest', name, links, signal);
  return await tries.run(async (link) => {
    const answer = await link.exchange(request(context, 'GET', name, signal));
    const fetched = await readManifest(context, answer, target);
    tries.count(fetched.bytes.length);
    return fetched;
  });
}

/**
 * Says what a tag or digest is, without fetching it where the registry can: a HEAD. The digest is
 * then the registry's word, which fetching it will check.
 */
export async function resolve(
  context: RepositoryContext,
  name: string,
  given: AbortSignal | undefined,
): Promise<Descriptor> {
  targetName(name);
  const signal = context.session.signal(given);
  const links = context.session.links(context.domain, 'resolve');
  return await context
    .tries('resolve', name, links, signal)
    .run(async (link) => await resolveAt(context, link, name, signal));
}

async function resolveAt(
  context: RepositoryContext,
  link: HostLink,
  name: string,
  signal: AbortSignal,
): Promise<Descriptor> {
  const told = await head(context, link, name, signal);
  if (told !== undefined) return told;
  const answer = await link.exchange(request(context, 'GET', name, signal));
  return (await readManifest(context, answer, name)).descriptor;
}

/**
 * Undefined when the registry knows no HEAD, or does not tell enough; a refusal has no words in it.
 */
async function head(
  context: RepositoryContext,
  link: HostLink,
  name: string,
  signal: AbortSignal,
): Promise<Descriptor | undefined> {
  let answer: Answer;
  try {
    answer = await link.exchange(request(context, 'HEAD', name, signal));
  } catch (error) {
    const status = error instanceof RegistryError ? (error.status ?? 0) : 0;
    if (status >= 400 && status < 500 && ![404, 408, 429].includes(status)) return undefined;
    throw error;
  }
  answer.body.destroy();
  const digest = toldDigest(answer);
  const mediaType = bareMediaType(answer.headers['content-type']);
  const size = Number(answer.headers['content-length'] ?? Number.NaN);
  if (digest === undefined || !isKnownType(mediaType) || !Number.isSafeInteger(size)) return undefined;
  if (isDigest(name) && digest !== name) {
    throw new RegistryError('digest', `${answer.url.host} says that ${name} has the digest ${digest}`);
  }
  if (size > context.session.options.limits.manifestBytes) {
    throw new RegistryError('limit', `the manifest ${name} of ${answer.url.host} has ${size} bytes, which is too many`);
  }
  return { mediaType, digest, size };
}

/**
 * The manifests of an index that run on a platform, best first; those that name no platform come
 * last.
 */
export function candidates(index: Index, platform: Platform): Descriptor[] {
  const last = Number.MAX_SAFE_INTEGER;
  const features = (descriptor: Descriptor): number => descriptor.platform?.osFeatures?.length ?? 0;
  return index.manifests
    .filter(({ mediaType }) => isKnownType(mediaType))
    .map((descriptor) => ({
      descriptor,
      rank: descriptor.platform === undefined ? last : platformRank(platform, descriptor.platform),
    }))
    .filter((entry): entry is { descriptor: Descriptor; rank: number } => entry.rank !== undefined)
    .sort((a, b) => a.rank - b.rank || features(b.descriptor) - features(a.descriptor))
    .map(({ descriptor }) => descriptor);
}

function offeredPlatforms(index: Index): string {
  const names = index.manifests.flatMap(({ platform }) => (platform === undefined ? [] : [formatPlatform(platform)]));
  return cleanText([...new Set(names)].join(', ')) || 'none';
}

/** How many manifests are fetched to find the right one, whatever indexes say. */
const MAX_FETCHES = 16;

/**
 * The image for a platform: through indexes to the manifest, and its configuration.
 * @throws RegistryError `no-platform` that lists what there is
 */
export async function fetchImage(
  context: RepositoryContext,
  name: string,
  platform: Platform,
  given: AbortSignal | undefined,
): Promise<FetchedImage> {
  const target = await fetchManifest(context, name, given);
  const wanted = normalisePlatform(platform);
  let left = MAX_FETCHES;
  let offered = '';
  const descend = async (at: Fetched, indexes: readonly Fetched[]): Promise<FetchedImage | undefined> => {
    const { content } = at;
    if (content.kind === 'manifest') {
      const found = await fetchConfig(context, content, given);
      const own = configPlatform(found.config);
      if (
        !isImageConfigType(content.config.mediaType) ||
        own === undefined ||
        platformRank(wanted, own) !== undefined
      ) {
        return { target, indexes, manifest: { ...at, content }, ...found };
      }
      offered ||= formatPlatform(own);
      return undefined;
    }
    if (indexes.length >= context.session.options.limits.depth) {
      throw new RegistryError('limit', `${context.name}: more than ${indexes.length} indexes within each other`);
    }
    offered ||= offeredPlatforms(content);
    for (const descriptor of candidates(content, wanted)) {
      left -= 1;
      if (left < 0) throw new RegistryError('limit', `${context.name}: no manifest among the first ${MAX_FETCHES}`);
      const next = await fetchManifest(context, descriptor, given);
      const image = await descend(next, [...indexes, at]);
      if (image !== undefined) return image;
    }
    return undefined;
  };
  const image = await descend(target, []);
  if (image !== undefined) return image;
  throw new RegistryError(
    'no-platform',
    `${context.name}: nothing for ${formatPlatform(wanted)}; there is ${offered}`,
    {
      subject: context.name,
    },
  );
}

async function fetchConfig(
  context: RepositoryContext,
  manifest: Manifest,
  signal: AbortSignal | undefined,
): Promise<{ configBytes: Buffer; config: unknown }> {
  const { digest, mediaType } = manifest.config;
  const configBytes = await context.blobBytes(manifest.config, signal);
  const isJson = isImageConfigType(mediaType) || mediaType.endsWith('json');
  return { configBytes, config: isJson ? parseJsonBytes(configBytes, `the configuration ${digest}`) : undefined };
}

/** The platform in an image's configuration; undefined when it names none. */
function configPlatform(config: unknown): Platform | undefined {
  if (typeof config !== 'object' || config === null) return undefined;
  const fields = config as Record<string, unknown>;
  const { os, architecture, variant } = fields;
  if (typeof os !== 'string' || typeof architecture !== 'string' || architecture === '') return undefined;
  return { os, architecture, ...(typeof variant === 'string' ? { variant } : {}) };
}
