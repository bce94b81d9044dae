/** Collectors of resources that live outside the metadata: mounts, streams, cgroups. The contract is containerd's. */
import type { Resource } from './resource.js';

export interface Collector {
  /** Of its resources; at least `PLUGIN_TYPES_FROM`. */
  readonly type: number;
  /** `stream` lets labels `containerd.io/gc.ref.stream` name its resources; undefined when none can. */
  readonly referenceLabel: string | undefined;
  /**
   * Types that its resources may refer to. While the collector fails, nothing of these is removed,
   * because what keeps it may be unknown.
   */
  readonly refersTo: readonly number[];
  /** Freezes its view until `finish` or `cancel`. */
  start(): Promise<Collection>;
}

/** One round of a collector. All but `finish` must be fast: writers of the metadata wait meanwhile. */
export interface Collection {
  all(): Iterable<Resource>;
  /** Those in use; leased ones may be left out, as the lease decides about them. */
  active(namespace: string): Iterable<Resource>;
  leased(namespace: string, lease: string): Iterable<Resource>;
  /** What an active resource is kept by: pairs of parent and child. */
  backReferences?(namespace: string): Iterable<readonly [parent: Resource, child: Resource]>;
  /** What one of its resources keeps. */
  references?(resource: Resource): Iterable<Resource>;
  /** Notes that a resource is to go; the work belongs into `finish`. */
  remove(resource: Resource): void;
  /** The round failed: what was noted is forgotten. */
  cancel(): Promise<void>;
  /** Removes what was noted. */
  finish(): Promise<void>;
}
