/** Why a piece of garbage is garbage, in a line: for plans, the trash and the journal. */
import { type LapsedRoot, type Marking, RESOURCE_MAX, type Resource, type Scan, typeName } from '../gc/index.js';

/** The longest way back through garbage that a reason names. */
const LONGEST_WAY = 8;

/** Gives the reason of a node that nothing reaches. Reads every edge once, and only of garbage. */
export function reasonsOf(scan: Scan, marking: Marking): (id: number) => string {
  const { graph } = scan;
  const lapsed = new Map<number, LapsedRoot>();
  for (const root of scan.lapsed) {
    const id = graph.find(root.resource);
    if (id !== undefined) lapsed.set(id, root);
  }
  /** 1 + a piece of garbage that refers to a node; 0: none does. */
  const referrer = new Int32Array(graph.nodeCount);
  const edges = new Int32Array(graph.nodeCount);
  for (let id = 0; id < graph.nodeCount; id += 1) {
    if (marking.isReached(id)) continue;
    for (let edge = 0, to = graph.target(id, 0); to !== undefined; edge += 1, to = graph.target(id, edge)) {
      if (to === id || referrer[to] !== 0) continue;
      referrer[to] = id + 1;
      edges[to] = edge;
    }
  }
  return (id) => {
    const own = lapsed.get(id);
    if (own !== undefined) return endOf(own);
    const way: string[] = [];
    let at = id;
    while (way.length < LONGEST_WAY) {
      const from = (referrer[at] ?? 0) - 1;
      if (from < 0) break;
      way.unshift(graph.edgeOrigin(from, edges[at] ?? 0));
      at = from;
      const root = lapsed.get(at);
      if (root !== undefined) return `kept only by ${nameOf(graph.resource(at))}: ${endOf(root)} (${way.join(', ')})`;
    }
    if (at === id) return 'nothing refers to it';
    return `kept only by ${nameOf(graph.resource(at))}, which nothing keeps (${way.join(', ')})`;
  };
}

/** `expired at …`; `its owner, process 12, has ended`. */
export function endOf({ at, owner }: Pick<LapsedRoot, 'at' | 'owner'>): string {
  if (owner !== undefined) return `its owner, process ${owner.pid}, has ended`;
  return at === undefined ? 'nothing keeps it' : `expired at ${new Date(at).toISOString()}`;
}

/** `image docker.io/library/alpine:3`: the namespace is the same as that of what is explained. */
export function nameOf({ type, key }: Resource): string {
  return `${typeName(type & RESOURCE_MAX)} ${key}`;
}
