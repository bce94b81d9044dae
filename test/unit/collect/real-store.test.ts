/** containerd's own tests of its collector and leases, item by item, over the real store. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { apply, collect, df, emptyTrash, plan, undo, why } from '../../../src/collect/index.js';
import { type Collection, type NamespaceMetadata, type Resource, ResourceType } from '../../../src/gc/index.js';
import { digestOf, LoadedStore, withDigests } from '../../lib/store-load.js';
import { blob, container, FUTURE, image, ingest, lease, NOW, namespace, PAST, sandbox, snapshot } from '../gc/kit.js';

const BY = { command: 'test' };
const OPTIONS = { by: BY, now: () => NOW, gapMs: 0, space: () => ({ size: 1, free: 1 }) };

/** The survivors of a collection: short names of content, so that they can be read. */
async function survivors(...populations: readonly NamespaceMetadata[]): Promise<string[]> {
  using loaded = new LoadedStore(() => NOW).load(...populations.map(withDigests));
  const { failures } = await collect(loaded.store, OPTIONS);
  assert.deepEqual(failures, []);
  const left = loaded.names();
  const again = await collect(loaded.store, OPTIONS);
  assert.ok(Object.values(again.types).every(({ removed, failed }) => removed + failed === 0));
  assert.deepEqual(loaded.names(), left);
  const short = new Map(
    populations.flatMap(({ content }) => content.map(({ digest }) => [digestOf(digest), digest] as const)),
  );
  return left
    .map((name) => name.replace(/sha256:[0-9a-f]+/, (digest) => short.get(digest) ?? digest))
    .sort((a, b) => (a < b ? -1 : 1));
}
const kept = async (parts: Parameters<typeof namespace>[1]): Promise<string[]> =>
  await survivors(namespace('default', parts));
const blobs = (...names: readonly string[]) => names.map((name) => blob(name));

