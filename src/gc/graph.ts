/**
 * The graph of what refers to what, and the marking of what can be reached.
 *
 * Resources are interned: marking works on numbers in typed arrays, 12 bytes for an edge and 9 for a
 * node. Over strings the same marking takes some sixty times as long.
 */
import { FLAT, RESOURCE_MAX, type Resource } from './resource.js';

/** Why an edge or a root is there, for proofs: `label containerd.io/gc.ref.content.l.0`, `parent`. */
export type Origin = string;

/** One step of a proof: what is kept, and by which edge of the step before. */
export interface Step {
  readonly resource: Resource;
  readonly origin: Origin;
}

/** Collects nodes, edges and roots, and is then read as a `Graph`. */
export class GraphBuilder {
  readonly #ids = new Map<string, number>();
  readonly #resources: Resource[] = [];
  readonly #origins = new Map<Origin, number>();
  readonly #from = new Numbers();
  readonly #to = new Numbers();
  readonly #edgeOrigins = new Numbers();
  readonly #roots = new Numbers();
  readonly #rootOrigins = new Numbers();

  /** The number of a resource, which is made known by it. */
  intern(type: number, namespace: string, key: string): number {
    const name = `${type}\0${namespace}\0${key}`;
    const known = this.#ids.get(name);
    if (known !== undefined) return known;
    const id = this.#resources.length;
    this.#resources.push({ type, namespace, key });
    this.#ids.set(name, id);
    return id;
  }

  addEdge(from: number, to: number, origin: Origin): void {
    this.#from.push(from);
    this.#to.push(to);
    this.#edgeOrigins.push(this.#originId(origin));
  }

  addRoot(id: number, origin: Origin): void {
    this.#roots.push(id);
    this.#rootOrigins.push(this.#originId(origin));
  }

  /** The graph as it is now. The builder is not to be used any more. */
  build(): Graph {
    const count = this.#resources.length;
    const from = this.#from.values;
    const to = this.#to.values;
    const origins = this.#edgeOrigins.values;
    const offsets = new Int32Array(count + 1);
    for (const id of from) offsets[id + 1] = (offsets[id + 1] ?? 0) + 1;
    for (let id = 0; id < count; id += 1) offsets[id + 1] = (offsets[id + 1] ?? 0) + (offsets[id] ?? 0);
    const next = offsets.slice(0, count);
    const targets = new Int32Array(from.length);
    const edgeOrigins = new Int32Array(from.length);
    for (let edge = 0; edge < from.length; edge += 1) {
      const source = from[edge] ?? 0;
      const at = next[source] ?? 0;
      next[source] = at + 1;
      targets[at] = to[edge] ?? 0;
      edgeOrigins[at] = origins[edge] ?? 0;
    }
    const plain = this.#plainIds();
    return new Graph({
      resources: this.#resources,
      ids: this.#ids,
      originNames: [...this.#origins.keys()],
      offsets,
      targets,
      edgeOrigins,
      roots: this.#roots.values,
      rootOrigins: this.#rootOrigins.values,
      plain,
    });
  }

  /** flat node → the node without the flag; flat nodes of what does not exist get one too. */
  #plainIds(): ReadonlyMap<number, number> {
    const plain = new Map<number, number>();
    this.#resources.forEach(({ type, namespace, key }, id) => {
      if ((type & FLAT) === 0) return;
      const own = this.#ids.get(`${type & RESOURCE_MAX}\0${namespace}\0${key}`);
      if (own !== undefined) plain.set(id, own);
    });
    return plain;
  }

  #originId(origin: Origin): number {
    const known = this.#origins.get(origin);
    if (known !== undefined) return known;
    this.#origins.set(origin, this.#origins.size);
    return this.#origins.size - 1;
  }
}

interface GraphData {
  readonly resources: readonly Resource[];
  readonly ids: ReadonlyMap<string, number>;
  readonly originNames: readonly Origin[];
  /** node → where its edges begin. */
  readonly offsets: Int32Array;
  readonly targets: Int32Array;
  readonly edgeOrigins: Int32Array;
  readonly roots: Int32Array;
  readonly rootOrigins: Int32Array;
  readonly plain: ReadonlyMap<number, number>;
}

export class Graph {
  readonly #data: GraphData;

  constructor(data: GraphData) {
    this.#data = data;
  }

