/** Collections while other processes write at full speed. */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type CollectionResult, collect, emptyTrash } from '../../../src/collect/index.js';
import { type Collector, ResourceType, scan } from '../../../src/gc/index.js';
import { LoadedStore } from '../../lib/store-load.js';
import { until } from '../../lib/wait.js';

const WRITER = fileURLToPath(new URL('writer.js', import.meta.url));
const BY = { command: 'test' };

interface Outcome {
  readonly rounds: number;
  readonly revived: number;
  readonly lost: readonly string[];
}

async function begin(root: string, namespace: string): Promise<ChildProcess> {
  const child = fork(WRITER, [root, namespace], { stdio: 'inherit' });
  await once(child, 'message');
  return child;
}

async function end(child: ChildProcess): Promise<Outcome> {
  const answer = once(child, 'message');
  child.send('stop');
  const [outcome] = (await answer) as [Outcome];
  if (child.exitCode === null) await once(child, 'exit');
  return outcome;
}

const removed = (results: readonly CollectionResult[]): number =>
  results.reduce((sum, { types }) => sum + Object.values(types).reduce((all, one) => all + one.removed, 0), 0);

/** A collector that says something else each time, fails or hangs. */
function unreliable(): Collector {
  let rounds = 0;
  const of = (key: string) => ({ type: 12, namespace: 'writer0', key });
  return {
    type: 12,
    referenceLabel: 'thing',
    refersTo: [],
    start: async () => {
      rounds += 1;
      if (rounds % 4 === 1) throw new Error('broken');
      await Promise.resolve();
      return {
        all: () => (rounds % 4 === 2 ? [{ type: ResourceType.Content, namespace: 'writer0', key: 'x' }] : [of('a')]),
        active: () => (rounds % 4 === 3 ? new Promise(() => undefined) : []),
        leased: () => [],
        remove: () => {
          throw new Error('busy');
        },
        cancel: () => undefined,
        finish: () => undefined,
      };
    },
  };
}

describe('collections beside writers', () => {
  test('nothing that three writers rely on is removed, and all that is garbage in the end is', async () => {
    using loaded = new LoadedStore();
    const writers = await Promise.all([0, 1, 2].map((number) => begin(loaded.root, `writer${number}`)));
    const results: CollectionResult[] = [];
    const collector = unreliable();
    await until('forty collections that removed enough', async () => {
      const trash = { windowMs: results.length % 2 === 0 ? 0 : 3_600_000 };
      const options = {
        by: BY,
        trash,
        batchMs: results.length % 3,
        gapMs: 1,
        collectors: [collector],
        limits: { callMs: 100 },
      };
      results.push(await collect(loaded.store, options));
      return results.length >= 40 && removed(results) > 300;
    });
    const outcomes = await Promise.all(writers.map(end));
    assert.deepEqual(
      outcomes.flatMap(({ lost }) => lost),
      [],
    );
    assert.ok(
      outcomes.every(({ rounds }) => rounds > 10),
      JSON.stringify(outcomes),
    );
    const failures = results.flatMap((result) => result.failures).filter(({ subject }) => !/type 12/.test(subject));
    assert.deepEqual(failures, []);
    await collect(loaded.store, { by: BY });
    const { graph, candidates } = loaded.store.read((view) => scan(view.metadata(), { now: Date.now() }));
    const marking = graph.mark();
    assert.deepEqual(
      candidates.filter((resource) => !marking.isKept(resource)),
      [],
    );
    await emptyTrash(loaded.store, { by: BY });
  });

  test('two collections at once do each other no harm', async () => {
    using loaded = new LoadedStore();
    const writer = await begin(loaded.root, 'writer0');
    let rounds = 0;
    await until('ten pairs of collections', async () => {
      const options = { by: BY, batchMs: 0, gapMs: 0 };
      await Promise.all([collect(loaded.store, options), collect(loaded.store, options)]);
      rounds += 1;
      return rounds >= 10;
    });
    const { lost } = await end(writer);
    assert.deepEqual(lost, []);
  });
});
