/** Which names the store takes. The rules are containerd's (identifiers, labels, leases). */
import { createHash } from 'node:crypto';
import { Code, LaminaError } from '../base/index.js';
import type { Labels } from '../gc/index.js';
import type { LeaseResource } from './types.js';

/** containerd pkg/identifiers: what a namespace and the ids of containers and sandboxes may be. */
const IDENTIFIER = /^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/;
const IDENTIFIER_LENGTH = 76;
/** pkg/labels: of key and value together. */
const LABEL_LENGTH = 4096;
/** Names of images, snapshots, leases, refs: as long as a path may be. */
const NAME_LENGTH = 4096;

const HEX_LENGTH: ReadonlyMap<string, number> = new Map([
  ['sha256', 64],
  ['sha384', 96],
  ['sha512', 128],
]);

function invalid(what: string, value: string, why: string): LaminaError {
  return new LaminaError(Code.InvalidArgument, `${what} ${JSON.stringify(value.slice(0, 200))}: ${why}`, {
    subject: what,
  });
}

/** @throws LaminaError InvalidArgument */
export function checkIdentifier(what: string, id: string): void {
  if (id.length > IDENTIFIER_LENGTH) throw invalid(what, id, `longer than ${IDENTIFIER_LENGTH} characters`);
  if (!IDENTIFIER.test(id)) throw invalid(what, id, 'letters and digits, with single ".", "_" or "-" between them');
}

/** @throws LaminaError InvalidArgument */
export function checkName(what: string, name: string): void {
  if (name === '') throw invalid(what, name, 'empty');
  if (name.length > NAME_LENGTH) throw invalid(what, name, `longer than ${NAME_LENGTH} characters`);
  if (name.includes('\0')) throw invalid(what, name, 'contains a zero byte');
  if (!name.isWellFormed()) throw invalid(what, name, 'is no valid Unicode');
}

/** A digest in its parts. The hexadecimal part is a safe name of a file. */
export interface Digest {
  readonly algorithm: string;
  readonly hex: string;
}

/** @throws LaminaError InvalidArgument */
export function parseDigest(digest: string): Digest {
  const at = digest.indexOf(':');
  const algorithm = digest.slice(0, Math.max(0, at));
  const hex = digest.slice(at + 1);
  if (HEX_LENGTH.get(algorithm) !== hex.length || !/^[0-9a-f]*$/.test(hex)) {
    throw invalid('digest', digest, `ALGORITHM:HEX is needed, with one of ${[...HEX_LENGTH.keys()].join(', ')}`);
  }
  return { algorithm, hex };
}

/** True for a name of a file that can be a digest's of this algorithm. */
export function isHexOf(algorithm: string, name: string): boolean {
  return HEX_LENGTH.get(algorithm) === name.length && /^[0-9a-f]*$/.test(name);
}

/** @throws LaminaError InvalidArgument */
export function checkLabels(labels: Labels): void {
  for (const [key, value] of Object.entries(labels)) {
    if (typeof value !== 'string') throw invalid('label', key, 'its value is no text');
    const length = Buffer.byteLength(key) + Buffer.byteLength(value);
    if (length > LABEL_LENGTH)
      throw invalid('label', key, `${length} bytes with its value, ${LABEL_LENGTH} are allowed`);
    if (!key.isWellFormed() || !value.isWellFormed()) throw invalid('label', key, 'no valid Unicode');
  }
}

/** The name of a snapshotter, which is one of a directory too. */
export function checkSnapshotter(name: string): void {
  checkIdentifier('snapshotter', name);
}

/**
 * By which a snapshotter names its directory: nothing that leads elsewhere.
 * @throws LaminaError InvalidArgument
 */
export function checkBackend(name: string): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$/.test(name)) {
    throw invalid('backend', name, 'up to 255 letters, digits, ".", "_" and "-", the first a letter or digit');
  }
}

/**
 * Checks the type of a lease's resource (containerd core/metadata/leases.go, parseLeaseResource).
 */
export function checkLeaseResource({ id, type }: LeaseResource): void {
  const [first = '', second, ...more] = type.split('/');
  if (!['content', 'ingests', 'images', 'snapshots'].includes(first)) {
    throw new LaminaError(Code.Unimplemented, `resource type ${JSON.stringify(type)}: not known`, { subject: type });
  }
  const isDeep = first === 'snapshots';
  if (more.length > 0 || (isDeep ? second === undefined || second === '' : second !== undefined)) {
    throw invalid('resource type', type, isDeep ? 'snapshots/SNAPSHOTTER is needed' : 'nothing may follow');
  }
  if (first === 'content') parseDigest(id);
  else checkName('resource', id);
}

/** The name of an ingest's directory. Any ref gives a safe one. */
export function ingestFolder(namespace: string, ref: string): string {
  return createHash('sha256').update(`${namespace}/${ref}`).digest('hex');
}

/** `SNAPSHOTTER/NAME` in its parts. @throws LaminaError InvalidArgument */
export function splitSnapshotKey(key: string): readonly [snapshotter: string, name: string] {
  const at = key.indexOf('/');
  if (at < 1 || at === key.length - 1) throw invalid('snapshot', key, 'SNAPSHOTTER/NAME is needed');
  return [key.slice(0, at), key.slice(at + 1)];
}