  get nodeCount(): number {
    return this.#data.resources.length;
  }

  get edgeCount(): number {
    return this.#data.targets.length;
  }

  resource(id: number): Resource {
    const found = this.#data.resources[id];
    if (found === undefined) throw new RangeError(`no node ${id}`);
    return found;
  }

  /** The number of a resource; undefined when nothing in this graph names it. */
  find({ type, namespace, key }: Resource): number | undefined {
    return this.#data.ids.get(`${type}\0${namespace}\0${key}`);
  }

  /** The edges that lead to a node, in no order. Reads every edge. */
  referrers(id: number): Step[] {
    const { offsets, targets, edgeOrigins } = this.#data;
    const found: Step[] = [];
    for (let from = 0; from < this.nodeCount; from += 1) {
      const end = offsets[from + 1] ?? 0;
      for (let edge = offsets[from] ?? 0; edge < end; edge += 1) {
        if (targets[edge] !== id) continue;
        found.push({ resource: this.resource(from), origin: this.#origin(edgeOrigins[edge]) });
      }
    }
    return found;
  }

  /**
   * Marks what can be reached from the roots, breadth first, so that a proof is as short as it can be.
   * Time and memory grow with nodes and edges, never with depth.
   */
  mark(): Marking {
    const { offsets, targets, roots, plain } = this.#data;
    const queue = new Int32Array(this.nodeCount);
    /** 0: not reached; 1 + edge: reached by that edge; −1 − root: a root. */
    const reachedBy = new Int32Array(this.nodeCount);
    const from = new Int32Array(this.nodeCount);
    let length = 0;
    roots.forEach((id, index) => {
      if (reachedBy[id] !== 0) return;
      reachedBy[id] = -1 - index;
      queue[length++] = id;
    });
    for (let at = 0; at < length; at += 1) {
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
    // What a flat lease keeps is kept, although nothing was followed from there.
    const flatOf = new Map<number, number>();
    for (const [flat, own] of plain) if (reachedBy[flat] !== 0 && reachedBy[own] === 0) flatOf.set(own, flat);
    return new Marking(this, { reachedBy, from, flatOf, steps: (edge) => this.#origin(this.#data.edgeOrigins[edge]) });
  }

  /** @internal */
  rootOrigin(index: number): Origin {
    return this.#origin(this.#data.rootOrigins[index]);
  }

  #origin(index: number | undefined): Origin {
    return this.#data.originNames[index ?? -1] ?? '';
  }
}

interface MarkingData {
  readonly reachedBy: Int32Array;
  readonly from: Int32Array;
  readonly flatOf: ReadonlyMap<number, number>;
  readonly steps: (edge: number) => Origin;
}

/** What was reached, and how. */
export class Marking {
  readonly #graph: Graph;
  readonly #data: MarkingData;

  constructor(graph: Graph, data: MarkingData) {
    this.#graph = graph;
    this.#data = data;
  }

  isReached(id: number): boolean {
    return this.#data.reachedBy[id] !== 0 || this.#data.flatOf.has(id);
  }

  isKept(resource: Resource): boolean {
    const id = this.#graph.find(resource);
    return id !== undefined && this.isReached(id);
  }

  /** The way from a root to a resource, the root first; undefined when nothing keeps it. */
  proof(resource: Resource): Step[] | undefined {
    const found = this.#graph.find(resource);
    if (found === undefined || !this.isReached(found)) return undefined;
    const { reachedBy, from, flatOf, steps } = this.#data;
    const proof: Step[] = [];
    let id = flatOf.get(found) ?? found;
    for (;;) {
      const by = reachedBy[id] ?? 0;
      const origin = by < 0 ? this.#graph.rootOrigin(-1 - by) : steps(by - 1);
      const { type, namespace, key } = this.#graph.resource(id);
      proof.push({ resource: { type: type & RESOURCE_MAX, namespace, key }, origin });
      if (by < 0) return proof.reverse();
      id = from[id] ?? 0;
    }
  }
}

/** An array of 32-bit numbers that grows. */
class Numbers {
  #values = new Int32Array(1024);
  #length = 0;

  get values(): Int32Array {
    return this.#values.subarray(0, this.#length);
  }

  push(value: number): void {
    if (this.#length === this.#values.length) {
      const larger = new Int32Array(this.#length * 2);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.#length++] = value;
  }
}
