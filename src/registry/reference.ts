/**
 * References to images, normalised as Docker and containerd do it
 * (github.com/distribution/reference): `alpine` is `docker.io/library/alpine:latest`.
 */
import { type Digest, isDigest } from './digest.js';
import { cleanText, RegistryError } from './errors.js';

const DEFAULT_DOMAIN = 'docker.io';
const LEGACY_DOMAIN = 'index.docker.io';
const OFFICIAL = 'library/';
const DEFAULT_TAG = 'latest';
/** Characters of a repository's path, without its domain. */
const MAX_PATH = 255;
/** No reference that can be parsed is longer: domain, path, tag, digest. */
const MAX_REFERENCE = 1024;

const LABEL = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?';
const DOMAIN = new RegExp(`^(?:${LABEL}(?:\\.${LABEL})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?$`);
const PATH_PART = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*$/;
const TAG = /^\w[\w.-]{0,127}$/;

/** A parsed reference. At least one of tag and digest is there. */
export interface Reference {
  /** The registry as it is named: `docker.io`, `host:5000`, `[::1]:5000`. */
  readonly domain: string;
  /** The repository within it: `library/alpine`. */
  readonly path: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

/** True for what may be a tag. */
export function isTag(text: string): boolean {
  return TAG.test(text);
}

/** True for what may be a repository's path. */
export function isRepositoryPath(text: string): boolean {
  return text.length <= MAX_PATH && text.split('/').every((part) => PATH_PART.test(part));
}

/** True for what may be a registry: a host name or address, with or without a port. */
export function isDomain(text: string): boolean {
  return DOMAIN.test(text);
}

function bad(text: string, why: string): RegistryError {
  const shown = cleanText(text, 200);
  return new RegistryError('bad-reference', `"${shown}" is no reference to an image: ${why}`, { subject: shown });
}

/**
 * Cuts a name into registry and path; without a registry that can be told from a path it is Docker
 * Hub's.
 */
function splitDomain(name: string): [domain: string, path: string] {
  const slash = name.indexOf('/');
  const first = name.slice(0, slash);
  const rest = name.slice(slash + 1);
  const isRegistry = slash >= 0 && (first === 'localhost' || /[.:]/.test(first) || first !== first.toLowerCase());
  const domain = isRegistry && first !== LEGACY_DOMAIN ? first : DEFAULT_DOMAIN;
  const path = isRegistry ? rest : name;
  return [domain, domain === DEFAULT_DOMAIN && !path.includes('/') ? OFFICIAL + path : path];
}

/**
 * Parses a reference as users type it.
 *
 * `NAME[:TAG][@DIGEST]`; a name without a registry is Docker Hub's, one without a namespace there
 * is in `library`, and without tag and digest the tag is `latest`. With both, the digest decides
 * what is fetched.
 * @throws RegistryError `bad-reference` that says which part is wrong
 */
export function parseReference(text: string): Reference {
  if (text === '') throw bad(text, 'it is empty');
  if (text.length > MAX_REFERENCE) throw bad(text, `it is longer than ${MAX_REFERENCE} characters`);
  if (/^[a-f0-9]{64}$/.test(text)) throw bad(text, '64 hexadecimal digits would be an identifier');
  const at = text.indexOf('@');
  const digest = at < 0 ? undefined : text.slice(at + 1);
  if (digest !== undefined && !isDigest(digest)) throw bad(text, 'behind "@" there is no digest that is accepted');
  const [domain, remainder] = splitDomain(at < 0 ? text : text.slice(0, at));
  const colon = remainder.indexOf(':');
  const path = colon < 0 ? remainder : remainder.slice(0, colon);
  const tag = colon < 0 ? undefined : remainder.slice(colon + 1);
  if (path !== path.toLowerCase()) throw bad(text, `the repository (${path}) must be in lower case`);
  if (!isDomain(domain)) throw bad(text, `"${domain}" is no registry`);
  if (path.length > MAX_PATH) throw bad(text, `the repository's name is longer than ${MAX_PATH} characters`);
  if (!isRepositoryPath(path)) throw bad(text, `"${path}" is no repository's name`);
  if (tag !== undefined && !isTag(tag)) throw bad(text, `"${tag}" is no tag`);
  return { domain, path, tag: tag ?? (digest === undefined ? DEFAULT_TAG : undefined), digest };
}

/** The repository of a reference: `docker.io/library/alpine`. */
export function repositoryName({ domain, path }: Pick<Reference, 'domain' | 'path'>): string {
  return `${domain}/${path}`;
}

/** The whole reference: `docker.io/library/alpine:latest`. Parsing it gives the same reference. */
export function formatReference(reference: Reference): string {
  const tag = reference.tag === undefined ? '' : `:${reference.tag}`;
  const digest = reference.digest === undefined ? '' : `@${reference.digest}`;
  return `${repositoryName(reference)}${tag}${digest}`;
}

/**
 * As Docker shows it, without `docker.io` and `library`, unless that would be read as another
 * repository.
 */
export function familiarReference(reference: Reference): string {
  const full = formatReference(reference);
  if (reference.domain !== DEFAULT_DOMAIN) return full;
  const { path } = reference;
  const isOfficial = path.startsWith(OFFICIAL) && !path.slice(OFFICIAL.length).includes('/');
  const short = isOfficial ? path.slice(OFFICIAL.length) : path;
  const isSame = splitDomain(short).join('/') === repositoryName(reference) && !/^[a-f0-9]{64}$/.test(short);
  return isSame ? full.replace(repositoryName(reference), short) : full;
}
