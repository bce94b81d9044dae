/** Populations for the collector's tests: short to write, and what survives as short to read. */
import type {
  BlobMetadata,
  ContainerMetadata,
  ImageMetadata,
  IngestMetadata,
  LeaseMetadata,
  NamespaceMetadata,
  SandboxMetadata,
  SnapshotMetadata,
} from '../../../src/gc/index.js';
import { type ScanOptions, scan, typeName } from '../../../src/gc/index.js';

export const NOW = Date.parse('2026-06-01T12:00:00Z');
export const PAST = '2026-06-01T11:59:59Z';
export const FUTURE = '2026-06-01T12:00:01Z';

type Labels = Record<string, string>;

/** Labels without their common prefix: `{ root: '', 'ref.content': 'a' }`. */
export function gc(labels: Labels): Labels {
  return Object.fromEntries(Object.entries(labels).map(([name, value]) => [`containerd.io/gc.${name}`, value]));
}

export function namespace(name: string, parts: Partial<Omit<NamespaceMetadata, 'name'>>): NamespaceMetadata {
  return {
    name,
    leases: [],
    images: [],
    content: [],
    ingests: [],
    snapshots: [],
    containers: [],
    sandboxes: [],
    ...parts,
  };
}

export const blob = (digest: string, labels: Labels = {}): BlobMetadata => ({ digest, labels: gc(labels) });
export const image = (name: string, target: string, labels: Labels = {}): ImageMetadata => ({
  name,
  target,
  labels: gc(labels),
});
export const snapshot = (key: string, parent?: string, labels: Labels = {}): SnapshotMetadata => ({
  key,
  parent,
  labels: gc(labels),
});
export const container = (id: string, of?: string, labels: Labels = {}): ContainerMetadata => ({
  id,
  snapshot: of,
  labels: gc(labels),
});
export const sandbox = (id: string, labels: Labels = {}): SandboxMetadata => ({ id, labels: gc(labels) });
export const ingest = (ref: string, expireAt?: number, expected?: string): IngestMetadata => ({
  ref,
  expireAt,
  expected,
});
export const lease = (
  id: string,
  parts: Partial<Omit<LeaseMetadata, 'id'>> & { labels?: Labels } = {},
): LeaseMetadata => ({
  id,
  content: [],
  snapshots: [],
  ingests: [],
  images: [],
  ...parts,
  labels: gc(parts.labels ?? {}),
});

/** What survives a collection: `content a`, or `ns2/content a` outside `default`; sorted. */
export function survivors(namespaces: readonly NamespaceMetadata[], options: Partial<ScanOptions> = {}): string[] {
  const { graph, candidates } = scan(namespaces, { now: NOW, ...options });
  const marking = graph.mark();
  return candidates
    .filter((resource) => marking.isKept(resource))
    .map(({ type, namespace: of, key }) => `${of === 'default' ? '' : `${of}/`}${typeName(type)} ${key}`)
    .sort();
}
