import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { collect, emptyTrash, undo } from '../../../src/collect/index.js';
import { dueItems } from '../../../src/collect/trash.js';
import type { TrashItem } from '../../../src/store/index.js';
import { blob, image, NOW, namespace, PAST, snapshot } from '../gc/kit.js';
import { FakeStore } from './fake-store.js';

const BY = { command: 'test' };
const HOUR = 3_600_000;
const plenty = () => ({ size: 1_000, free: 1_000 });

const item = (id: number, ageMs: number, bytes: number): TrashItem => ({
  id,
  time: NOW - ageMs,
  bytes,
  kind: 'content',
  namespace: 'default',
  key: `${id}`,
  reason: '',
  digest: undefined,
  leases: [],
  labels: {},
  target: undefined,
  parent: undefined,
});

describe('trash', () => {
  const items = [item(1, 2 * HOUR, 10), item(2, HOUR - 1, 20), item(3, 60_000, 30), item(4, 1_000, 0)];
  const policy = { windowMs: HOUR, minFreeShare: 0.1 };
  const due = (space?: { size: number; free: number }): number[] =>
    dueItems(items, NOW, policy, space).map(({ id }) => id);

  test('keeps things for the window', () => {
    assert.deepEqual(due(), [1]);
    assert.deepEqual(due({ size: 1_000, free: 100 }), [1]);
  });

  test('gives the oldest first when space is short, no more than is needed, and nothing that frees none', () => {
    assert.deepEqual(due({ size: 1_000, free: 90 }), [1]);
    assert.deepEqual(due({ size: 1_000, free: 89 }), [1, 2]);
    assert.deepEqual(due({ size: 1_000, free: 0 }), [1, 2, 3]);
  });

  test('what lies in the future, as the clock was set back, is not kept for ever', () => {
    const future = [item(1, -2 * HOUR, 1), item(2, -60_000, 1)];
    assert.deepEqual(
      dueItems(future, NOW, policy).map(({ id }) => id),
      [1],
    );
  });

  function collected(): { store: FakeStore; run: (at: number) => Promise<unknown> } {
    let now = NOW;
    const store = new FakeStore(
      [
        namespace('default', {
          images: [image('old', 'm', { expire: PAST })],
          content: [blob('m', { 'ref.content.0': 'l' }), blob('l')],
          snapshots: [snapshot('fs/p'), snapshot('fs/c', 'fs/p')],
        }),
      ],
      () => now,
    );
    const run = async (at: number): Promise<unknown> => {
      now = at;
      return await collect(store, { by: BY, now: () => now, gapMs: 0, space: plenty });
    };
    return { store, run };
  }

  test('a collection frees what has been there for the window, and says why each thing is there', async () => {
    const { store, run } = collected();
    await run(NOW);
    const reasons = store.read((view) => view.trash().map(({ key, reason }) => `${key}: ${reason}`));
    assert.deepEqual(reasons.sort(), [
      'fs/c: nothing refers to it',
      'fs/p: kept only by snapshot fs/c, which nothing keeps (parent)',
      'l: kept only by image old: expired at 2026-06-01T11:59:59.000Z (target of the image, label containerd.io/gc.ref.content.0)',
      'm: kept only by image old: expired at 2026-06-01T11:59:59.000Z (target of the image)',
      'old: expired at 2026-06-01T11:59:59.000Z',
    ]);
    await run(NOW + HOUR - 1);
    assert.equal(
      store.read((view) => view.trash().length),
      5,
    );
    await run(NOW + HOUR);
    assert.equal(
      store.read((view) => view.trash().length),
      0,
    );
    assert.ok(store.reclaimed > 0);
  });

  test('undo brings back everything since a time, parents before children', async () => {
    const { store, run } = collected();
    const before = store.names();
    await run(NOW);
    assert.deepEqual(store.names(), []);
    const { restored, refused } = undo(store, { by: BY, since: NOW });
    assert.equal(restored.length, 5);
    assert.deepEqual(refused, []);
    const keys = restored.map(({ key }) => key);
    assert.ok(keys.indexOf('fs/p') < keys.indexOf('fs/c'));
    assert.deepEqual(store.names(), before);
    assert.equal(
      store.read((view) => view.journal({ key: 'fs/p' }).at(-1)?.rule),
      'undo',
    );
  });

  test('undo by number brings back that one; a name that is taken again is named and the others come', async () => {
    const { store, run } = collected();
    await run(NOW);
    const ids = new Map(store.read((view) => view.trash().map(({ key, id }) => [key, id] as const)));
    store.put('content', 'default', blob('m'));
    const wanted = [ids.get('m') ?? 0, ids.get('l') ?? 0];
    const { restored, refused } = undo(store, { by: BY, ids: wanted });
    assert.deepEqual(restored, [{ kind: 'content', namespace: 'default', key: 'l' }]);
    assert.deepEqual(
      refused.map(({ object }) => object.key),
      ['m'],
    );
    assert.match(refused[0]?.message ?? '', /already exists/);
  });

  test('undo needs to know what, and changes nothing when a number is unknown', async () => {
    const { store, run } = collected();
    await run(NOW);
    assert.throws(() => undo(store, { by: BY }), { code: Code.InvalidArgument });
    const [first] = store.read((view) => view.trash());
    assert.throws(() => undo(store, { by: BY, ids: [first?.id ?? 0, 9_999] }), { code: Code.NotFound });
    assert.deepEqual(store.names(), []);
  });

  test('the bytes of a blob are freed with its last namespace and its last item, and counted once', async () => {
    const shared = { ...blob('x'), bytes: 10 };
    const rooted = { ...blob('x', { root: '' }), bytes: 10 };
    const of = (name: string, one: typeof shared) => namespace(name, { content: [one] });
    const emptied = async (...population: Parameters<typeof of>[]) => {
      const store = new FakeStore(
        population.map((one) => of(...one)),
        () => NOW,
      );
      await collect(store, { by: BY, now: () => NOW, gapMs: 0, space: plenty });
      return await emptyTrash(store, { by: BY });
    };
    assert.deepEqual(await emptied(['a', shared], ['b', shared]), { items: 2, bytes: 10 });
    assert.deepEqual(await emptied(['a', shared], ['b', rooted]), { items: 1, bytes: 0 });
  });

  test('emptying takes everything, or what is old, or as many bytes as are asked for', async () => {
    const store = new FakeStore(
      [namespace('default', { content: ['a', 'b', 'c'].map((digest) => ({ ...blob(digest), bytes: 10 })) })],
      () => NOW,
    );
    await collect(store, { by: BY, now: () => NOW, gapMs: 0, space: plenty });
    const now = () => NOW + 60_000;
    assert.deepEqual(await emptyTrash(store, { by: BY, olderThanMs: 60_001, now }), { items: 0, bytes: 0 });
    assert.deepEqual(await emptyTrash(store, { by: BY, bytes: 11, now }), { items: 2, bytes: 20 });
    assert.deepEqual(await emptyTrash(store, { by: BY, now }), { items: 1, bytes: 10 });
  });
});
