/** Who uses how much: by owner, what only that one keeps, and what it shares. */
import { RESOURCE_MAX, type Resource, typeName } from '../gc/index.js';
import { type Marked, type Unit, unitsOf } from './facts.js';

export interface OwnerUsage {
  /** A root: an image, a container, a lease; or content and snapshots that are roots by a label. */
  readonly owner: Resource;
  /** Freed if this owner alone went. */
  readonly unique: number;
  /** Kept by others too. */
  readonly shared: number;
}

export interface DiskUsage {
  /** The largest first. */
  readonly owners: readonly OwnerUsage[];
  /** Of everything, each file and directory counted once. */
  readonly total: number;
  /** Of what several owners keep. */
  readonly shared: number;
  /** What the next collection moves into the trash. */
  readonly reclaimable: number;
  /** What lies there. */
  readonly trash: number;
}

/** @param trash bytes in the trash, where there is one */
export function diskUsage({ scan, marking }: Marked, trash = 0): DiskUsage {
  const { graph } = scan;
  const units = unitsOf(scan);
  const unitOf = new Map<number, number>();
  units.forEach(({ nodes }, index) => {
    for (const id of nodes) unitOf.set(id, index);
  });
  /** 0: no owner keeps it; 1: one does; 2: several. */
  const keepers = new Uint8Array(units.length);
  const seenNode = new Int32Array(graph.nodeCount);
  const seenUnit = new Int32Array(units.length);
  let pass = 0;
  /** Calls back for each file that a root leads to, once. */
  const each = (root: number, call: (unit: number) => void): void => {
    pass += 1;
    const stack = [root];
    seenNode[root] = pass;
    for (let id = stack.pop(); id !== undefined; id = stack.pop()) {
      for (const node of [id, graph.plain(id)]) {
        const unit = node === undefined ? undefined : unitOf.get(node);
        if (unit === undefined || seenUnit[unit] === pass) continue;
        seenUnit[unit] = pass;
        call(unit);
      }
      for (let edge = 0, to = graph.target(id, 0); to !== undefined; edge += 1, to = graph.target(id, edge)) {
        if (seenNode[to] === pass) continue;
        seenNode[to] = pass;
        stack.push(to);
      }
    }
  };
  const roots = graph.rootIds();
  for (const root of roots) {
    each(root, (unit) => {
      keepers[unit] = Math.min(2, (keepers[unit] ?? 0) + 1);
    });
  }
  const owners = roots.map((root): OwnerUsage => {
    const sum = { unique: 0, shared: 0 };
    each(root, (unit) => {
      sum[keepers[unit] === 1 ? 'unique' : 'shared'] += units[unit]?.bytes ?? 0;
    });
    const { type, namespace, key } = graph.resource(root);
    return { owner: { type: type & RESOURCE_MAX, namespace, key }, ...sum };
  });
  owners.sort((a, b) => b.unique + b.shared - a.unique - a.shared || compare(a.owner, b.owner));
  const sumOf = (fits: (unit: Unit, index: number) => boolean): number =>
    units.reduce((sum, unit, index) => sum + (fits(unit, index) ? unit.bytes : 0), 0);
  return {
    owners,
    total: sumOf(() => true),
    shared: sumOf((_, index) => keepers[index] === 2),
    reclaimable: sumOf(({ nodes }) => nodes.every((id) => !marking.isReached(id))),
    trash,
  };
}

function compare(a: Resource, b: Resource): number {
  const [first, second] = [a, b].map(({ namespace, type, key }) => `${namespace}\0${typeName(type)}\0${key}`);
  return (first ?? '') < (second ?? '') ? -1 : 1;
}
