/**
 * What can be reached from the roots, how, and what is reached besides once there are further
 * roots.
 */
import type { GraphData, Origin, Step } from './graph.js';
import { RESOURCE_MAX, type Resource } from './resource.js';

/**
 * Marks breadth first, so that a proof is as short as it can be. Time and memory grow with nodes
 * and edges, never with depth.
 */
export class Marking {
  readonly #data: GraphData;
  /** 0: not reached; 1 + edge: reached by that edge; −1 − root: a root. */
  readonly #reachedBy: Int32Array;
  readonly #from: Int32Array;
  /** Nodes in the order in which they were reached. */
  readonly #queue: Int32Array;
  #length = 0;
  /** Of the roots that came after the graph was built. */
  readonly #lateOrigins: Origin[] = [];

  /** @internal */
  constructor(data: GraphData) {
    this.#data = data;
    const count = data.resources.length;
    this.#reachedBy = new Int32Array(count);
    this.#from = new Int32Array(count);
    this.#queue = new Int32Array(count);
    data.roots.forEach((id, index) => {
      this.#begin(id, index);
    });
    this.#follow(0);
  }

  /** How many nodes were reached, flat ones and those that do not exist included. */
  get reachedCount(): number {
    return this.#length;
  }

  /** What a flat lease keeps is reached too, although nothing was followed from there. */
  isReached(id: number): boolean {
    if (this.#reachedBy[id] !== 0) return true;
    const flat = this.#data.flats.get(id);
    return flat !== undefined && this.#reachedBy[flat] !== 0;
  }

  isKept(resource: Resource): boolean {
    const id = this.#find(resource);
    return id !== undefined && this.isReached(id);
  }

  /**
   * Marks from one root more. Nothing that was reached is given up.
   * @returns how many nodes it reached that nothing had
   */
  reach(id: number, origin: Origin): number {
    if (this.#reachedBy[id] !== 0) return 0;
    const before = this.#length;
    this.#lateOrigins.push(origin);
    this.#begin(id, this.#data.roots.length + this.#lateOrigins.length - 1);
    this.#follow(before);
    return this.#length - before;
  }

  /** The way from a root to a resource, the root first; undefined when nothing keeps it. */
  proof(resource: Resource): Step[] | undefined {
    const found = this.#find(resource);
    if (found === undefined || !this.isReached(found)) return undefined;
    const proof: Step[] = [];
    let id = this.#reachedBy[found] !== 0 ? found : (this.#data.flats.get(found) ?? found);
    for (;;) {
      const by = this.#reachedBy[id] ?? 0;
      const { type, namespace, key } = this.#data.resources[id] as Resource;
      proof.push({ resource: { type: type & RESOURCE_MAX, namespace, key }, origin: this.#origin(by) });
      if (by < 0) return proof.reverse();
      id = this.#from[id] ?? 0;
    }
  }

  #begin(id: number, root: number): void {
    if (this.#reachedBy[id] !== 0) return;
    this.#reachedBy[id] = -1 - root;
    this.#queue[this.#length++] = id;
  }

  #follow(begin: number): void {
    const { offsets, targets } = this.#data;
    const reachedBy = this.#reachedBy;
    const queue = this.#queue;
    const from = this.#from;
    let length = this.#length;
    for (let at = begin; at < length; at += 1) {
      const id = queue[at] as number;
      const end = offsets[id + 1] as number;
      for (let edge = offsets[id] as number; edge < end; edge += 1) {
        const target = targets[edge] as number;
        if (reachedBy[target] !== 0) continue;
        reachedBy[target] = 1 + edge;
        from[target] = id;
        queue[length++] = target;
      }
    }
    this.#length = length;
  }

  #origin(by: number): Origin {
    const { originNames, edgeOrigins, rootOrigins, roots } = this.#data;
    if (by > 0) return originNames[edgeOrigins[by - 1] ?? -1] ?? '';
    const root = -1 - by;
    if (root >= roots.length) return this.#lateOrigins[root - roots.length] ?? '';
    return originNames[rootOrigins[root] ?? -1] ?? '';
  }

  #find({ type, namespace, key }: Resource): number | undefined {
    return this.#data.ids.get(`${type}\0${namespace}\0${key}`);
  }
}