describe('gc_test', () => {
  test('roots of two namespaces', async () => {
    assert.deepEqual(
      await survivors(
        namespace('default', {
          images: [image('i1', 'a'), image('i2', 'b', { expire: FUTURE }), image('i3', 'c', { expire: PAST })],
          content: [...blobs('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'), blob('r', { root: '2026' })],
          snapshots: [
            snapshot('fs/s1', undefined, { root: '' }),
            snapshot('fs/s2'),
            snapshot('fs/s3'),
            snapshot('fs/s4'),
          ],
          containers: [container('c1', 'fs/s2')],
          leases: [
            lease('l1', { content: ['d'], snapshots: ['fs/s3'] }),
            lease('l2', { content: ['e'], labels: { expire: FUTURE } }),
            lease('l3', { content: ['f'], labels: { expire: PAST } }),
          ],
          ingests: [ingest('in1', NOW + 1), ingest('in2', NOW - 1), ingest('in3', NOW + 1, 'g')],
          sandboxes: [sandbox('sb', { 'ref.content': 'h', 'ref.snapshot.fs': 's4' })],
        }),
        namespace('ns2', {
          images: [image('i1', 'a')],
          content: blobs('a', 'd'),
          leases: [lease('l1', { content: ['b'] })],
        }),
      ),
      [
        'content a',
        'content b',
        'content d',
        'content e',
        'content g',
        'content h',
        'content r',
        'image i1',
        'image i2',
        'ingest in1',
        'ingest in3',
        'lease l1',
        'lease l2',
        'ns2/content a',
        'ns2/image i1',
        'ns2/lease l1',
        'snapshot fs/s1',
        'snapshot fs/s2',
        'snapshot fs/s3',
        'snapshot fs/s4',
      ],
    );
  });

  test('references: labels with names, parents, targets, expected content, back references, and none that are wrong', async () => {
    assert.deepEqual(
      await kept({
        images: [
          image('i', 'm', { 'ref.content': 'x', 'ref.snapshot.fs/1': 'a', 'ref.image': 'expired' }),
          image('expired', 'n', { expire: PAST }),
        ],
        content: [
          blob('m', { 'ref.content.l.0': 'l0', 'ref.content/1': 'l1', 'ref.contentbad': 'bad' }),
          ...blobs('x', 'n', 'l0', 'l1', 'bad'),
          blob('back', { 'bref.image': 'i' }),
          blob('behind', { 'bref.content.1': 'back' }),
          blob('none', { 'bref.container': 'none' }),
        ],
        snapshots: [snapshot('fs/p'), snapshot('fs/a', 'fs/p'), snapshot('fs/child', 'fs/a'), snapshot('other/a')],
      }),
      [
        'content back',
        'content behind',
        'content l0',
        'content l1',
        'content m',
        'content n',
        'content x',
        'image expired',
        'image i',
        'snapshot fs/a',
        'snapshot fs/p',
      ],
    );
  });

  test('a flat lease keeps what it names, and parents, without what labels refer to', async () => {
    assert.deepEqual(
      await kept({
        leases: [lease('l', { labels: { flat: '' }, content: ['a'], snapshots: ['fs/s'], images: ['i'] })],
        content: [blob('a', { 'ref.content': 'b' }), blob('b'), blob('t', { 'ref.content': 'b' })],
        snapshots: [snapshot('fs/q'), snapshot('fs/p', 'fs/q'), snapshot('fs/s', 'fs/p', { 'ref.content': 'b' })],
        images: [image('i', 't', { expire: PAST })],
      }),
      ['content a', 'content t', 'image i', 'lease l', 'snapshot fs/p', 'snapshot fs/q', 'snapshot fs/s'],
    );
  });

  test('conditions keep a snapshot by when it was used, on either side, one of several, and not when they are malformed', async () => {
    const used = (name: string, hours: number) =>
      snapshot(`fs/${name}`, undefined, { 'cond.value-usedat': new Date(NOW - hours * 3_600_000).toISOString() });
    assert.deepEqual(
      await kept({
        images: [
          image('i', 'x', {
            'cond.snapshot.fs/1': 'usedat<2h|young',
            'cond.snapshot.fs/2': 'usedat<2h|old',
            'cond.snapshot.fs/3': 'usedat>2h|rested',
            'cond.snapshot.fs/4': 'usedat<1m,usedat>2h|either',
            'cond.snapshot.fs/5': 'usedat<2h|silent',
            'cond.snapshot.fs/6': 'used|bad',
          }),
        ],
        snapshots: [
          used('young', 1),
          used('old', 3),
          used('rested', 3),
          used('either', 3),
          snapshot('fs/silent'),
          used('bad', 1),
        ],
      }),
      ['image i', 'snapshot fs/either', 'snapshot fs/rested', 'snapshot fs/young'],
    );
  });

  test('a type of a plug-in: active, leased, of an expired lease, named by a label, and keeping content', async () => {
    const TYPE = 12;
    const of = (key: string): Resource => ({ type: TYPE, namespace: 'default', key });
    const removed: string[] = [];
    const calls: string[] = [];
    const collection: Collection = {
      all: () => ['active', 'leased', 'expired', 'named', 'lost'].map(of),
      active: (name) => (name === 'default' ? [of('active')] : []),
      leased: (_, id) => {
        calls.push(id);
        return id === 'l1' ? [of('leased')] : [of('expired')];
      },
      references: ({ key }) =>
        key === 'active' ? [{ type: ResourceType.Content, namespace: 'default', key: digestOf('a') }] : [],
      remove: ({ key }) => void removed.push(key),
      cancel: () => void calls.push('cancel'),
      finish: () => void calls.push('finish'),
    };
    using loaded = new LoadedStore(() => NOW).load(
      withDigests(
        namespace('default', {
          leases: [lease('l1'), lease('l2', { labels: { expire: PAST } })],
          content: blobs('a', 'b'),
          containers: [container('c', undefined, { 'ref.thing': 'named' })],
        }),
      ),
    );
    const collector = {
      type: TYPE,
      referenceLabel: 'thing',
      refersTo: [ResourceType.Content],
      start: () => Promise.resolve(collection),
    };
    await collect(loaded.store, { ...OPTIONS, collectors: [collector] });
    assert.deepEqual(
      [...removed].sort((a, b) => (a < b ? -1 : 1)),
      ['expired', 'lost'],
    );
    assert.deepEqual(calls, ['l1', 'l2', 'finish']);
    assert.deepEqual(loaded.names(), [`content ${digestOf('a')}`, 'lease l1']);
  });
});

