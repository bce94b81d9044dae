/**
 * What users call a thing: `content/sha256:…`, `4bc6`, `image/NAME`, `snapshot/SNAPSHOTTER/NAME`,
 * `lease/ID`.
 */
import { Code, LaminaError } from '../base/index.js';
import { ResourceType } from '../gc/index.js';

const TYPES: ReadonlyMap<string, number> = new Map([
  ['content', ResourceType.Content],
  ['image', ResourceType.Image],
  ['snapshot', ResourceType.Snapshot],
  ['lease', ResourceType.Lease],
  ['ingest', ResourceType.Ingest],
  ['container', ResourceType.Container],
]);
const DIGEST = /^(?:(sha256|sha384|sha512):)?([0-9a-f]*)$/;
const HEX_LENGTH: Readonly<Record<string, number>> = { sha256: 64, sha384: 96, sha512: 128 };
/** A shorter beginning is more likely a slip than meant. */
const SHORTEST_PREFIX = 2;
/** Of those that are named when it is ambiguous. */
const MOST_NAMED = 5;

export interface ParsedKey {
  readonly type: number;
  /** As in lamina/gc; of a digest perhaps the beginning only. */
  readonly key: string;
  /** It has to be looked for among digests. */
  readonly isBeginning: boolean;
}

/** @throws LaminaError InvalidArgument that lists what a key can be */
export function parseKey(text: string): ParsedKey {
  const slash = text.indexOf('/');
  const type = slash < 0 ? undefined : TYPES.get(text.slice(0, slash));
  const key = text.slice(slash + 1);
  if (type === undefined) {
    const digest = parseDigestKey(text);
    if (digest !== undefined) return digest;
  } else if (type === ResourceType.Content) {
    const digest = parseDigestKey(key);
    if (digest !== undefined) return digest;
  } else if (type === ResourceType.Snapshot) {
    if (/^[^/]+\/./s.test(key)) return { type, key, isBeginning: false };
  } else if (key !== '') return { type, key, isBeginning: false };
  throw new LaminaError(
    Code.InvalidArgument,
    `${JSON.stringify(text)} names nothing: expected content/DIGEST, image/NAME, snapshot/SNAPSHOTTER/NAME, lease/ID, ingest/REF, container/ID, or a digest or its beginning`,
    { subject: text },
  );
}

/** A digest, or at least two digits of its beginning; undefined for anything else. */
function parseDigestKey(text: string): ParsedKey | undefined {
  const [, algorithm, hex = ''] = DIGEST.exec(text) ?? [];
  if (hex.length < SHORTEST_PREFIX) return undefined;
  const longest = HEX_LENGTH[algorithm ?? 'sha512'] ?? 0;
  if (hex.length > longest) return undefined;
  // Sixty-four digits are a whole digest: that of another algorithm is never meant by its half.
  if (algorithm === undefined && hex.length === HEX_LENGTH['sha256']) return whole(`sha256:${hex}`);
  return algorithm !== undefined && hex.length === longest
    ? whole(text)
    : { type: ResourceType.Content, key: text, isBeginning: true };
}

function whole(key: string): ParsedKey {
  return { type: ResourceType.Content, key, isBeginning: false };
}

/**
 * The one digest that begins so; with the name of its algorithm or without.
 * @throws LaminaError NotFound; FailedPrecondition that names some of those that begin so
 */
export function findDigest(beginning: string, namespace: string, digests: Iterable<string>): string {
  const isWithAlgorithm = beginning.includes(':');
  const found = new Set<string>();
  for (const digest of digests) {
    if ((isWithAlgorithm ? digest : digest.slice(digest.indexOf(':') + 1)).startsWith(beginning)) found.add(digest);
  }
  const [first] = found;
  if (first !== undefined && found.size === 1) return first;
  if (first === undefined) {
    throw new LaminaError(Code.NotFound, `content ${beginning} of ${namespace}: no digest begins so`, {
      subject: beginning,
    });
  }
  const named = [...found]
    .toSorted((a, b) => (a < b ? -1 : 1))
    .slice(0, MOST_NAMED)
    .join(', ');
  const more = found.size > MOST_NAMED ? ' and more' : '';
  throw new LaminaError(
    Code.FailedPrecondition,
    `content ${beginning} of ${namespace} is ambiguous: ${found.size} digests begin so (${named}${more}): give more of it`,
    { subject: beginning },
  );
}
