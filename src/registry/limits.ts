/** How much and how long: bounds for everything a registry decides. */

/** Bounds; every one of them has a default. Sizes in bytes, times in milliseconds. */
export interface Limits {
  /** One manifest or index. */
  readonly manifestBytes: number;
  /** One image configuration. */
  readonly configBytes: number;
  /** One page of tags or referrers, or the answer of a token server. */
  readonly jsonBytes: number;
  /** The part of a refusal's body that is read. */
  readonly errorBytes: number;
  /** All headers of one answer. */
  readonly headerBytes: number;
  /** One blob, by its descriptor. */
  readonly blobBytes: number;
  /** Layers of a manifest. */
  readonly layers: number;
  /** Manifests of an index, or referrers of a manifest. */
  readonly children: number;
  /** Indexes within each other. */
  readonly depth: number;
  /** Pages of one list. */
  readonly pages: number;
  /** Tags of one list. */
  readonly tags: number;
  readonly redirects: number;
  /** Connections to one host at a time. */
  readonly connections: number;
  /** To connect, TLS included. */
  readonly connectMs: number;
  /** From the request to the headers of the answer. */
  readonly responseMs: number;
  /** The same, once a blob was sent: the registry reads it again. */
  readonly uploadResponseMs: number;
  /** A whole answer that is kept in memory: manifests, lists, tokens. */
  readonly bodyMs: number;
  /** How long a read may wait in which less than `idleBytes` have come; and a write. */
  readonly idleMs: number;
  readonly idleBytes: number;
}

const MIB = 1024 * 1024;

export const DEFAULT_LIMITS: Limits = {
  manifestBytes: 4 * MIB,
  configBytes: 8 * MIB,
  jsonBytes: 4 * MIB,
  errorBytes: 16 * 1024,
  headerBytes: 64 * 1024,
  blobBytes: 256 * 1024 * MIB,
  layers: 500,
  children: 1000,
  depth: 3,
  pages: 1000,
  tags: 200_000,
  redirects: 5,
  connections: 16,
  connectMs: 30_000,
  responseMs: 60_000,
  uploadResponseMs: 300_000,
  bodyMs: 60_000,
  idleMs: 30_000,
  idleBytes: 16 * 1024,
};

/** When and how often a request is tried again. Times in milliseconds. */
export interface RetryPolicy {
  /** Tries in all, the first included; of a blob, since it went on last. */
  readonly attempts: number;
  /** No try begins later than this after the first, or, of a blob, after it went on last. */
  readonly totalMs: number;
  /** The first pause; each next one is twice as long. */
  readonly baseMs: number;
  /**
   * The longest pause, also when the registry asks for one by Retry-After: a longer one ends the
   * tries.
   */
  readonly maxPauseMs: number;
}

export const DEFAULT_RETRY: RetryPolicy = { attempts: 5, totalMs: 120_000, baseMs: 250, maxPauseMs: 30_000 };
