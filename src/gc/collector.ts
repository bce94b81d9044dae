/**
 * Collectors of resources that live outside the metadata: mounts, streams, cgroups. The contract is
 * containerd's, with what it lacks: slow answers, identities, and removals one by one.
 */
import type { Resource } from './resource.js';

/** What a collector has. */
export interface Held extends Resource {
  /**
   * What tells it from another with the same key: an inode, a start time. Compared with `identify`
   * just before the removal; one that has changed is not removed.
   */
  readonly identity?: string | undefined;
}

/** An answer: at once, or bit by bit. Each waits for a deadline at most. */
export type Listing<T> = Iterable<T> | AsyncIterable<T> | Promise<Iterable<T>>;

export interface Collector {
  /** Of its resources; at least `PLUGIN_TYPES_FROM`. */
  readonly type: number;
  /**
   * `stream` lets labels `containerd.io/gc.ref.stream` name its resources; undefined when none can.
   */
  readonly referenceLabel: string | undefined;
  /**
   * Types that its resources may refer to. While the collector fails, nothing of these is removed,
   * because what keeps it may be unknown.
   */
  readonly refersTo: readonly number[];
  /** Freezes its view until `finish` or `cancel`. */
  start(signal: AbortSignal): Promise<Collection>;
}

/**
 * One round of a collector. Nothing is locked meanwhile. A call that throws, or is not over within
 * its deadline, ends the round for this collector.
 */
export interface Collection {
  all(): Listing<Held>;
  /** Those in use; leased ones may be left out, as the lease decides about them. */
  active(namespace: string): Listing<Resource>;
  leased(namespace: string, lease: string): Listing<Resource>;
  /** What an active resource is kept by: pairs of parent and child. */
  backReferences?(namespace: string): Listing<readonly [parent: Resource, child: Resource]>;
  /** What one of its resources keeps. */
  references?(resource: Resource): Listing<Resource>;
  /**
   * What has this key now; undefined when nothing does. Needed for resources with an `identity`.
   */
  identify?(resource: Resource): string | undefined | Promise<string | undefined>;
  /**
   * Removes one, or notes that `finish` is to. A failing one does not keep the next from removal.
   */
  remove(resource: Resource, signal: AbortSignal): void | Promise<void>;
  /** The round failed: what was noted is forgotten. */
  cancel(): void | Promise<void>;
  /** The round is over: what was noted is removed. */
  finish(signal: AbortSignal): void | Promise<void>;
}

/** What a collector has answered, read by `scan`. */
export interface Answers {
  all(): Iterable<Held>;
  active(namespace: string): Iterable<Resource>;
  leased(namespace: string, lease: string): Iterable<Resource>;
  backReferences?(namespace: string): Iterable<readonly [parent: Resource, child: Resource]>;
  references?(resource: Resource): Iterable<Resource>;
}
