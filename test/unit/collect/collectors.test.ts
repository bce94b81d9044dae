/**
 * Collectors that are slow, that fail, lie and hang: they cost themselves a round, and no other
 * type anything.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type CollectOptions, collect } from '../../../src/collect/index.js';
import { type Collection, type Collector, type Held, type Resource, ResourceType } from '../../../src/gc/index.js';
import { blob, container, lease, NOW, namespace, PAST } from '../gc/kit.js';
import { FakeStore } from './fake-store.js';

const OPTIONS: CollectOptions = {
  by: { command: 'test' },
  now: () => NOW,
  gapMs: 0,
  space: () => ({ size: 100, free: 100 }),
};
/**
 * What hangs in these tests hangs for ever; what answers does so at once, however slow the machine.
 */
const HANGING = { callMs: 50, removalMs: 50 };
const sorted = (keys: readonly string[]): string[] => [...keys].sort((a, b) => (a < b ? -1 : 1));
const forever = <T>(): Promise<T> => new Promise(() => undefined);

const of = (type: number, key: string): Resource => ({ type, namespace: 'default', key });
const content = (key: string): Resource => of(ResourceType.Content, key);

interface Played extends Collector {
  readonly removed: string[];
  readonly ended: string[];
}

/** A collector with resources a, b and c; a is in use. */
function play(
  type: number,
  parts: Partial<Collection> & { refersTo?: readonly number[]; start?: Collector['start'] } = {},
): Played {
  const removed: string[] = [];
  const ended: string[] = [];
  const { refersTo = [], start, ...own } = parts;
  const collection: Collection = {
    all: () => ['a', 'b', 'c'].map((key): Held => of(type, key)),
    active: () => [of(type, 'a')],
    leased: () => [],
    remove: ({ key }) => void removed.push(key),
    cancel: () => void ended.push('cancel'),
    finish: () => void ended.push('finish'),
    ...own,
  };
  return {
    type,
    referenceLabel: `t${type}`,
    refersTo,
    removed,
    ended,
    start: start ?? (() => Promise.resolve(collection)),
  };
}

/**
 * A blob that only the plug-in's resource a keeps, one that only that blob keeps, and one that
 * nothing does.
 */
function populated(): FakeStore {
  return new FakeStore([
    namespace('default', {
      content: [blob('x', { 'ref.content': 'y' }), blob('y'), blob('lost')],
      leases: [lease('l')],
    }),
  ]);
}
const keepsX = {
  references: ({ key }: Resource) => (key === 'a' ? [content('x')] : []),
  refersTo: [ResourceType.Content],
};

