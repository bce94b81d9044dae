/**
 * A collection of a store of 10^5 objects, and how long a writer in another process waits
 * meanwhile.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { collect } from '../../src/collect/index.js';
import { scan } from '../../src/gc/index.js';
import { Store } from '../../src/store/index.js';
import type { GcRow } from '../gc-row.js';
import { loadSets, OBJECTS_PER_SET } from './population.js';

const SETS = 10_000;
const GARBAGE_SHARE = 0.1;
/** How long the writer runs alone, for comparison. */
const ALONE_MS = 5_000;
const SETTLE_MS = 500;

/** Milliseconds, ascending. */
type Waits = readonly number[];

const at = (waits: Waits, share: number): number =>
  waits[Math.min(waits.length - 1, Math.floor(waits.length * share))] ?? 0;

export async function collectionRows(folder: string): Promise<GcRow[]> {
  const root = mkdtempSync(join(folder, 'store-'));
  try {
    using store = Store.open({ root });
    loadSets(store, { count: SETS, garbage: SETS * GARBAGE_SHARE });
    const objects = SETS * OBJECTS_PER_SET - SETS * GARBAGE_SHARE * 2;
    const begin = performance.now();
    const { graph } = store.read((view) => scan(view.metadata(), { now: Date.now() }));
    const readMs = performance.now() - begin;
    const alone = await beside(root, async () => await new Promise((resolve) => setTimeout(resolve, ALONE_MS)));
    let ms = 0;
    let removed = 0;
    let pauses = { count: 0, longestMs: 0 };
    const waits = await beside(root, async () => {
      const start = performance.now();
      const result = await collect(store, { by: { command: 'bench' } });
      ms = performance.now() - start;
      pauses = result.pauses;
      removed = Object.values(result.types).reduce((sum, counts) => sum + counts.removed, 0);
    });
    const what = `${objects.toLocaleString('en')} objects`;
    return [
      {
        title: `read ${what} from the store`,
        value: readMs,
        unit: 'ms',
        note: `${graph.nodeCount} nodes, ${graph.edgeCount} edges`,
      },
      {
        title: `collection of ${what}, a writer beside it`,
        value: ms,
        unit: 'ms',
        note: `${removed} removed in ${pauses.count} transactions`,
      },
      {
        title: 'a writer in another process, alone: longest wait',
        value: alone.at(-1) ?? 0,
        unit: 'ms',
        note: `p99 ${at(alone, 0.99).toFixed(1)} ms of ${alone.length}`,
      },
      {
        title: 'a writer in another process, beside a collection: longest wait',
        value: waits.at(-1) ?? 0,
        unit: 'ms',
        target: 50,
        note: `p99 ${at(waits, 0.99).toFixed(1)} ms of ${waits.length}; containerd 2.3.4's pause: 768 ms`,
      },
      { title: 'metadata file', value: statSync(join(root, 'metadata.db')).size / 1e6, unit: 'MB' },
    ];
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** Runs work beside a writer. */
async function beside(root: string, work: () => Promise<unknown>): Promise<Waits> {
  const child: ChildProcess = fork(fileURLToPath(import.meta.url), [root]);
  await once(child, 'message');
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  await work();
  const answer = once(child, 'message');
  child.send('stop');
  const [waits] = (await answer) as [number[]];
  return waits.sort((a, b) => a - b);
}

/** The writer: one small durable change after the other. */
async function write(root: string): Promise<void> {
  using store = Store.open({ root });
  const waits: number[] = [];
  let isStopped = false;
  process.on('message', () => {
    isStopped = true;
  });
  process.send?.('ready');
  for (let number = 0; !isStopped; number += 1) {
    const begin = performance.now();
    store.write({ command: 'writer' }, (tx) => {
      tx.createLease('bench', { id: `lease${process.pid}-${number}` });
      if (number > 0) tx.deleteLease('bench', `lease${process.pid}-${number - 1}`);
    });
    waits.push(performance.now() - begin);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  process.send?.(waits, () => process.disconnect());
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await write(process.argv[2] ?? '');
