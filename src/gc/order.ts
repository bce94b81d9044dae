/**
 * The order in which garbage goes: what refers before what it refers to. Removal may then stop
 * after any group, and nothing that is left refers to what has gone.
 */
import type { Marking } from './marking.js';
import type { Scan } from './scan.js';

/**
 * Nodes that nothing reaches and that may be removed, in groups. A group is one node, or all nodes
 * of a cycle, which refer to each other and can only go together.
 *
 * Tarjan's algorithm, without recursion: it gives the groups that refer last.
 */
export function removalOrder({ graph, isCandidate }: Scan, marking: Marking): number[][] {
  const count = graph.nodeCount;
  /** 0: not seen; else 1 + its place in the order of visits. */
  const visited = new Int32Array(count);
  const lowest = new Int32Array(count);
  const isOnStack = new Uint8Array(count);
  /** Of the nodes on the path: which edge comes next. */
  const edgeOf = new Int32Array(count);
  const stack: number[] = [];
  const path: number[] = [];
  const groups: number[][] = [];
  let visits = 0;

  const enter = (id: number): void => {
    visits += 1;
    visited[id] = visits;
    lowest[id] = visits;
    stack.push(id);
    isOnStack[id] = 1;
    path.push(id);
  };
  const isLeft = (id: number): boolean => !marking.isReached(id);
  const leave = (id: number): void => {
    path.pop();
    const parent = path.at(-1);
    if (parent !== undefined) lowest[parent] = Math.min(lowest[parent] ?? 0, lowest[id] ?? 0);
    if (lowest[id] !== visited[id]) return;
    const group = stack.splice(stack.lastIndexOf(id));
    for (const member of group) isOnStack[member] = 0;
    const removable = group.filter((member) => isCandidate(member));
    if (removable.length > 0) groups.push(removable);
  };

  for (let root = 0; root < count; root += 1) {
    if (visited[root] !== 0 || !isLeft(root)) continue;
    enter(root);
    for (let id = path.at(-1); id !== undefined; id = path.at(-1)) {
      const edge = edgeOf[id] ?? 0;
      edgeOf[id] = edge + 1;
      // Behind its edges, a flat node leads to the one it stands for.
      const own = graph.target(id, edge);
      const target = own ?? (edge === 0 || graph.target(id, edge - 1) !== undefined ? graph.plain(id) : undefined);
      if (target === undefined) {
        leave(id);
      } else if (visited[target] === 0) {
        if (isLeft(target)) enter(target);
      } else if (isOnStack[target] === 1) {
        lowest[id] = Math.min(lowest[id] ?? 0, visited[target] ?? 0);
      }
    }
  }
  return groups.reverse();
}
