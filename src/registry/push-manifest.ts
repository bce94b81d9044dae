/**
 * Pushing manifests, with the list of referrers that some registries leave to clients; and
 * deleting.
 */
import { digestOf } from './digest.js';
import { RegistryError } from './errors.js';
import { targetName } from './fetching.js';
import { referrersByTag, referrersTag } from './lists.js';
import { type Descriptor, type Index, type Manifest, parseManifest } from './manifest.js';
import { MediaType } from './media-types.js';
import type { RepositoryContext } from './repository.js';

export interface PushManifestOptions {
  /** The tag it gets; default: none, so that it can be had by its digest only. */
  readonly tag?: string;
  /** Where the document does not say it itself. */
  readonly mediaType?: string;
  readonly signal?: AbortSignal;
}

/**
 * Pushes a manifest or index, whose parts must be there. One with a subject is listed among the
 * subject's referrers, by the registry or by us.
 */
export async function pushManifest(
  context: RepositoryContext,
  bytes: Buffer,
  options: PushManifestOptions,
): Promise<Descriptor> {
  const { limits } = context.session.options;
  const digest = digestOf(bytes);
  if (bytes.length > limits.manifestBytes) {
    throw new RegistryError('limit', `a manifest has at most ${limits.manifestBytes} bytes`);
  }
  const content = parseManifest(bytes, options.mediaType, `the manifest ${digest}`, limits);
  const name = targetName(options.tag ?? digest);
  const signal = context.session.signal(options.signal);
  const links = context.session.links(context.domain, 'push').slice(0, 1);
  const hasSubject = await context.tries('push-manifest', digest, links, signal).run(async (link) => {
    const answer = await link.exchange({
      method: 'PUT',
      path: `/${context.path}/manifests/${name}`,
      headers: { 'content-type': content.mediaType },
      payload: () => bytes,
      scopes: context.pushScopes,
      accepts: [201],
      signal,
    });
    answer.body.destroy();
    const told = String(answer.headers['docker-content-digest'] ?? digest);
    if (told.startsWith('sha256:') && told !== digest) {
      throw new RegistryError('digest', `${answer.url.host} took the manifest ${digest} for ${told}`);
    }
    return answer.headers['oci-subject'] !== undefined;
  });
  const descriptor = { mediaType: content.mediaType, digest, size: bytes.length };
  if (content.subject !== undefined && !hasSubject) await listByTag(context, content, descriptor, options.signal);
  return descriptor;
}

/** Adds a manifest to the index under the tag that stands for the referrers API. */
async function listByTag(
  context: RepositoryContext,
  content: Manifest | Index,
  descriptor: Descriptor,
  signal: AbortSignal | undefined,
): Promise<void> {
  const subject = content.subject?.digest;
  if (subject === undefined) return;
  const known = await referrersByTag(context, subject, signal);
  if (known.some(({ digest }) => digest === descriptor.digest)) return;
  const config = content.kind === 'manifest' ? content.config.mediaType : undefined;
  const artifactType = content.artifactType ?? config;
  const { annotations } = content;
  const entry = {
    ...descriptor,
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(annotations === undefined ? {} : { annotations }),
  };
  const index = { schemaVersion: 2, mediaType: MediaType.OciIndex, manifests: [...known.map(toJson), entry] };
  await pushManifest(context, Buffer.from(JSON.stringify(index)), {
    tag: referrersTag(subject),
    ...(signal === undefined ? {} : { signal }),
  });
}

/** A descriptor as it is written. */
function toJson({ platform, ...descriptor }: Descriptor): object {
  if (platform === undefined) return descriptor;
  const { osVersion, osFeatures, ...plain } = platform;
  return {
    ...descriptor,
    platform: {
      ...plain,
      ...(osVersion === undefined ? {} : { 'os.version': osVersion }),
      ...(osFeatures === undefined ? {} : { 'os.features': osFeatures }),
    },
  };
}

/**
 * Deletes a manifest, a tag or a blob. After a try without an answer, "not found" means that it is
 * done.
 * @throws RegistryError `unsupported` where the registry does not delete
 */
export async function remove(
  context: RepositoryContext,
  kind: 'manifests' | 'blobs',
  name: string,
  given: AbortSignal | undefined,
): Promise<void> {
  const signal = context.session.signal(given);
  const links = context.session.links(context.domain, 'push').slice(0, 1);
  const tries = context.tries('delete', name, links, signal);
  await tries.run(async (link) => {
    const answer = await link.exchange({
      method: 'DELETE',
      path: `/${context.path}/${kind}/${targetName(name)}`,
      scopes: context.deleteScopes,
      accepts: tries.lost > 0 ? [200, 202, 204, 404] : [200, 202, 204],
      signal,
    });
    answer.body.destroy();
  });
}
