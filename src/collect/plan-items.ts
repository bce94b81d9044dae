/** What a collection would remove, why, and what that frees. */
import { describeResource, type Resource, removalOrder, typeName } from '../gc/index.js';
import { type Form, type Marked, type Unit, unitsOf } from './facts.js';
import { reasonsOf } from './reasons.js';

export interface PlanItem {
  readonly resource: Resource;
  /** Size of its file or directory. */
  readonly bytes: number;
  /** What is freed when the whole plan is applied; 0 when another namespace keeps the same blob. */
  readonly unique: number;
  readonly reason: string;
}

export interface PlanBytes {
  /** Freed by the plan. */
  readonly unique: number;
  /** Also used by what is kept: not freed. */
  readonly shared: number;
}

export interface PlanItems {
  /** What refers comes before what it refers to. */
  readonly items: readonly PlanItem[];
  /** `content`, `snapshot`, … → how many, and the bytes. */
  readonly types: Readonly<Record<string, PlanBytes & { readonly count: number }>>;
  readonly bytes: Readonly<Record<Form, PlanBytes>>;
}

/**
 * All that nothing keeps. @param only leaves out the others, as a plan of a store does with what
 * collectors own
 */
export function planItems({ scan, marking }: Marked, only: (resource: Resource) => boolean = () => true): PlanItems {
  const reason = reasonsOf(scan, marking);
  const ids = removalOrder(scan, marking)
    .flat()
    .filter((id) => only(scan.graph.resource(id)));
  const isLeaving = new Set(ids);
  const unitOf = new Map<number, Unit>();
  for (const unit of unitsOf(scan)) for (const id of unit.nodes) unitOf.set(id, unit);
  const bytes = { compressed: { unique: 0, shared: 0 }, unpacked: { unique: 0, shared: 0 } };
  const types = new Map<string, { count: number; unique: number; shared: number }>();
  /** Counted once, with the first of its nodes. */
  const counted = new Set<Unit>();
  const items = ids.map((id): PlanItem => {
    const resource = scan.graph.resource(id);
    const unit = unitOf.get(id);
    const isFreed = unit?.nodes.every((node) => isLeaving.has(node)) === true;
    const isFirst = unit !== undefined && !counted.has(unit);
    if (unit !== undefined) counted.add(unit);
    const size = unit?.bytes ?? 0;
    const unique = isFreed && isFirst ? size : 0;
    const shared = unit !== undefined && !isFreed && isFirst ? size : 0;
    const type = types.get(typeName(resource.type)) ?? { count: 0, unique: 0, shared: 0 };
    types.set(typeName(resource.type), type);
    for (const sum of unit === undefined ? [type] : [type, bytes[unit.form]]) {
      sum.unique += unique;
      sum.shared += shared;
    }
    type.count += 1;
    return { resource, bytes: size, unique, reason: reason(id) };
  });
  return { items, types: Object.fromEntries(types), bytes };
}

/** `content sha256:… of default: expired at …`, one line each. */
export function planLines({ items, bytes }: PlanItems): string[] {
  const lines = items.map(({ resource, reason, bytes: size }) => {
    const what = size === 0 ? '' : `, ${size} bytes`;
    return `${describeResource(resource)}${what}: ${reason}`;
  });
  const { compressed, unpacked } = bytes;
  const shared = compressed.shared + unpacked.shared;
  lines.push(
    `${items.length} to remove; ${compressed.unique + unpacked.unique} bytes to free` +
      ` (${compressed.unique} of content, ${unpacked.unique} of snapshots)` +
      (shared === 0 ? '' : `; ${shared} bytes stay, as others use the same blobs`),
  );
  return lines;
}
