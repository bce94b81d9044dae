import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { explain, ResourceType, type RunningCollector, scan } from '../../../src/gc/index.js';
import {
  blob,
  container,
  FUTURE,
  gc,
  image,
  ingest,
  lease,
  NOW,
  namespace,
  PAST,
  sandbox,
  snapshot,
  survivors,
} from './kit.js';

const kept = (parts: Parameters<typeof namespace>[1], options?: Parameters<typeof survivors>[1]): string[] =>
  survivors([namespace('default', parts)], options);

describe('roots', () => {
  test('images are roots until they expire', () => {
    const images = [
      image('plain', 'a'),
      image('future', 'b', { expire: FUTURE }),
      image('past', 'c', { expire: PAST }),
      image('never', 'd', { expire: 'tomorrow' }),
    ];
    const content = ['a', 'b', 'c', 'd'].map((digest) => blob(digest));
    assert.deepEqual(kept({ images, content }), [
      'content a',
      'content b',
      'content d',
      'image future',
      'image never',
      'image plain',
    ]);
  });

  test('the moment of expiry itself is not past', () => {
    assert.deepEqual(kept({ images: [image('now', 'a', { expire: '2026-06-01T12:00:00Z' })] }), ['image now']);
  });

  test('an invalid date is reported once and never expires', () => {
    const lines: string[] = [];
    kept({ leases: [lease('l', { labels: { expire: 'soon' } })] }, { onInvalid: (line) => lines.push(line) });
    assert.deepEqual(lines, ['lease l: "soon" is no RFC 3339 time: it never expires']);
  });

  test('leases keep what they name until they expire, and go then', () => {
    const named = { content: ['a'], snapshots: ['fs/s'], ingests: ['i'], images: ['img'] };
    const rest = {
      content: [blob('a'), blob('b')],
      snapshots: [snapshot('fs/s')],
      ingests: [ingest('i', undefined, 'b')],
      images: [image('img', 'a', { expire: PAST })],
    };
    assert.deepEqual(kept({ ...rest, leases: [lease('l', named)] }), [
      'content a',
      'content b',
      'image img',
      'ingest i',
      'lease l',
      'snapshot fs/s',
    ]);
    assert.deepEqual(kept({ ...rest, leases: [lease('l', { ...named, labels: { expire: PAST } })] }), []);
  });

  test('an ingest without a lease lives until its time, and without a time not at all', () => {
    assert.deepEqual(kept({ ingests: [ingest('future', NOW + 1), ingest('past', NOW - 1), ingest('none')] }), [
      'ingest future',
    ]);
  });

  test('labels that begin with gc.root make content and snapshots roots, and nothing else', () => {
    assert.deepEqual(
      kept({
        content: [blob('a', { root: '' }), blob('b', { rootless: 'x' }), blob('c')],
        snapshots: [snapshot('fs/s', undefined, { root: '1' })],
        images: [image('i', 'c', { root: '', expire: PAST })],
      }),
      ['content a', 'content b', 'snapshot fs/s'],
    );
  });

  test('containers keep their snapshot and what they label; the container itself is never removed', () => {
    assert.deepEqual(
      kept({
        containers: [container('c', 'fs/s', { 'ref.content': 'a', 'ref.image': 'i' })],
        snapshots: [snapshot('fs/s', 'fs/p'), snapshot('fs/p'), snapshot('other/s')],
        content: [blob('a')],
        images: [image('i', 'b', { expire: PAST })],
      }),
      ['content a', 'image i', 'snapshot fs/p', 'snapshot fs/s'],
    );
  });

  test('the labels of sandboxes keep, whatever becomes of the sandbox', () => {
    assert.deepEqual(
      kept({ sandboxes: [sandbox('s', { 'ref.snapshot.fs': 'x', root: '' })], snapshots: [snapshot('fs/x')] }),
      ['snapshot fs/x'],
    );
  });

  test('an edge never leaves its namespace', () => {
    assert.deepEqual(
      survivors([
        namespace('default', { images: [image('i', 'a')], content: [blob('a')] }),
        namespace('other', { content: [blob('a')] }),
      ]),
      ['content a', 'image i'],
    );
  });
});

