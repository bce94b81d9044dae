/**
 * Metadata that is asked about, from a store or from a containerd: `why`, `plan` and `df` need no
 * more.
 */
import { type Marking, type NamespaceMetadata, type Resource, ResourceType, type Scan, scan } from '../gc/index.js';
import { isGone } from '../sys/index.js';

export interface Facts {
  /** One consistent view, with the `bytes` of content and snapshots where they are known. */
  readonly namespaces: Iterable<NamespaceMetadata>;
  /** Milliseconds since the epoch. Default: the clock. */
  readonly now?: number;
}

export interface Marked {
  readonly scan: Scan;
  readonly marking: Marking;
}

/** What is kept, by facts alone: without collectors. */
export function markFacts({ namespaces, now = Date.now() }: Facts): Marked {
  const scanned = scan(namespaces, { now, hasEnded: isGone });
  return { scan: scanned, marking: scanned.graph.mark() };
}

/** Content is stored as it was transferred, mostly compressed; snapshots are unpacked. */
export type Form = 'compressed' | 'unpacked';

/**
 * What takes up space: a file or directory, by the nodes that stand for it. Blobs are shared by all
 * namespaces.
 */
export interface Unit {
  readonly form: Form;
  readonly bytes: number;
  readonly nodes: number[];
}

/** Every file and directory of the nodes that exist. */
export function unitsOf({ graph, isCandidate, bytes }: Scan): Unit[] {
  const units = new Map<string, Unit>();
  for (let id = 0; id < graph.nodeCount; id += 1) {
    if (!isCandidate(id)) continue;
    const resource = graph.resource(id);
    const name = unitName(resource);
    if (name === undefined) continue;
    const form = resource.type === ResourceType.Content ? 'compressed' : 'unpacked';
    const unit = units.get(name) ?? { form, bytes: bytes(id), nodes: [] };
    units.set(name, unit);
    unit.nodes.push(id);
  }
  return [...units.values()];
}

function unitName({ type, namespace, key }: Resource): string | undefined {
  if (type === ResourceType.Content) return key;
  return type === ResourceType.Snapshot ? `${namespace}\0${key}` : undefined;
}
