/** Why a resource is kept, or what would have to be there for it to be kept. */
import type { Marking, Step } from './graph.js';
import { RESOURCE_MAX, type Resource } from './resource.js';
import type { LapsedRoot, Scan } from './scan.js';

/** One thing that refers to a resource, or would, and is garbage itself. */
export interface LostReferrer extends Step {
  /** When it ceased to be a root; undefined when it never was one. */
  readonly expiredAt: number | undefined;
}

export type Explanation =
  | { readonly kind: 'kept'; readonly proof: readonly Step[] }
  /** `lost`: the edges nearest to it that lead from garbage; with one of their ends kept, it would be too. */
  | { readonly kind: 'garbage'; readonly lost: readonly LostReferrer[] }
  | { readonly kind: 'unknown' };

/** Explains one resource. For garbage this reads every edge: a command asks it, not a collection. */
export function explain(scan: Scan, marking: Marking, resource: Resource): Explanation {
  const proof = marking.proof(resource);
  if (proof !== undefined) return { kind: 'kept', proof };
  const id = scan.graph.find(resource);
  if (id === undefined || !scan.candidates.some((candidate) => isSame(candidate, resource))) return { kind: 'unknown' };
  const expired = new Map(scan.lapsed.map((root) => [nameOf(root.resource), root] as const));
  const lost = scan.graph.referrers(id).map(({ resource: from, origin }): LostReferrer => {
    const plain = { ...from, type: from.type & RESOURCE_MAX };
    return { resource: plain, origin, expiredAt: expiredAt(expired, plain) };
  });
  const own = expiredAt(expired, resource);
  if (own !== undefined) lost.unshift({ resource, origin: 'root', expiredAt: own });
  return { kind: 'garbage', lost };
}

function expiredAt(expired: ReadonlyMap<string, LapsedRoot>, resource: Resource): number | undefined {
  return expired.get(nameOf(resource))?.at;
}

function nameOf({ type, namespace, key }: Resource): string {
  return `${type}\0${namespace}\0${key}`;
}

function isSame(a: Resource, b: Resource): boolean {
  return a.type === b.type && a.namespace === b.namespace && a.key === b.key;
}
