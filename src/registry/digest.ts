/**
 * Digests as the image specification has them (descriptor.md): `sha256:` and hexadecimal digits, in
 * lower case.
 */
import { createHash, type Hash } from 'node:crypto';
import { cleanText, RegistryError } from './errors.js';

/** The algorithms that are accepted, with the number of hexadecimal digits of each. */
const DIGITS: Readonly<Record<string, number>> = { sha256: 64, sha384: 96, sha512: 128 };

/** `sha256:…`, checked. */
export type Digest = string;

/** True for a digest by an algorithm that is accepted, of its right length. */
export function isDigest(text: string): boolean {
  const colon = text.indexOf(':');
  const digits = Object.hasOwn(DIGITS, text.slice(0, colon)) ? DIGITS[text.slice(0, colon)] : undefined;
  return digits !== undefined && text.length === colon + 1 + digits && /^[0-9a-f]+$/.test(text.slice(colon + 1));
}

/**
 * Checks a digest.
 * @param where what holds it, for the error
 * @throws RegistryError `protocol` for anything but `sha256:`, `sha384:` or `sha512:` with as many
 *   digits as that has
 */
export function checkDigest(text: unknown, where: string): Digest {
  if (typeof text === 'string' && isDigest(text)) return text;
  throw new RegistryError('protocol', `${where}: no digest that is accepted: ${cleanText(String(text), 100)}`);
}

/** The algorithm of a digest. */
export function algorithmOf(digest: Digest): string {
  return digest.slice(0, digest.indexOf(':'));
}

/** A hash of the digest's algorithm, still empty. */
export function hashFor(digest: Digest): Hash {
  return createHash(algorithmOf(digest));
}

/** The digest of bytes. */
export function digestOf(bytes: Uint8Array, algorithm = 'sha256'): Digest {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}
