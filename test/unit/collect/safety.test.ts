/**
 * Collections of random populations, with writers between any two steps: nothing reachable is ever
 * removed.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Code, LaminaError } from '../../../src/base/index.js';
import { type CollectOptions, collect } from '../../../src/collect/index.js';
import { type NamespaceMetadata, RESOURCE_MAX, scan, typeName } from '../../../src/gc/index.js';
import { type ObjectName, resourceOf } from '../../../src/store/index.js';
import { blob, NOW, namespace, snapshot } from '../gc/kit.js';
import { FakeStore } from './fake-store.js';
import { apply, changes, populations, puts } from './population.js';

const OPTIONS: CollectOptions = {
  by: { command: 'test' },
  now: () => NOW,
  gapMs: 0,
  // One group a batch: writers come between any two removals.
  batchMs: 0,
  space: () => ({ size: 100, free: 100 }),
};

/** What nothing keeps, by a marking of everything. */
export function garbageOf(population: readonly NamespaceMetadata[]): string[] {
  const { graph, candidates } = scan(population, { now: NOW });
  const marking = graph.mark();
  return candidates
    .filter((resource) => !marking.isKept(resource))
    .map(({ type, namespace, key }) => `${typeName(type)} ${namespace}/${key}`)
    .sort();
}

/**
 * Collects what must not happen: that what is kept is removed, or garbage left that refers to what
 * is gone.
 */
function watch(store: FakeStore): string[] {
  const wrong: string[] = [];
  store.onRemoved = (before, removed) => {
    if (removed.length === 0) return;
    const { graph } = scan(before, { now: NOW });
    const marking = graph.mark();
    for (const object of removed) {
      const resource = resourceOf(object);
      const what = `${object.kind} ${object.key}`;
      if (resource === undefined || marking.isKept(resource)) wrong.push(`${what} is reachable, and was removed`);
      for (const { resource: from } of graph.referrers(graph.find(resource ?? never) ?? -1)) {
        const type = from.type & RESOURCE_MAX;
        const left: ObjectName = { ...object, kind: typeName(type) as ObjectName['kind'], key: from.key };
        // What a flat lease keeps may lose what its labels name.
        if (store.has(left) && !marking.isKept({ ...from, type }))
          wrong.push(`${from.key} refers to ${what}, which has gone`);
      }
    }
  };
  return wrong;
}

const never = { type: 0, namespace: '', key: '' };

