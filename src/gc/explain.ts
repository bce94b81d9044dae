/** Why a resource is kept, or what would have to be there for it to be kept. */

import type { ProcessIdentity } from '../sys/process-identity.js';
import type { Step } from './graph.js';
import type { Marking } from './marking.js';
import { RESOURCE_MAX, type Resource, ResourceType } from './resource.js';
import type { LapsedRoot, Scan } from './scan.js';

/** One thing that refers to a resource, or would, and is garbage itself. */
export interface LostReferrer extends Step {
  /** When it ceased to be a root; undefined when it never was one. */
  readonly expiredAt: number | undefined;
  /** The process that the lease was bound to, when that has ended. */
  readonly endedOwner: ProcessIdentity | undefined;
}

export type Explanation =
  | { readonly kind: 'kept'; readonly proof: readonly Step[] }
  /**
   * `lost`: the edges nearest to it that lead from garbage; with one of their ends kept, it would
   * be too.
   */
  | { readonly kind: 'garbage'; readonly lost: readonly LostReferrer[] }
  | { readonly kind: 'unknown' };

/**
 * Explains one resource. For garbage this reads every edge: a command asks it, not a collection.
 */
export function explain(scan: Scan, marking: Marking, resource: Resource): Explanation {
  const id = scan.graph.find(resource);
  const isCandidate = id !== undefined && scan.isCandidate(id);
  const proof = marking.proof(resource);
  // What is only named may be reached too. A container is never a candidate, and reached when it is
  // there.
  if (proof !== undefined && (isCandidate || resource.type === ResourceType.Container)) return { kind: 'kept', proof };
  if (id === undefined || !isCandidate) return { kind: 'unknown' };
  const lapsed = new Map(scan.lapsed.map((root) => [nameOf(root.resource), root] as const));
  const lost = scan.graph.referrers(id).map(({ resource: from, origin }): LostReferrer => {
    const plain = { ...from, type: from.type & RESOURCE_MAX };
    return { resource: plain, origin, ...endOf(lapsed.get(nameOf(plain))) };
  });
  const own = lapsed.get(nameOf(resource));
  if (own !== undefined) lost.unshift({ resource, origin: 'root', ...endOf(own) });
  return { kind: 'garbage', lost };
}

function endOf(root: LapsedRoot | undefined): Pick<LostReferrer, 'expiredAt' | 'endedOwner'> {
  return { expiredAt: root?.at, endedOwner: root?.owner };
}

function nameOf({ type, namespace, key }: Resource): string {
  return `${type}\0${namespace}\0${key}`;
}
