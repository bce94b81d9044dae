/**
 * The graph of what refers to what, and the marking of what can be reached.
 *
 * Resources are interned: marking works on numbers in typed arrays, 12 bytes for an edge and as
 * many for a node. Over strings the same marking takes some sixty times as long.
 */
import { Marking } from './marking.js';
import { FLAT, RESOURCE_MAX, type Resource } from './resource.js';

/**
 * Why an edge or a root is there, for proofs: `label containerd.io/gc.ref.content.l.0`, `parent`.
 */
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
    return new Graph({
      resources: this.#resources,
      ids: this.#ids,
      originNames: [...this.#origins.keys()],
      offsets,
      targets,
      edgeOrigins,
      roots: this.#roots.values,
      rootOrigins: this.#rootOrigins.values,
      flats: this.#flatIds(),
    });
  }

  /** Node → its flat one. */
  #flatIds(): ReadonlyMap<number, number> {
    const flats = new Map<number, number>();
    this.#resources.forEach(({ type, namespace, key }, id) => {
      if ((type & FLAT) === 0) return;
      const own = this.#ids.get(`${type & RESOURCE_MAX}\0${namespace}\0${key}`);
      if (own !== undefined) flats.set(own, id);
    });
    return flats;
  }

  #originId(origin: Origin): number {
    const known = this.#origins.get(origin);
    if (known !== undefined) return known;
    this.#origins.set(origin, this.#origins.size);
    return this.#origins.size - 1;
  }
}

/** @internal */
export interface GraphData {
  readonly resources: readonly Resource[];
  readonly ids: ReadonlyMap<string, number>;
  readonly originNames: readonly Origin[];
  /** node → where its edges begin. */
  readonly offsets: Int32Array;
  readonly targets: Int32Array;
  readonly edgeOrigins: Int32Array;
  readonly roots: Int32Array;
  readonly rootOrigins: Int32Array;
  /** Node → its flat one. */
  readonly flats: ReadonlyMap<number, number>;
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

  /** The roots, each once, in the order in which they were found. */
  rootIds(): number[] {
    return [...new Set(this.#data.roots)];
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

  /** What can be reached from the roots. */
  mark(): Marking {
    return new Marking(this.#data);
  }

  /** Where an edge of a node leads, the first being 0; undefined behind the last one. */
  target(id: number, edge: number): number | undefined {
    const { offsets, targets } = this.#data;
    const at = (offsets[id] ?? 0) + edge;
    return at < (offsets[id + 1] ?? 0) ? targets[at] : undefined;
  }

  /** Why there is this edge, for proofs. */
  edgeOrigin(id: number, edge: number): Origin {
    return this.#origin(this.#data.edgeOrigins[(this.#data.offsets[id] ?? 0) + edge]);
  }

  /**
   * The node without the flag of a flat one; undefined for others, and when nothing else names it.
   */
  plain(id: number): number | undefined {
    const { type, namespace, key } = this.resource(id);
    return (type & FLAT) === 0 ? undefined : this.find({ type: type & RESOURCE_MAX, namespace, key });
  }

  #origin(index: number | undefined): Origin {
    return this.#data.originNames[index ?? -1] ?? '';
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