describe('collections', () => {
  test('leave what is reachable and take all the rest; a second one takes nothing', async () => {
    await fc.assert(
      fc.asyncProperty(populations, async (population) => {
        const store = new FakeStore(population);
        const wrong = watch(store);
        const before = store.names();
        const garbage = garbageOf(store.metadata());
        const result = await collect(store, OPTIONS);
        const after = store.names();
        assert.deepEqual([...garbage, ...after].sort(), before);
        assert.equal(
          Object.values(result.types).reduce((sum, { removed }) => sum + removed, 0),
          garbage.length,
        );
        assert.deepEqual(wrong, []);
        const again = await collect(store, OPTIONS);
        assert.deepEqual(store.names(), after);
        assert.ok(Object.values(again.types).every(({ removed, failed }) => removed + failed === 0));
      }),
      { numRuns: 300 },
    );
  });

  test('remove nothing that writers make use of meanwhile, nor anything that what is left refers to', async () => {
    await fc.assert(
      fc.asyncProperty(populations, fc.array(changes, { minLength: 1, maxLength: 20 }), async (population, writes) => {
        const store = new FakeStore(population);
        const wrong = watch(store);
        let at = 0;
        store.onTurn = () => {
          for (const change of [writes[at], writes[at + 1]]) if (change !== undefined) apply(store, change);
          at += 2;
        };
        await collect(store, OPTIONS);
        assert.deepEqual(wrong, []);
      }),
      { numRuns: 600 },
    );
  });

  test('snapshots that refer to each other in a cycle go together, children first', async () => {
    for (const [first, second] of [
      ['a', 'b'],
      ['b', 'a'],
    ] as const) {
      const parent = snapshot(`fs/${first}`, undefined, { 'ref.snapshot.fs': 'c' });
      const chain = [parent, snapshot(`fs/${second}`, `fs/${first}`), snapshot('fs/c', `fs/${second}`)];
      const store = new FakeStore([namespace('ns1', { snapshots: chain })]);
      const { failures } = await collect(store, OPTIONS);
      assert.deepEqual(failures, []);
      assert.deepEqual(store.names(), []);
    }
  });

  test('an item that cannot be removed stays, with what it refers to, and keeps no other', async () => {
    for (const code of [Code.DataLoss, Code.ResourceExhausted]) {
      const content = [blob('bad', { 'ref.content': 'below' }), blob('below'), blob('x'), blob('y')];
      const store = new FakeStore([namespace('ns1', { content })]);
      store.onTrash = ({ key }) => {
        if (key === 'bad') throw new LaminaError(code, 'broken');
      };
      const { failures, types } = await collect(store, { ...OPTIONS, batchMs: 1_000 });
      assert.deepEqual(failures, [{ subject: 'content bad of ns1', message: 'broken' }]);
      assert.deepEqual(store.names(), ['content ns1/bad', 'content ns1/below']);
      assert.equal(types['content']?.removed, 2);
    }
  });

  test('a disk that takes nothing ends the sweep after some tries, and nothing is counted', async () => {
    const store = new FakeStore([namespace('ns1', { content: Array.from({ length: 50 }, (_, n) => blob(`${n}`)) })]);
    store.onTrash = () => {
      throw new LaminaError(Code.ResourceExhausted, 'no space');
    };
    await assert.rejects(collect(store, OPTIONS), { code: Code.ResourceExhausted });
    assert.equal(store.names().length, 50);
    assert.ok(store.writes < 10, `${store.writes} transactions`);
  });

  test('a journal that has lost what writers did ends the collection, and removes nothing', async () => {
    const store = new FakeStore([namespace('ns1', { content: [blob('a')] })]);
    const read = store.read.bind(store);
    store.read = (work) => read((view) => work({ ...view, sequence: () => view.sequence() + 1, journal: () => [] }));
    let reads = 0;
    store.onTurn = () => {
      reads += 1;
      if (reads === 2) store.put('content', 'ns1', blob('b'));
    };
    await assert.rejects(collect(store, OPTIONS), { code: Code.Aborted });
    assert.ok(store.names().includes('content ns1/a'));
  });

  test('one more edge never makes them take more', async () => {
    await fc.assert(
      fc.asyncProperty(populations, puts, fc.constantFrom('a', 'b', 'c', 'd', 'e'), async (population, put, target) => {
        const survivors = async (more: Readonly<Record<string, string>>): Promise<string[]> => {
          const store = new FakeStore(population);
          const item = 'labels' in put.item ? { ...put.item, labels: { ...put.item.labels, ...more } } : put.item;
          store.put(put.list, 'ns1', item);
          await collect(store, OPTIONS);
          return store.names();
        };
        const without = await survivors({});
        const kept = new Set(await survivors({ 'containerd.io/gc.ref.content.more': target }));
        assert.deepEqual(
          without.filter((one) => !kept.has(one)),
          [],
        );
      }),
      { numRuns: 200 },
    );
  });

  test('stop between two batches when they are told to, and go on the next time', async () => {
    await fc.assert(
      fc.asyncProperty(populations, fc.nat(5), async (population, batches) => {
        const store = new FakeStore(population);
        const wrong = watch(store);
        const expected = garbageOf(store.metadata());
        const stop = new AbortController();
        const first = await collect(store, {
          ...OPTIONS,
          get signal() {
            if (store.writes >= batches) stop.abort();
            return stop.signal;
          },
        });
        if (first.result === 'success') assert.deepEqual(garbageOf(store.metadata()), []);
        const left = store.names();
        assert.ok(expected.length === 0 || batches > 0 || expected.every((one) => left.includes(one)));
        await collect(store, OPTIONS);
        assert.deepEqual(garbageOf(store.metadata()), []);
        assert.deepEqual(wrong, []);
      }),
      { numRuns: 100 },
    );
  });

  test('a dry run counts what would go, and writes nothing', async () => {
    await fc.assert(
      fc.asyncProperty(populations, async (population) => {
        const store = new FakeStore(population);
        const { types } = await collect(store, { ...OPTIONS, dryRun: true });
        assert.equal(store.writes, 0);
        const count = Object.values(types).reduce((sum, { removed }) => sum + removed, 0);
        assert.equal(count, garbageOf(store.metadata()).length);
      }),
      { numRuns: 100 },
    );
  });
});
