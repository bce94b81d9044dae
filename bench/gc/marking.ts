/**
 * How long marking takes and what it needs, at sizes up to a million nodes; each in a process of
 * its own.
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { GraphBuilder, ResourceType } from '../../src/gc/index.js';
import type { GcRow } from '../gc-row.js';

const SIZES = [10_000, 100_000, 1_000_000];
const EDGES_PER_NODE = 3;
/** Of these the median counts. */
const RUNS = 5;

interface Measured {
  readonly markMs: number;
  /** What the process grew by while it marked. */
  readonly megabytes: number;
  readonly reached: number;
}

export function markingRows(): GcRow[] {
  const found = SIZES.map((nodes) => {
    const text = execFileSync(process.execPath, ['--expose-gc', fileURLToPath(import.meta.url), `${nodes}`]);
    return { nodes, measured: JSON.parse(text.toString()) as Measured };
  });
  const first = found[0]?.measured.markMs ?? 0;
  return found.flatMap(({ nodes, measured: { markMs, megabytes, reached } }): GcRow[] => {
    const isLargest = nodes === 1_000_000;
    const what = `mark ${nodes.toLocaleString('en')} nodes, ${(EDGES_PER_NODE * nodes).toLocaleString('en')} edges`;
    const growth = (markMs / first / (nodes / (SIZES[0] ?? 1))).toFixed(2);
    return [
      {
        title: what,
        value: markMs,
        unit: 'ms',
        ...(isLargest ? { target: 500 } : {}),
        note: `${reached} reached; per node ${growth} × the smallest`,
      },
      {
        title: `${what}: memory beside the graph`,
        value: megabytes,
        unit: 'MB',
        ...(isLargest ? { target: 100 } : {}),
      },
    ];
  });
}

/** A graph of random edges, from a seed. */
function measure(nodes: number): Measured {
  const builder = new GraphBuilder();
  let state = 42;
  const random = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    // The low bits of such a sequence repeat early.
    return Math.floor((state / 2 ** 32) * nodes);
  };
  for (let id = 0; id < nodes; id += 1) builder.intern(ResourceType.Content, 'bench', `${id}`);
  for (let edge = 0; edge < EDGES_PER_NODE * nodes; edge += 1) builder.addEdge(random(), random(), 'edge');
  for (let root = 0; root < nodes / 1_000; root += 1) builder.addRoot(random(), 'root');
  const graph = builder.build();
  globalThis.gc?.();
  const before = process.memoryUsage();
  const times: number[] = [];
  let reached = 0;
  let megabytes = 0;
  for (let run = 0; run < RUNS; run += 1) {
    const begin = performance.now();
    const marking = graph.mark();
    times.push(performance.now() - begin);
    reached = marking.reachedCount;
    if (run > 0) continue;
    const after = process.memoryUsage();
    // Typed arrays lie outside of the heap, and their pages are resident once they were written.
    megabytes = (after.arrayBuffers - before.arrayBuffers + after.heapUsed - before.heapUsed) / 1e6;
  }
  times.sort((a, b) => a - b);
  return { markMs: times[RUNS >> 1] ?? 0, megabytes, reached };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.stdout.write(JSON.stringify(measure(Number(process.argv[2]))));
}