describe('labels', () => {
  const fromRoot = (labels: Record<string, string>) => [blob('root', { root: '', ...labels })];

  test('references take a name behind a dot or a slash, and nothing else', () => {
    const labels = { 'ref.content': 'a', 'ref.content.x': 'b', 'ref.content/x': 'c', 'ref.contentx': 'd' };
    const content = [...fromRoot(labels), ...['a', 'b', 'c', 'd'].map((digest) => blob(digest))];
    assert.deepEqual(kept({ content }), ['content a', 'content b', 'content c', 'content root']);
  });

  test('a snapshot reference names its snapshotter up to a slash, dots included', () => {
    const labels = { 'ref.snapshot.fs': 'a', 'ref.snapshot.fs/1': 'b', 'ref.snapshot.fs.1': 'c' };
    const snapshots = ['fs/a', 'fs/b', 'fs/c', 'fs.1/c'].map((key) => snapshot(key));
    assert.deepEqual(kept({ content: fromRoot(labels), snapshots }), [
      'content root',
      'snapshot fs.1/c',
      'snapshot fs/a',
      'snapshot fs/b',
    ]);
  });

  test('a back reference keeps the child while its parent is reached', () => {
    const child = (of: string) => blob('child', { 'bref.image': of });
    const images = [image('live', 'x'), image('dead', 'x', { expire: PAST })];
    assert.deepEqual(kept({ images, content: [child('live')] }), ['content child', 'image live']);
    assert.deepEqual(kept({ images, content: [child('dead')] }), ['image live']);
  });

  test('back references name containers, content, images and snapshots', () => {
    assert.deepEqual(
      kept({
        containers: [container('c', 'fs/s')],
        content: [
          blob('a', { 'bref.container/1': 'c' }),
          blob('b', { 'bref.content.1': 'a' }),
          blob('d', { 'bref.snapshot.fs': 's' }),
          blob('e', { 'bref.snapshot.other': 's' }),
        ],
        snapshots: [snapshot('fs/s')],
      }),
      ['content a', 'content b', 'content d', 'snapshot fs/s'],
    );
  });

  test('an expired image is kept by a back reference', () => {
    const images = [image('old', 'a', { expire: PAST, 'bref.container': 'c' })];
    assert.deepEqual(kept({ images, content: [blob('a')], containers: [container('c')] }), ['content a', 'image old']);
  });

  test('cycles without a root are garbage', () => {
    assert.deepEqual(kept({ content: [blob('a', { 'ref.content': 'b' }), blob('b', { 'ref.content': 'a' })] }), []);
  });
});

describe('flat leases', () => {
  test('keep what they name, and the parents of snapshots, without what labels refer to', () => {
    assert.deepEqual(
      kept({
        leases: [lease('l', { labels: { flat: '' }, content: ['a'], snapshots: ['fs/s'], images: ['i'] })],
        content: [blob('a', { 'ref.content': 'b' }), blob('b'), blob('t', { 'ref.content': 'b' })],
        snapshots: [snapshot('fs/s', 'fs/p', { 'ref.content': 'b' }), snapshot('fs/p', 'fs/q'), snapshot('fs/q')],
        images: [image('i', 't', { expire: PAST })],
      }),
      ['content a', 'content t', 'image i', 'lease l', 'snapshot fs/p', 'snapshot fs/q', 'snapshot fs/s'],
    );
  });

  test('what another root reaches as well is followed', () => {
    assert.deepEqual(
      kept({
        leases: [lease('l', { labels: { flat: '' }, content: ['a'] }), lease('m', { content: ['a'] })],
        content: [blob('a', { 'ref.content': 'b' }), blob('b')],
      }),
      ['content a', 'content b', 'lease l', 'lease m'],
    );
  });

  test('back references of what is kept flat keep nothing', () => {
    assert.deepEqual(
      kept({
        leases: [lease('l', { labels: { flat: '' }, content: ['a'] })],
        content: [blob('a'), blob('child', { 'bref.content': 'a' })],
      }),
      ['content a', 'lease l'],
    );
  });
});

describe('conditions', () => {
  const usedAgo = (ms: number) =>
    snapshot('fs/s', undefined, { 'cond.value-usedat': new Date(NOW - ms).toISOString() });
  const HOUR = 3_600_000;
  const cases: readonly (readonly [label: string, value: string, usedMs: number, isKept: boolean])[] = [
    ['cond.snapshot.fs', 'usedat<2h|s', HOUR, true],
    ['cond.snapshot.fs', 'usedat<2h|s', 3 * HOUR, false],
    ['cond.snapshot.fs', 'usedat>2h|s', 3 * HOUR, true],
    ['cond.snapshot.fs', 'usedat>2h|s', HOUR, false],
    ['cond.snapshot.fs', 'usedat<1m,usedat>2h|s', 3 * HOUR, true],
    ['cond.snapshot.fs', 'usedat<1m,usedat>2h|s', HOUR, false],
    ['cond.snapshot/fs/name', 'usedat<2h|s', HOUR, true],
    ['cond.snapshot.other', 'usedat<2h|s', HOUR, false],
    ['cond.snapshot.fs', 'usedat=1h|s', HOUR, false],
    ['cond.snapshot.fs', 'usedat<2|s', HOUR, false],
    ['cond.snapshot.fs', 'other<2h|s', HOUR, false],
    ['cond.snapshot.fs', 'usedat<2h', HOUR, false],
    ['cond.snapshot.fs', 'bad,usedat<2h|s', HOUR, true],
  ];
  for (const [label, value, usedMs, isKept] of cases) {
    test(`${label} "${value}" ${isKept ? 'keeps' : 'does not keep'} what was used ${usedMs / HOUR} h ago`, () => {
      const images = [image('i', 'x', { [label]: value })];
      assert.deepEqual(kept({ images, snapshots: [usedAgo(usedMs)] }), [
        'image i',
        ...(isKept ? ['snapshot fs/s'] : []),
      ]);
    });
  }

  test('a snapshot that says nothing of its use meets no condition', () => {
    const images = [image('i', 'x', { 'cond.snapshot.fs': 'usedat>0s|s' })];
    assert.deepEqual(kept({ images, snapshots: [snapshot('fs/s')] }), ['image i']);
  });

  test('the condition of garbage keeps nothing', () => {
    const content = [blob('a', { 'cond.snapshot.fs': 'usedat<2h|s' })];
    assert.deepEqual(kept({ content, snapshots: [usedAgo(HOUR)] }), []);
  });
});

