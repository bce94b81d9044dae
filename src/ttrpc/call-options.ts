import type { MetadataInit } from './metadata.js';

/** What a caller may say about one call. */
export interface CallOptions {
  /** Gives the call up. ttrpc cannot tell the server; a reply that comes later is dropped. */
  readonly signal?: AbortSignal;
  /**
   * After this many milliseconds the call fails with DeadlineExceeded; the server is told, too. No
   * limit by default.
   */
  readonly timeoutMs?: number;
  readonly metadata?: MetadataInit;
}
