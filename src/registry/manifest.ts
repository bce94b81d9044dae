/**
 * Manifests, indexes and descriptors (opencontainers/image-spec: descriptor.md, manifest.md,
 * image-index.md), read from bytes that a stranger sent. Unneeded fields are dropped: the result is
 * made anew from checked fields.
 */
import { checkDigest, type Digest } from './digest.js';
import { cleanText, RegistryError } from './errors.js';
import type { Limits } from './limits.js';
import { bareMediaType, isIndexType, isManifestType, isSchema1Type, MediaType } from './media-types.js';
import type { Platform } from './platform.js';

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: Platform;
  readonly artifactType?: string;
}

/** The manifest of one image or artifact. */
export interface Manifest {
  readonly kind: 'manifest';
  readonly mediaType: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly subject?: Descriptor;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** Manifests for several platforms, or those that refer to another. */
export interface Index {
  readonly kind: 'index';
  readonly mediaType: string;
  readonly manifests: readonly Descriptor[];
  readonly subject?: Descriptor;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

type Fields = Readonly<Record<string, unknown>>;

function bad(where: string, why: string): RegistryError {
  return new RegistryError('protocol', `${where}: ${why}`);
}

function fieldsOf(value: unknown, where: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw bad(where, 'no JSON object');
}

/** A member of the object itself, null taken as absent, as Go does. */
function member(fields: Fields, name: string): unknown {
  const value = Object.hasOwn(fields, name) ? fields[name] : undefined;
  return value === null ? undefined : value;
}

function text(fields: Fields, name: string, where: string): string | undefined {
  const value = member(fields, name);
  if (value === undefined || value === '') return undefined;
  if (typeof value !== 'string') throw bad(where, `"${name}" is no text`);
  return value;
}

function list(fields: Fields, name: string, most: number, where: string): readonly unknown[] {
  const value = member(fields, name) ?? [];
  if (!Array.isArray(value)) throw bad(where, `"${name}" is no list`);
  if (value.length > most) {
    throw new RegistryError('limit', `${where}: ${value.length} ${name} are more than the ${most} allowed`);
  }
  return value;
}

/** The optional field, as something to be spread. */
function optional<K extends string, V>(name: K, value: V | undefined): { [name in K]?: V } {
  return value === undefined ? {} : ({ [name]: value } as { [name in K]: V });
}

function parseAnnotations(fields: Fields, where: string): Readonly<Record<string, string>> | undefined {
  const value = member(fields, 'annotations');
  if (value === undefined) return undefined;
  const entries = Object.entries(fieldsOf(value, `${where}: annotations`));
  for (const [name, entry] of entries) {
    if (typeof entry !== 'string') throw bad(where, `annotation ${cleanText(name, 60)} is no text`);
  }
  return Object.fromEntries(entries as [string, string][]);
}

function parsePlatformField(fields: Fields, where: string): Platform | undefined {
  const value = member(fields, 'platform');
  if (value === undefined) return undefined;
  const platform = fieldsOf(value, `${where}: platform`);
  const features = list(platform, 'os.features', 64, where).filter((feature) => typeof feature === 'string');
  return {
    os: text(platform, 'os', where) ?? '',
    architecture: text(platform, 'architecture', where) ?? '',
    ...optional('variant', text(platform, 'variant', where)),
    ...optional('osVersion', text(platform, 'os.version', where)),
    ...optional('osFeatures', features.length === 0 ? undefined : features),
  };
}

/**
 * Checks a descriptor. Its `urls` and `data` are not taken over: content comes from the registry,
 * by its digest.
 * @param where what holds it, for errors
 * @throws RegistryError `protocol`, or `limit` for a blob that is too large
 */
export function parseDescriptor(value: unknown, where: string, limits: Limits): Descriptor {
  const fields = fieldsOf(value, where);
  const mediaType = bareMediaType(text(fields, 'mediaType', where));
  if (mediaType === '') throw bad(where, '"mediaType" is missing or none');
  const digest = checkDigest(member(fields, 'digest'), where);
  const size = member(fields, 'size');
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) throw bad(where, '"size" is no size');
  if (size > limits.blobBytes) {
    throw new RegistryError('limit', `${where}: ${size} bytes are more than the ${limits.blobBytes} allowed`);
  }
  return {
    mediaType,
    digest,
    size,
    ...optional('annotations', parseAnnotations(fields, where)),
    ...optional('platform', parsePlatformField(fields, where)),
    ...optional('artifactType', text(fields, 'artifactType', where)),
  };
}

/** Parses JSON text of a registry's. @throws RegistryError `protocol` */
export function parseJsonBytes(bytes: Buffer, where: string): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new RegistryError('protocol', `${where}: no JSON`, { cause });
  }
}

/** The type a document has: what the registry says and what it says itself must agree. */
function typeOf(fields: Fields, contentType: string | undefined, where: string): string {
  const own = bareMediaType(text(fields, 'mediaType', where));
  const told = bareMediaType(contentType);
  if (isSchema1Type(told) || isSchema1Type(own) || member(fields, 'schemaVersion') === 1) {
    throw new RegistryError('unsupported', `${where}: Docker's schema 1 is not supported: push the image anew`);
  }
  const isKnown = (type: string): boolean => isIndexType(type) || isManifestType(type);
  if (own !== '' && isKnown(told) && own !== told) {
    throw bad(where, `it is sent as ${told} and says that it is ${own}`);
  }
  const type = own === '' ? told : own;
  if (isKnown(type)) return type;
  // Registries that serve everything as plain JSON; the document then says by its fields what it
  // is.
  if (own === '' && (type === '' || type === 'application/json' || type === 'text/plain')) {
    return Array.isArray(member(fields, 'manifests')) ? MediaType.OciIndex : MediaType.OciManifest;
  }
  throw bad(where, `neither manifest nor index: ${type}`);
}

/**
 * Parses a manifest or an index.
 * @param contentType what it was sent as, or its descriptor's media type
 * @param where what it is, for errors
 * @throws RegistryError `protocol`, `limit` or `unsupported`
 */
export function parseManifest(
  bytes: Buffer,
  contentType: string | undefined,
  where: string,
  limits: Limits,
): Manifest | Index {
  const fields = fieldsOf(parseJsonBytes(bytes, where), where);
  const mediaType = typeOf(fields, contentType, where);
  const has = (name: string): boolean => member(fields, name) !== undefined;
  // A document that is both could be read as one here and as the other there (CVE-2021-41190).
  if (isIndexType(mediaType) ? has('layers') || has('config') : has('manifests')) {
    throw bad(where, 'manifest and index at the same time');
  }
  const subject = member(fields, 'subject');
  const common = {
    mediaType,
    ...optional('subject', subject === undefined ? undefined : parseDescriptor(subject, `${where}: subject`, limits)),
    ...optional('artifactType', text(fields, 'artifactType', where)),
    ...optional('annotations', parseAnnotations(fields, where)),
  };
  const all = (name: string, most: number): Descriptor[] =>
    list(fields, name, most, where).map((entry, index) =>
      parseDescriptor(entry, `${where}: ${name}[${index}]`, limits),
    );
  if (isIndexType(mediaType)) return { kind: 'index', ...common, manifests: all('manifests', limits.children) };
  const config = parseDescriptor(member(fields, 'config'), `${where}: config`, limits);
  return { kind: 'manifest', ...common, config, layers: all('layers', limits.layers) };
}
