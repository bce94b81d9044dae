/**
 * From metadata to the graph: roots, edges, back references and conditions, as containerd's
 * collector has them (core/metadata/gc.go; the newest release is the measure).
 */
import type { ProcessIdentity } from '../sys/process-identity.js';
import type { Answers, Collector } from './collector.js';
import { Flags } from './flags.js';
import { type Graph, GraphBuilder, type Origin } from './graph.js';
import {
  EXPIRE_LABEL,
  expiryOf,
  FLAT_LABEL,
  type LabelCondition,
  LabelReader,
  type Labels,
  type ReadLabels,
} from './labels.js';
import type { ImageMetadata, IngestMetadata, LeaseMetadata, NamespaceMetadata } from './metadata.js';
import { FLAT, type Resource, ResourceType } from './resource.js';

/** A collector that takes part in a round. */
export interface RunningCollector {
  readonly collector: Pick<Collector, 'type' | 'referenceLabel'>;
  readonly collection: Answers;
}

export interface ScanOptions {
  /** Milliseconds since the epoch. */
  readonly now: number;
  readonly collectors?: readonly RunningCollector[];
  /** Whether the process that a lease is bound to has ended. Default: it has not. */
  readonly hasEnded?: (owner: ProcessIdentity) => boolean;
  /** Types that cannot be judged: each of them is a root, with the reason. */
  readonly unjudged?: ReadonlyMap<number, string>;
  /** Gets a line for each date that is none: the object then never expires. */
  readonly onInvalid?: (message: string) => void;
}

/**
 * A root that has expired, or has lost its owner: named in the explanation of what it would have
 * kept.
 */
export interface LapsedRoot {
  readonly resource: Resource;
  /** When it expired, in milliseconds since the epoch. */
  readonly at: number | undefined;
  readonly owner: ProcessIdentity | undefined;
}

export interface Scan {
  readonly graph: Graph;
  /** All that may be removed, kept or not. */
  readonly candidates: readonly Resource[];
  /** Whether a node of the graph may be removed, kept or not. */
  isCandidate(id: number): boolean;
  readonly lapsed: readonly LapsedRoot[];
  /** The size of a node's file or directory; 0 for what has none, or none that is known. */
  bytes(id: number): number;
  /** When the next root expires, in milliseconds since the epoch. */
  readonly nextExpiry: number | undefined;
}

/** Reads a consistent view of all namespaces. */
export function scan(namespaces: Iterable<NamespaceMetadata>, options: ScanOptions): Scan {
  const scanner = new Scanner(options);
  for (const namespace of namespaces) scanner.add(namespace);
  return scanner.finish();
}

/** Who waits for which snapshot's condition. */
interface Waiting {
  readonly holder: number;
  readonly condition: LabelCondition;
}

class Scanner {
  readonly #graph = new GraphBuilder();
  readonly #candidates = new Flags();
  readonly #bytes: number[] = [];
  #nextExpiry: number | undefined;
  readonly #lapsed: LapsedRoot[] = [];
  readonly #reader: LabelReader;
  readonly #options: ScanOptions;
  readonly #collectors: readonly RunningCollector[];
  /** snapshot → conditions of those who keep it if one holds. */
  readonly #waiting = new Map<number, Waiting[]>();
  /** snapshot → when it was used. */
  readonly #usedAt = new Map<number, readonly number[]>();