describe('db_test', () => {
  test('chains of snapshots, manifests, a flat lease with some of its children, an ingest kept by a lease', async () => {
    const chain = (name: string, length: number) =>
      Array.from({ length }, (_, at) => snapshot(`fs/${name}${at}`, at === 0 ? undefined : `fs/${name}${at - 1}`));
    const manifest = (name: string, children: readonly string[], root = {}) =>
      blob(name, { ...root, ...Object.fromEntries(children.map((child, at) => [`ref.content.l.${at}`, child])) });
    assert.deepEqual(
      await kept({
        content: [
          ...blobs('1', '2', '3', '4', '5', '6', '7', '8', '9', '10'),
          manifest('kept', ['1', '2'], { root: '' }),
          manifest('lost', ['3', '4']),
          manifest('target', ['5']),
          manifest('flat', ['9', '10']),
        ],
        images: [image('i', 'target')],
        leases: [
          lease('flat', { labels: { flat: '' }, content: ['flat', '8'] }),
          lease('whole', { content: ['6'], ingests: ['in'] }),
        ],
        ingests: [ingest('in', undefined, '7'), ingest('lost', undefined, '3')],
        snapshots: [...chain('a', 3), ...chain('b', 3)],
        containers: [container('c', 'fs/a1')],
      }),
      [
        'content 1',
        'content 2',
        'content 5',
        'content 6',
        'content 7',
        'content 8',
        'content flat',
        'content kept',
        'content target',
        'image i',
        'ingest in',
        'lease flat',
        'lease whole',
        'snapshot fs/a0',
        'snapshot fs/a1',
      ],
    );
  });
});

describe('leases_test', () => {
  const types: readonly (readonly [string, string, number | undefined])[] = [
    ['content', digestOf('x'), undefined],
    ['content', 'no digest', Code.InvalidArgument],
    ['content/x', digestOf('x'), Code.InvalidArgument],
    ['snapshots/fs', 's', undefined],
    ['snapshots', 's', Code.InvalidArgument],
    ['snapshots/fs/x', 's', Code.InvalidArgument],
    ['ingests', 'ref', undefined],
    ['images', 'i', undefined],
    ['containers', 'c', Code.Unimplemented],
    ['', 'x', Code.Unimplemented],
  ];
  for (const [type, id, code] of types) {
    test(`resource of type "${type}" ${code === undefined ? 'is added' : `is refused with code ${code}`}`, () => {
      using loaded = new LoadedStore().load(namespace('default', { leases: [lease('l')] }));
      const add = (): void => loaded.store.write(BY, (tx) => tx.addLeaseResource('default', 'l', { type, id }));
      if (code !== undefined) assert.throws(add, { code });
      else add();
      assert.equal(loaded.store.read((view) => view.leaseResources('default', 'l')).length, code === undefined ? 1 : 0);
    });
  }

  test('what a lease names goes with it, and stays while it is leased, whatever its type', async () => {
    using loaded = new LoadedStore(() => NOW).load(
      withDigests(
        namespace('default', {
          content: blobs('a'),
          snapshots: [snapshot('fs/s')],
          ingests: [ingest('in')],
          images: [image('i', 'a', { expire: PAST })],
          leases: [lease('l', { content: ['a'], snapshots: ['fs/s'], ingests: ['in'], images: ['i'] })],
        }),
      ),
    );
    const before = loaded.names();
    await collect(loaded.store, OPTIONS);
    assert.deepEqual(loaded.names(), before);
    loaded.store.write(BY, (tx) => tx.deleteLeaseResource('default', 'l', { type: 'ingests', id: 'in' }));
    await collect(loaded.store, OPTIONS);
    assert.deepEqual(
      loaded.names(),
      before.filter((name) => name !== 'ingest in'),
    );
    loaded.store.write(BY, (tx) => tx.deleteLease('default', 'l'));
    await collect(loaded.store, OPTIONS);
    assert.deepEqual(loaded.names(), []);
  });

  test('content that is committed under a lease is kept by it, and its ingest before', async () => {
    using loaded = new LoadedStore().load(namespace('default', { leases: [lease('l')] }));
    const options = { by: BY, gapMs: 0, space: OPTIONS.space };
    const writer = await loaded.store.content.ingest({ namespace: 'default', ref: 'r', lease: 'l' });
    await writer.write(Buffer.from('text'));
    await collect(loaded.store, options);
    assert.deepEqual(loaded.names(), ['ingest r', 'lease l']);
    const digest = await writer.commit();
    await collect(loaded.store, options);
    assert.deepEqual(loaded.names(), [`content ${digest}`, 'lease l']);
    loaded.store.write(BY, (tx) => tx.deleteLease('default', 'l'));
    await collect(loaded.store, options);
    assert.deepEqual(loaded.names(), []);
  });
});

