/** why, plan, apply and df: what people ask before they remove anything. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Code } from '../../../src/base/index.js';
import {
  apply,
  collect,
  df,
  diskUsage,
  findPlan,
  markFacts,
  PlanChanged,
  plan,
  planItems,
  planLines,
  typeOf,
  why,
  whyOf,
} from '../../../src/collect/index.js';
import { type NamespaceMetadata, type Resource, ResourceType, typeName } from '../../../src/gc/index.js';
import { blob, container, image, lease, NOW, namespace, PAST, snapshot } from '../gc/kit.js';
import { FakeStore } from './fake-store.js';
import { apply as change, changes, populations } from './population.js';

const BY = { command: 'test' };
const OPTIONS = { by: BY, now: () => NOW };
const content = (key: string, of = 'default'): Resource => ({ type: ResourceType.Content, namespace: of, key });

/**
 * Two images that share a layer, one that has expired, and a blob of its that another namespace has
 * too.
 */
const POPULATION: readonly NamespaceMetadata[] = [
  namespace('default', {
    images: [image('one', 'm1'), image('two', 'm2'), image('old', 'm3', { expire: PAST })],
    content: [
      { ...blob('m1', { 'ref.content.0': 'shared', 'ref.content.1': 'own' }), bytes: 1 },
      { ...blob('m2', { 'ref.content.0': 'shared' }), bytes: 2 },
      { ...blob('m3', { 'ref.content.0': 'lost', 'ref.content.1': 'both' }), bytes: 4 },
      { ...blob('shared'), bytes: 100 },
      { ...blob('own'), bytes: 200 },
      { ...blob('lost'), bytes: 400 },
      { ...blob('both'), bytes: 800 },
    ],
    snapshots: [
      { ...snapshot('fs/p'), bytes: 10 },
      { ...snapshot('fs/c', 'fs/p'), bytes: 20 },
      { ...snapshot('fs/lost', 'fs/p'), bytes: 40 },
    ],
    containers: [container('c', 'fs/c')],
  }),
  namespace('other', { content: [{ ...blob('both', { root: '' }), bytes: 800 }] }),
];