  constructor(options: ScanOptions) {
    this.#options = options;
    this.#collectors = options.collectors ?? [];
    this.#reader = new LabelReader(
      new Map(
        this.#collectors.flatMap(({ collector: { referenceLabel, type } }) =>
          referenceLabel === undefined ? [] : [[referenceLabel, type] as const],
        ),
      ),
    );
  }

  add(namespace: NamespaceMetadata): void {
    const { name } = namespace;
    // Only a flat lease leads to flat nodes, and only to those of its namespace.
    const hasFlat = namespace.leases.some(({ labels }) => labels[FLAT_LABEL] !== undefined);
    for (const lease of namespace.leases) this.#lease(name, lease);
    for (const image of namespace.images) this.#image(name, image, hasFlat);
    for (const ingest of namespace.ingests) this.#ingest(name, ingest);
    for (const { digest, labels, bytes } of namespace.content) {
      const id = this.#candidate(ResourceType.Content, name, digest);
      this.#size(id, bytes);
      const read = this.#reader.read(labels);
      this.#labels(name, id, read);
      if (read.root !== undefined) this.#graph.addRoot(id, `label ${read.root}`);
    }
    for (const { id: key, labels, snapshot } of namespace.containers) {
      const id = this.#graph.intern(ResourceType.Container, name, key);
      this.#graph.addRoot(id, 'container');
      if (snapshot !== undefined) this.#edge(id, ResourceType.Snapshot, name, snapshot, 'snapshot of the container');
      this.#labels(name, id, { ...this.#reader.read(labels), conditions: [] });
    }
    for (const { key, labels, parent, bytes } of namespace.snapshots) {
      const id = this.#candidate(ResourceType.Snapshot, name, key);
      this.#size(id, bytes);
      if (parent !== undefined) {
        this.#edge(id, ResourceType.Snapshot, name, parent, 'parent');
        if (hasFlat) {
          const flat = this.#graph.intern(ResourceType.Snapshot | FLAT, name, key);
          this.#edge(flat, ResourceType.Snapshot | FLAT, name, parent, 'parent');
        }
      }
      const read = this.#reader.read(labels);
      this.#labels(name, id, { ...read, conditions: [] });
      if (read.usedAt.length > 0) this.#usedAt.set(id, read.usedAt);
      if (read.root !== undefined) this.#graph.addRoot(id, `label ${read.root}`);
    }
    for (const { id: key, labels } of namespace.sandboxes) this.#sandbox(name, key, labels);
    for (const running of this.#collectors) this.#active(name, running);
  }

  finish(): Scan {
    for (const [snapshot, waiting] of this.#waiting) {
      for (const { holder, condition } of waiting) {
        const ages = (this.#usedAt.get(snapshot) ?? []).map((time) => this.#options.now - time);
        const { isYounger, ageMs, label } = condition;
        if (ages.some((age) => (isYounger ? age < ageMs : age > ageMs))) {
          this.#graph.addEdge(holder, snapshot, `label ${label}`);
        }
      }
    }
    for (const { collection } of this.#collectors) {
      for (const resource of collection.all()) {
        const id = this.#candidate(resource.type, resource.namespace, resource.key);
        for (const target of collection.references?.(resource) ?? []) {
          this.#edge(id, target.type, target.namespace, target.key, 'reference of the plug-in');
        }
      }
    }
    const graph = this.#graph.build();
    const candidates = this.#candidates;
    return {
      graph,
      get candidates() {
        return Array.from({ length: graph.nodeCount }, (_, id) => id)
          .filter((id) => candidates.has(id))
          .map((id) => graph.resource(id));
      },
      isCandidate: (id) => candidates.has(id),
      lapsed: this.#lapsed,
      bytes: (id) => this.#bytes[id] ?? 0,
      nextExpiry: this.#nextExpiry,
    };
  }

  #lease(namespace: string, lease: LeaseMetadata): void {
    const id = this.#candidate(ResourceType.Lease, namespace, lease.id);
    const flag = lease.labels[FLAT_LABEL] === undefined ? 0 : FLAT;
    const edges: (readonly [type: number, keys: readonly string[]])[] = [
      [ResourceType.Content | flag, lease.content],
      [ResourceType.Snapshot | flag, lease.snapshots],
      [ResourceType.Ingest, lease.ingests],
      [ResourceType.Image | flag, lease.images],
    ];
    for (const [type, keys] of edges) {
      for (const key of keys) this.#edge(id, type, namespace, key, `lease ${lease.id}`);
    }
    for (const { collection } of this.#collectors) {
      for (const { type, namespace: of, key } of collection.leased(namespace, lease.id)) {
        this.#edge(id, type, of, key, `lease ${lease.id}`);
      }
    }
    const { owner } = lease;
    if (owner !== undefined && this.#options.hasEnded?.(owner) === true) {
      this.#lapsed.push({ resource: { type: ResourceType.Lease, namespace, key: lease.id }, at: undefined, owner });
      return;
    }
    const until = this.#expiry('lease', lease.id, lease.labels);
    this.#rootUntil(id, { type: ResourceType.Lease, namespace, key: lease.id }, 'lease', until);
  }

  #image(namespace: string, { name, labels, target }: ImageMetadata, hasFlat: boolean): void {
    const id = this.#candidate(ResourceType.Image, namespace, name);
    this.#edge(id, ResourceType.Content, namespace, target, 'target of the image');
    if (hasFlat) {
      const flat = this.#graph.intern(ResourceType.Image | FLAT, namespace, name);
      this.#edge(flat, ResourceType.Content | FLAT, namespace, target, 'target of the image');
    }
    this.#labels(namespace, id, this.#reader.read(labels));
    const until = this.#expiry('image', name, labels);
    this.#rootUntil(id, { type: ResourceType.Image, namespace, key: name }, 'image', until);
  }

  #ingest(namespace: string, { ref, expected, expireAt }: IngestMetadata): void {
    const id = this.#candidate(ResourceType.Ingest, namespace, ref);
    if (expected !== undefined) this.#edge(id, ResourceType.Content, namespace, expected, 'expected by the ingest');
    if (expireAt === undefined) return;
    this.#rootUntil(id, { type: ResourceType.Ingest, namespace, key: ref }, 'ingest', expireAt);
  }

  /** Kept by nothing and removed by nothing here; what its labels name is kept. */
  #sandbox(namespace: string, id: string, labels: Labels): void {
    for (const { label, type, key } of this.#reader.read(labels).references) {
      this.#graph.addRoot(this.#graph.intern(type, namespace, key), `label ${label} of sandbox ${id}`);
    }
  }

  #active(namespace: string, { collection }: RunningCollector): void {
    for (const resource of collection.active(namespace)) {
      this.#graph.addRoot(this.#graph.intern(resource.type, resource.namespace, resource.key), 'in use');
    }
    for (const [parent, child] of collection.backReferences?.(namespace) ?? []) {
      const from = this.#graph.intern(parent.type, parent.namespace, parent.key);
      this.#edge(from, child.type, child.namespace, child.key, 'back reference of the plug-in');
    }
  }

  #labels(namespace: string, id: number, { references, backReferences, conditions }: ReadLabels): void {
    for (const { label, type, key } of references) this.#edge(id, type, namespace, key, `label ${label}`);
    for (const { label, type, key } of backReferences) {
      this.#graph.addEdge(this.#graph.intern(type, namespace, key), id, `label ${label}`);
    }
    for (const condition of conditions) {
      const snapshot = this.#graph.intern(condition.type, namespace, condition.key);
      const waiting = this.#waiting.get(snapshot) ?? [];
      this.#waiting.set(snapshot, waiting);
      waiting.push({ holder: id, condition });
    }
  }

  #rootUntil(id: number, resource: Resource, origin: Origin, expireAt: number | undefined): void {
    if (expireAt !== undefined && this.#options.now > expireAt) {
      this.#lapsed.push({ resource, at: expireAt, owner: undefined });
      return;
    }
    if (expireAt !== undefined) this.#nextExpiry = Math.min(this.#nextExpiry ?? expireAt, expireAt);
    const until = expireAt === undefined ? '' : ` until ${new Date(expireAt).toISOString()}`;
    this.#graph.addRoot(id, `${origin}${until}`);
  }

  #expiry(what: string, name: string, labels: Labels): number | undefined {
    const at = expiryOf(labels);
    const text = labels[EXPIRE_LABEL];
    if (at === undefined && text !== undefined) {
      this.#options.onInvalid?.(`${what} ${name}: "${text}" is no RFC 3339 time: it never expires`);
    }
    return at;
  }

  /** The array stays dense: ids rise by one. */
  #size(id: number, bytes = 0): void {
    while (this.#bytes.length <= id) this.#bytes.push(0);
    this.#bytes[id] = bytes;
  }

  #edge(from: number, type: number, namespace: string, key: string, origin: Origin): void {
    this.#graph.addEdge(from, this.#graph.intern(type, namespace, key), origin);
  }

  #candidate(type: number, namespace: string, key: string): number {
    const id = this.#graph.intern(type, namespace, key);
    this.#candidates.add(id);
    const why = this.#options.unjudged?.get(type);
    if (why !== undefined) this.#graph.addRoot(id, why);
    return id;
  }
}