describe('collectors', () => {
  const TYPE = 12;
  const of = (key: string) => ({ type: TYPE, namespace: 'default', key });
  const running = (parts: Partial<RunningCollector['collection']>): RunningCollector => ({
    collector: { type: TYPE, referenceLabel: 'thing' },
    collection: {
      all: () => ['a', 'b', 'c', 'd'].map(of),
      active: () => [],
      leased: () => [],
      ...parts,
    },
  });

  test('active and leased resources are kept, and what a label names', () => {
    const collector = running({
      active: () => [of('a')],
      leased: (_, id) => (id === 'l' ? [of('b')] : []),
    });
    const parts = { leases: [lease('l')], containers: [container('x', undefined, { 'ref.thing': 'c' })] };
    assert.deepEqual(kept(parts, { collectors: [collector] }), ['lease l', 'type 12 a', 'type 12 b', 'type 12 c']);
  });

  test('what an expired lease holds goes with it', () => {
    const collector = running({ leased: () => [of('b')] });
    const parts = { leases: [lease('l', { labels: { expire: PAST } })] };
    assert.deepEqual(kept(parts, { collectors: [collector] }), []);
  });

  test('references and back references of a plug-in keep', () => {
    const content = (key: string) => ({ type: ResourceType.Content, namespace: 'default', key });
    const collector = running({
      active: () => [of('a')],
      references: ({ key }) => (key === 'a' ? [content('x')] : key === 'b' ? [content('y')] : []),
      backReferences: () => [[content('x'), of('d')]],
    });
    assert.deepEqual(kept({ content: [blob('x'), blob('y')] }, { collectors: [collector] }), [
      'content x',
      'type 12 a',
      'type 12 d',
    ]);
  });

  test('without its collector a reference label means nothing', () => {
    assert.deepEqual(kept({ containers: [container('x', undefined, { 'ref.thing': 'c' })] }), []);
  });
});

describe('explanations', () => {
  const parts = namespace('default', {
    images: [image('i', 'm'), image('old', 'n', { expire: PAST })],
    content: [blob('m', { 'ref.content.l.0': 'l' }), blob('l'), blob('n'), blob('lone')],
    leases: [lease('gone', { labels: { expire: PAST }, content: ['n'] })],
  });
  const content = (key: string) => ({ type: ResourceType.Content, namespace: 'default', key });
  const scanned = scan([parts], { now: NOW });
  const marking = scanned.graph.mark();

  test('what is kept is shown by the shortest way from a root, with the origin of each edge', () => {
    const found = explain(scanned, marking, content('l'));
    assert.equal(found.kind, 'kept');
    assert.deepEqual(found.kind === 'kept' ? found.proof.map(({ resource, origin }) => [resource.key, origin]) : [], [
      ['i', 'image'],
      ['m', 'target of the image'],
      ['l', `label ${Object.keys(gc({ 'ref.content.l.0': '' }))[0]}`],
    ]);
  });

  test('garbage is shown with what referred to it, and when that expired', () => {
    const found = explain(scanned, marking, content('n'));
    assert.deepEqual(
      found.kind === 'garbage' ? found.lost.map(({ resource, expiredAt }) => [resource.key, expiredAt]) : [],
      [
        ['gone', Date.parse(PAST)],
        ['old', Date.parse(PAST)],
      ],
    );
    assert.deepEqual(explain(scanned, marking, content('lone')), { kind: 'garbage', lost: [] });
  });

  test('an expired root is its own explanation', () => {
    const found = explain(scanned, marking, { type: ResourceType.Lease, namespace: 'default', key: 'gone' });
    assert.deepEqual(found.kind === 'garbage' ? found.lost.map(({ origin }) => origin) : [], ['root']);
  });

  test('what is not there is unknown, also when labels name it', () => {
    assert.deepEqual(explain(scanned, marking, content('nowhere')), { kind: 'unknown' });
    const named = scan([namespace('default', { images: [image('i', 'gone')] })], { now: NOW });
    assert.deepEqual(explain(named, named.graph.mark(), content('gone')), { kind: 'unknown' });
  });
});