describe('why', () => {
  const marked = markFacts({ namespaces: POPULATION, now: NOW });

  test('what is kept is shown by the way from a root, each edge with its origin', () => {
    const { kind, lines } = whyOf(marked, content('shared'));
    assert.equal(kind, 'kept');
    assert.deepEqual(lines, [
      'content shared of default is kept',
      '  image one (image)',
      '  → content m1 (target of the image)',
      '  → content shared (label containerd.io/gc.ref.content.0)',
    ]);
  });

  test('garbage is shown by the ways that would keep it', () => {
    const { kind, lines, missing } = whyOf(marked, content('lost'));
    assert.equal(kind, 'garbage');
    assert.deepEqual(lines, [
      'content lost of default is garbage',
      '  it would be kept by',
      '  image old: expired at 2026-06-01T11:59:59.000Z',
      '    → content m3 (target of the image)',
      '    → content lost (label containerd.io/gc.ref.content.0)',
    ]);
    assert.deepEqual(
      missing.map(({ from }) => from.key),
      ['old'],
    );
  });

  test('what nothing refers to, what is not there, and words for types', () => {
    const alone = { type: ResourceType.Snapshot, namespace: 'default', key: 'fs/lost' };
    assert.deepEqual(whyOf(marked, alone).lines, ['snapshot fs/lost of default is garbage', '  nothing refers to it']);
    assert.equal(whyOf(marked, content('nowhere')).kind, 'unknown');
    assert.equal(typeOf('content'), ResourceType.Content);
    assert.equal(typeOf('thing'), undefined);
  });

  test('ways through cycles and flat leases end', () => {
    const cycle = markFacts({
      namespaces: [
        namespace('default', {
          content: [blob('a', { 'ref.content': 'b' }), blob('b', { 'ref.content': 'a' })],
          leases: [lease('l', { labels: { flat: '', expire: PAST }, content: ['a'] })],
        }),
      ],
      now: NOW,
    });
    assert.deepEqual(
      whyOf(cycle, content('a')).missing.map(({ from }) => from.key),
      ['l'],
    );
    assert.deepEqual(
      whyOf(cycle, content('b')).missing.map(({ from, steps }) => [
        from.key,
        ...steps.map(({ resource }) => resource.key),
      ]),
      [['l', 'a', 'b']],
    );
  });

  test('of what was removed, the journal and the trash tell', async () => {
    const store = new FakeStore(POPULATION, () => NOW);
    await collect(store, { ...OPTIONS, gapMs: 0, space: () => ({ size: 1, free: 1 }) });
    const found = await why(store, content('lost'), OPTIONS);
    assert.equal(found.kind, 'removed');
    assert.ok(found.trashId !== undefined);
    assert.deepEqual(found.lines, [
      'content lost of default was removed at 2026-06-01T12:00:00.000Z',
      '  by "test" (user 0, process 1), rule collect',
      '  because: kept only by image old: expired at 2026-06-01T11:59:59.000Z (target of the image, label containerd.io/gc.ref.content.0)',
      `  it is in the trash: lamina gc undo ${found.trashId}`,
    ]);
    store.delete({ kind: 'content', namespace: 'default', key: 'own' });
    assert.deepEqual((await why(store, content('own'), OPTIONS)).lines.slice(2), [
      '  it is gone for good',
      '  it is still referred to by image one (image)',
      '  → content m1 (target of the image)',
      '  → content own (label containerd.io/gc.ref.content.1)',
    ]);
  });

  test('garbage whose image is in the trash says how to bring that back', async () => {
    const store = new FakeStore([namespace('default', { images: [image('i', 'm')], content: [blob('m')] })], () => NOW);
    const id = store.write(BY, (tx) => tx.toTrash({ kind: 'image', namespace: 'default', key: 'i' }, 'by hand'));
    assert.deepEqual((await why(store, content('m'), OPTIONS)).lines, [
      'content m of default is garbage',
      '  nothing refers to it',
      `  image i referred to it (target of the image), removed at 2026-06-01T12:00:00.000Z: lamina gc undo ${id}`,
    ]);
  });

  test('garbage and only garbage has a missing way, whatever the population', () => {
    fc.assert(
      fc.property(populations, (population) => {
        const facts = markFacts({ namespaces: population, now: NOW });
        for (const resource of facts.scan.candidates) {
          const { kind, missing, lines } = whyOf(facts, resource);
          assert.equal(kind, facts.marking.isKept(resource) ? 'kept' : 'garbage');
          assert.equal(missing.length > 0, kind === 'garbage');
          assert.ok(lines.length > 1);
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('plan', () => {
  test('has what would go, why, and what that frees', () => {
    const found = planItems(markFacts({ namespaces: POPULATION, now: NOW }));
    const rows = found.items.map(({ resource, bytes, unique }) => [
      `${typeName(resource.type)} ${resource.key}`,
      bytes,
      unique,
    ]);
    assert.deepEqual(rows.sort(), [
      ['content both', 800, 0],
      ['content lost', 400, 400],
      ['content m3', 4, 4],
      ['image old', 0, 0],
      ['snapshot fs/lost', 40, 40],
    ]);
    assert.deepEqual(found.bytes, { compressed: { unique: 404, shared: 800 }, unpacked: { unique: 40, shared: 0 } });
    assert.deepEqual(found.types['content'], { count: 3, unique: 404, shared: 800 });
    assert.equal(
      planLines(found).at(-1),
      '5 to remove; 444 bytes to free (404 of content, 40 of snapshots); 800 bytes stay, as others use the same blobs',
    );
  });

  test('a blob that all its namespaces lose is freed once', () => {
    const both = ['a', 'b'].map((of) => namespace(of, { content: [{ ...blob('x'), bytes: 7 }] }));
    const { items, bytes } = planItems(markFacts({ namespaces: both, now: NOW }));
    assert.deepEqual(items.map(({ unique }) => unique).sort(), [0, 7]);
    assert.equal(bytes.compressed.unique, 7);
  });

  test('applied, it removes exactly what it names, once', async () => {
    const store = new FakeStore(POPULATION, () => NOW);
    const made = await plan(store, OPTIONS);
    assert.deepEqual(findPlan(store, made.id).items, made.items);
    // Garbage of later is not in it.
    store.put('content', 'default', blob('later'));
    const before = store.names();
    const { removed, bytes } = await apply(store, made.id, OPTIONS);
    const gone = before.filter((name) => !store.names().includes(name));
    assert.deepEqual(
      gone,
      removed.map(({ type, key }) => `${typeName(type)} default/${key}`).sort((a, b) => (a < b ? -1 : 1)),
    );
    assert.equal(removed.length, 5);
    assert.equal(bytes, 444);
    assert.ok(store.has({ kind: 'content', namespace: 'default', key: 'later' }));
    await assert.rejects(apply(store, made.id, OPTIONS), { code: Code.NotFound });
  });

  const touched: readonly (readonly [string, (store: FakeStore) => void, RegExp])[] = [
    [
      'kept again',
      (store) => store.put('images', 'default', image('new', 'lost')),
      /content lost of default: it is kept now/,
    ],
    ['changed', (store) => store.put('content', 'default', blob('lost')), /content lost of default: update by "test"/],
    [
      'removed',
      (store) => store.delete({ kind: 'content', namespace: 'default', key: 'lost' }),
      /content lost of default: it has gone/,
    ],
    [
      'referred to by new garbage',
      (store) => store.put('content', 'default', blob('later', { 'ref.content': 'lost' })),
      /content lost of default: content later of default refers to it now/,
    ],
  ];
  for (const [what, touch, message] of touched) {
    test(`what is ${what} since is named, and nothing is removed`, async () => {
      const store = new FakeStore(POPULATION, () => NOW);
      const made = await plan(store, OPTIONS);
      touch(store);
      const before = store.names();
      await assert.rejects(apply(store, made.id, OPTIONS), (error) => {
        assert.ok(error instanceof PlanChanged && error.code === Code.FailedPrecondition);
        assert.match(error.message, message);
        assert.deepEqual(
          error.changed.map(({ resource }) => resource.key),
          ['lost'],
        );
        return true;
      });
      assert.deepEqual(store.names(), before);
    });
  }

  test('whatever writers do, it removes nothing that is not in it, and nothing reachable', async () => {
    await fc.assert(
      fc.asyncProperty(populations, fc.array(changes, { maxLength: 6 }), async (population, writes) => {
        const store = new FakeStore(population, () => NOW);
        const made = await plan(store, OPTIONS);
        const planned = new Set(
          made.items.map(({ resource: { type, namespace: of, key } }) => `${typeName(type)} ${of} ${key}`),
        );
        const wrong: string[] = [];
        store.onRemoved = (before, removed) => {
          const { marking, scan } = markFacts({ namespaces: before, now: NOW });
          for (const { kind, namespace: of, key } of removed) {
            const node = scan.candidates.find(
              (one) => typeName(one.type) === kind && one.namespace === of && one.key === key,
            );
            if (!planned.has(`${kind} ${of} ${key}`)) wrong.push(`${key} is not planned`);
            if (node !== undefined && marking.isKept(node)) wrong.push(`${key} is reachable`);
          }
        };
        let at = 0;
        store.onTurn = () => {
          const next = writes[at++];
          if (next !== undefined) change(store, next);
        };
        await apply(store, made.id, OPTIONS).catch((error: unknown) =>
          assert.ok(error instanceof PlanChanged, String(error)),
        );
        assert.deepEqual(wrong, []);
      }),
      { numRuns: 300 },
    );
  });

  test('an unknown id is not found', async () => {
    await assert.rejects(apply(new FakeStore(), 'nothing', OPTIONS), { code: Code.NotFound });
  });
});

describe('df', () => {
  test('counts what only an owner keeps, what it shares, and what is free to go', () => {
    const usage = diskUsage(markFacts({ namespaces: POPULATION, now: NOW }), 5);
    const owners = usage.owners.map(({ owner, unique, shared }) => [owner.key, unique, shared]);
    assert.deepEqual(owners, [
      ['both', 800, 0],
      ['one', 201, 100],
      ['two', 2, 100],
      ['c', 30, 0],
    ]);
    assert.deepEqual(
      { total: usage.total, shared: usage.shared, reclaimable: usage.reclaimable, trash: usage.trash },
      { total: 1_577, shared: 100, reclaimable: 444, trash: 5 },
    );
  });

  test('what owners keep alone, what several keep and what nothing keeps is all there is', () => {
    fc.assert(
      fc.property(populations, (population) => {
        const sized = population.map((of) => ({
          ...of,
          content: of.content.map((one) => ({ ...one, bytes: 3 })),
          snapshots: of.snapshots.map((one) => ({ ...one, bytes: 5 })),
        }));
        const { owners, shared, reclaimable, total } = diskUsage(markFacts({ namespaces: sized, now: NOW }));
        const unique = owners.reduce((sum, owner) => sum + owner.unique, 0);
        assert.equal(unique + shared + reclaimable, total);
      }),
      { numRuns: 200 },
    );
  });

  test('of a store it has the trash', async () => {
    const store = new FakeStore(POPULATION, () => NOW);
    await collect(store, { ...OPTIONS, gapMs: 0, space: () => ({ size: 1, free: 1 }) });
    const { trash, reclaimable } = await df(store, OPTIONS);
    assert.equal(reclaimable, 0);
    assert.equal(trash, 1_244);
  });
});