describe('over the real store', () => {
  const population = withDigests(
    namespace('default', {
      images: [image('old', 'm', { expire: PAST }), image('new', 'n')],
      content: [
        { ...blob('m', { 'ref.content.0': 'l' }), bytes: 5 },
        { ...blob('l'), bytes: 7 },
        { ...blob('n'), bytes: 1 },
      ],
      snapshots: [
        { ...snapshot('fs/p'), bytes: 11 },
        { ...snapshot('fs/c', 'fs/p'), bytes: 13 },
      ],
    }),
  );

  test('a plan is kept, applied once, undone as a whole, and explained', async () => {
    using loaded = new LoadedStore(() => NOW).load(population);
    const before = loaded.names();
    const made = await plan(loaded.store, OPTIONS);
    assert.equal(made.items.length, 5);
    assert.deepEqual(made.bytes, { compressed: { unique: 12, shared: 0 }, unpacked: { unique: 24, shared: 0 } });
    const { bytes } = await apply(loaded.store, made.id, OPTIONS);
    assert.equal(bytes, 36);
    assert.deepEqual(loaded.names(), [`content ${digestOf('n')}`, 'image new']);
    const resource = { type: ResourceType.Content, namespace: 'default', key: digestOf('l') };
    const found = await why(loaded.store, resource, OPTIONS);
    assert.equal(found.kind, 'removed');
    assert.equal(found.removal?.rule, `plan ${made.id}`);
    assert.equal((await df(loaded.store, OPTIONS)).trash, 36);
    const { refused } = undo(loaded.store, { by: BY, since: NOW });
    assert.deepEqual(refused, []);
    assert.deepEqual(loaded.names(), before);
  });

  test('a plan of which one item was touched removes nothing', async () => {
    using loaded = new LoadedStore(() => NOW).load(population);
    const made = await plan(loaded.store, OPTIONS);
    loaded.store.write(BY, (tx) =>
      tx.patchLabels({ kind: 'content', namespace: 'default', key: digestOf('l') }, { note: 'touched' }),
    );
    const before = loaded.names();
    await assert.rejects(apply(loaded.store, made.id, OPTIONS), { code: Code.FailedPrecondition, name: 'PlanChanged' });
    assert.deepEqual(loaded.names(), before);
  });

  test('emptied trash cannot be undone', async () => {
    using loaded = new LoadedStore(() => NOW).load(population);
    await collect(loaded.store, OPTIONS);
    const [first] = loaded.store.read((view) => view.trash());
    assert.equal((await emptyTrash(loaded.store, { by: BY })).items, 5);
    assert.throws(() => undo(loaded.store, { by: BY, ids: [first?.id ?? 0] }), { code: Code.NotFound });
    const resource = { type: ResourceType.Content, namespace: 'default', key: digestOf('l') };
    assert.match((await why(loaded.store, resource, OPTIONS)).lines.at(-1) ?? '', /gone for good/);
  });
});