describe('collectors', () => {
  test('their garbage is removed, one by one, and the round finished', async () => {
    const collector = play(12);
    const { types, failures } = await collect(populated(), { ...OPTIONS, collectors: [collector] });
    assert.deepEqual(sorted(collector.removed), ['b', 'c']);
    assert.deepEqual(collector.ended, ['finish']);
    assert.deepEqual(types['type 12'], { kept: 1, removed: 2, changed: 0, failed: 0, bytes: 0 });
    assert.deepEqual(failures, []);
  });

  test('answers may be promises and async iterables', async () => {
    const collector = play(12, {
      all: async function* () {
        for (const key of ['a', 'b']) yield await Promise.resolve(of(12, key));
      },
      active: () => Promise.resolve([]),
      leased: (_, id) => Promise.resolve(id === 'l' ? [of(12, 'b')] : []),
      remove: async ({ key }) => {
        await Promise.resolve();
        collector.removed.push(key);
      },
    });
    await collect(populated(), { ...OPTIONS, collectors: [collector] });
    assert.deepEqual(collector.removed, ['a']);
  });

  test('what they refer to is kept, and all that it leads to', async () => {
    const store = populated();
    await collect(store, { ...OPTIONS, collectors: [play(12, keepsX)] });
    assert.deepEqual(store.names(), ['content default/x', 'content default/y', 'lease default/l']);
  });

  const failing: readonly (readonly [string, Parameters<typeof play>[1]])[] = [
    ['start throws', { start: () => Promise.reject(new Error('broken')) }],
    ['start hangs', { start: () => forever() }],
    [
      'all throws',
      {
        all: () => {
          throw new Error('broken');
        },
      },
    ],
    ['all hangs', { all: () => forever() }],
    [
      'all has no end',
      {
        all: function* () {
          for (;;) yield of(12, 'a');
        },
      },
    ],
    [
      'all lets the next wait for ever',
      {
        all: async function* () {
          yield await forever<Held>();
        },
      },
    ],
    ['all names content', { all: () => [content('x')] }],
    ['all names nothing', { all: () => [undefined as unknown as Held] }],
    ['all names a type that is none', { all: () => [{ ...of(12, 'a'), type: 0.5 }] }],
    ['all has identities that cannot be asked for', { all: () => [{ ...of(12, 'a'), identity: '1' }] }],
    [
      'active throws',
      {
        active: () => {
          throw new Error('broken');
        },
      },
    ],
    ['leased hangs', { leased: () => forever() }],
    [
      'references throw',
      {
        references: () => {
          throw new Error('broken');
        },
      },
    ],
    ['back references are no pairs', { backReferences: () => [[of(12, 'a')] as unknown as [Resource, Resource]] }],
  ];
  for (const [what, parts] of failing) {
    test(`${what}: nothing of it is removed, nor what it may keep, and all else goes on`, async () => {
      const store = new FakeStore([
        namespace('default', {
          content: [blob('x', { 'ref.snapshot.fs': 'y' })],
          snapshots: [
            { key: 'fs/y', parent: undefined, labels: {} },
            { key: 'fs/lost', parent: undefined, labels: {} },
          ],
          leases: [lease('l'), lease('over', { labels: { expire: PAST } })],
        }),
      ]);
      const collector = play(12, { ...keepsX, ...parts });
      const other = play(13);
      const limits = what.includes('throw') || what.includes('name') ? {} : HANGING;
      const { failures } = await collect(store, { ...OPTIONS, limits, collectors: [collector, other] });
      // A machine that is slow enough lets the other be late too; it is not removed from then.
      assert.ok(failures.some(({ subject }) => subject === 'collector of type 12'));
      assert.deepEqual(collector.removed, []);
      assert.ok(!collector.ended.includes('finish'));
      assert.deepEqual(store.names(), ['content default/x', 'lease default/l', 'snapshot default/fs/y']);
    });
  }

  test('what it was seen to refer to is kept when it fails later, although it declares nothing', async () => {
    const store = populated();
    let isBroken = false;
    const honest = play(12, keepsX);
    const collector: Collector = {
      ...play(12, { refersTo: [] }),
      start: (signal) => (isBroken ? Promise.reject(new Error('broken')) : honest.start(signal)),
    };
    await collect(store, { ...OPTIONS, collectors: [collector] });
    isBroken = true;
    await collect(store, { ...OPTIONS, collectors: [collector] });
    assert.deepEqual(store.names(), ['content default/x', 'content default/y', 'lease default/l']);
  });

  test('a removal that fails or hangs does not keep the next from removal', async () => {
    for (const bad of [
      () => {
        throw new Error('busy');
      },
      () => forever<void>(),
    ]) {
      const collector = play(12, {
        active: () => [],
        remove: (resource) => (resource.key === 'b' ? bad() : void collector.removed.push(resource.key)),
      });
      const { types, failures } = await collect(populated(), {
        ...OPTIONS,
        limits: { removalMs: 300 },
        collectors: [collector],
      });
      assert.deepEqual(sorted(collector.removed), ['a', 'c']);
      assert.equal(types['type 12']?.failed, 1);
      assert.match(failures[0]?.subject ?? '', /type 12 b of default/);
    }
  });

  test('one that hangs at each removal is asked no more after some', async () => {
    let asked = 0;
    const collector = play(12, {
      all: () => Array.from({ length: 100 }, (_, n) => of(12, `${n}`)),
      active: () => [],
      remove: () => {
        asked += 1;
        return forever();
      },
    });
    const { types } = await collect(populated(), { ...OPTIONS, limits: { removalMs: 20 }, collectors: [collector] });
    assert.equal(types['type 12']?.failed, 100);
    assert.ok(asked < 20, `asked ${asked} times`);
  });

  test('a round is refused while a call of the last one is not over', async () => {
    let release = (): void => undefined;
    let isHanging = true;
    const collector = play(12, {
      remove: () => (isHanging ? new Promise<void>((resolve) => (release = resolve)) : undefined),
      all: () => [of(12, 'b')],
    });
    await collect(populated(), { ...OPTIONS, limits: { removalMs: 50 }, collectors: [collector] });
    const second = await collect(populated(), { ...OPTIONS, collectors: [collector] });
    assert.match(second.failures[0]?.message ?? '', /not over/);
    isHanging = false;
    release();
    const third = await collect(populated(), { ...OPTIONS, collectors: [collector] });
    assert.deepEqual(third.failures, []);
  });

  test('one that starts too late is let go of', async () => {
    const late = play(12);
    let begin = (_: Collection): void => undefined;
    const slow: Collector = { ...late, start: () => new Promise((resolve) => (begin = resolve)) };
    await collect(populated(), { ...OPTIONS, limits: HANGING, collectors: [slow] });
    begin(await late.start(new AbortController().signal));
    await new Promise(setImmediate);
    assert.deepEqual(late.ended, ['cancel']);
  });

  test('one that has the same key and another identity now is not removed', async () => {
    const now = new Map([
      ['a', '1'],
      ['b', '2'],
    ]);
    const collector = play(12, {
      all: () => ['a', 'b', 'c'].map((key) => ({ ...of(12, key), identity: '1' })),
      active: () => [],
      identify: ({ key }) => now.get(key),
    });
    const { types } = await collect(populated(), { ...OPTIONS, collectors: [collector] });
    assert.deepEqual(collector.removed, ['a']);
    assert.deepEqual(types['type 12'], { kept: 0, removed: 1, changed: 2, failed: 0, bytes: 0 });
  });

  test('what a lease that is new holds is not removed, and a label of a new container keeps', async () => {
    const store = populated();
    const collector = play(12, {
      active: () => [],
      leased: (_, id) => (id === 'new' ? [of(12, 'b')] : []),
    });
    let turns = 0;
    store.onTurn = () => {
      turns += 1;
      // After the metadata was read: the first read asks for leases, the second is that.
      if (turns !== 3) return;
      store.put('leases', 'default', lease('new'));
      store.put('containers', 'default', container('c', undefined, { 'ref.t12': 'c' }));
    };
    await collect(store, { ...OPTIONS, collectors: [collector] });
    assert.deepEqual(collector.removed, ['a']);
  });

  test('their order makes no difference, and none that fails makes more go', async () => {
    const kinds = fc.constantFrom('plain', 'keeps', 'active', 'throws', 'lies', 'partly');
    const made = (type: number, kind: string): Played => {
      if (kind === 'keeps') return play(type, keepsX);
      if (kind === 'active') return play(type, { active: () => ['a', 'b', 'c'].map((key) => of(type, key)) });
      if (kind === 'throws') return play(type, { ...keepsX, start: () => Promise.reject(new Error('broken')) });
      if (kind === 'lies') return play(type, { ...keepsX, all: () => [content('x'), content('y')] });
      if (kind === 'partly') {
        return play(type, {
          ...keepsX,
          references: ({ key }) => {
            if (key === 'a') return [content('x')];
            throw new Error('broken');
          },
        });
      }
      return play(type);
    };
    await fc.assert(
      fc.asyncProperty(fc.array(kinds, { minLength: 2, maxLength: 4 }), async (drawn) => {
        const run = async (order: 'there' | 'back') => {
          const store = populated();
          const collectors = drawn.map((kind, at) => made(12 + at, kind));
          await collect(store, { ...OPTIONS, collectors: order === 'there' ? collectors : [...collectors].reverse() });
          return { names: store.names(), removed: collectors.map(({ removed }) => sorted(removed)) };
        };
        const there = await run('there');
        assert.deepEqual(await run('back'), there);
        const isKept = drawn.some((kind) => ['keeps', 'throws', 'lies', 'partly'].includes(kind));
        assert.equal(there.names.includes('content default/x'), isKept);
        assert.equal(there.names.includes('content default/y'), isKept);
        assert.equal(
          there.names.includes('content default/lost'),
          drawn.some((kind) => ['throws', 'lies', 'partly'].includes(kind)),
        );
      }),
      { numRuns: 200 },
    );
  });
});
