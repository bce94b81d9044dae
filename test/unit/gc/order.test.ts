import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { FLAT, GraphBuilder, ResourceType, removalOrder, type Scan, scan } from '../../../src/gc/index.js';
import { blob, image, lease, NOW, namespace, PAST, snapshot } from './kit.js';

/** A scan of content nodes 0 … n−1; one in three cannot be removed. */
function build(count: number, edges: readonly (readonly [number, number])[], roots: readonly number[]): Scan {
  const builder = new GraphBuilder();
  for (let index = 0; index < count; index += 1) builder.intern(ResourceType.Content, 'ns', `${index}`);
  for (const [from, to] of edges) builder.addEdge(from, to, 'edge');
  for (const root of roots) builder.addRoot(root, 'root');
  return {
    graph: builder.build(),
    candidates: [],
    isCandidate: (id) => id % 3 !== 2,
    lapsed: [],
    bytes: () => 0,
    nextExpiry: undefined,
  };
}

const graphs = fc.integer({ min: 1, max: 30 }).chain((count) => {
  const node = fc.integer({ min: 0, max: count - 1 });
  return fc.record({
    count: fc.constant(count),
    edges: fc.array(fc.tuple(node, node), { maxLength: 80 }),
    roots: fc.array(node, { maxLength: 4 }),
  });
});

/** from → all it leads to. */
function reach(count: number, edges: readonly (readonly [number, number])[]): boolean[][] {
  const leads = Array.from({ length: count }, (_, from) => Array.from({ length: count }, (__, to) => from === to));
  for (let grew = true; grew; ) {
    grew = false;
    for (const [from, to] of edges) {
      for (const row of leads) {
        if (row[from] !== true || row[to] === true) continue;
        row[to] = true;
        grew = true;
      }
    }
  }
  return leads;
}

describe('removal order', () => {
  test('has each piece of garbage once, and nothing else', () => {
    fc.assert(
      fc.property(graphs, ({ count, edges, roots }) => {
        const scanned = build(count, edges, roots);
        const marking = scanned.graph.mark();
        const expected = Array.from({ length: count }, (_, id) => id).filter(
          (id) => scanned.isCandidate(id) && !marking.isReached(id),
        );
        assert.deepEqual(
          removalOrder(scanned, marking)
            .flat()
            .sort((a, b) => a - b),
          expected,
        );
      }),
    );
  });

  test('what refers goes before what it refers to, and a cycle at once', () => {
    fc.assert(
      fc.property(graphs, ({ count, edges, roots }) => {
        const scanned = build(count, edges, roots);
        const groups = removalOrder(scanned, scanned.graph.mark());
        const place = new Map(groups.flatMap((group, at) => group.map((id) => [id, at] as const)));
        const leads = reach(count, edges);
        for (const [a, at] of place) {
          for (const [b, bt] of place) {
            if (a === b || leads[a]?.[b] !== true) continue;
            if (leads[b]?.[a] === true) assert.equal(at, bt, `${a} and ${b} are a cycle`);
            else assert.ok(at < bt, `${a} refers to ${b}`);
          }
        }
      }),
    );
  });

  test('an expired flat lease goes before what it named', () => {
    const scanned = scan(
      [
        namespace('default', {
          leases: [lease('l', { labels: { flat: '', expire: PAST }, content: ['a'], snapshots: ['fs/s'] })],
          images: [image('i', 'a', { expire: PAST })],
          content: [blob('a', { 'ref.content': 'b' }), blob('b')],
          snapshots: [snapshot('fs/p'), snapshot('fs/s', 'fs/p')],
        }),
      ],
      { now: NOW },
    );
    const keys = removalOrder(scanned, scanned.graph.mark())
      .flat()
      .map((id) => scanned.graph.resource(id).key);
    assert.equal(keys.length, 6);
    for (const [before, behind] of [
      ['l', 'a'],
      ['i', 'a'],
      ['a', 'b'],
      ['l', 'fs/s'],
      ['fs/s', 'fs/p'],
    ] as const) {
      assert.ok(keys.indexOf(before) < keys.indexOf(behind), `${before} before ${behind}: ${keys.join(' ')}`);
    }
  });

  test('a chain of a hundred thousand takes no recursion', () => {
    const COUNT = 100_000;
    const edges = Array.from({ length: COUNT - 1 }, (_, at) => [at, at + 1] as const);
    const scanned = { ...build(COUNT, edges, []), isCandidate: () => true };
    const order = removalOrder(scanned, scanned.graph.mark());
    assert.deepEqual(order[0], [0]);
    assert.equal(order.length, COUNT);
  });
});

describe('marking from further roots', () => {
  test('is as if they had been there from the beginning', () => {
    const withLate = graphs.chain((plain) =>
      fc.tuple(fc.constant(plain), fc.array(fc.integer({ min: 0, max: plain.count - 1 }), { maxLength: 5 })),
    );
    fc.assert(
      fc.property(withLate, ([{ count, edges, roots }, late]) => {
        const marking = build(count, edges, roots).graph.mark();
        const before = marking.reachedCount;
        const reached = late.reduce((sum, id) => sum + marking.reach(id, 'late'), 0);
        const whole = build(count, edges, [...roots, ...late]).graph.mark();
        for (let id = 0; id < count; id += 1) assert.equal(marking.isReached(id), whole.isReached(id), `node ${id}`);
        assert.equal(before + reached, whole.reachedCount);
        for (const id of late) {
          const proof = marking.proof({ type: ResourceType.Content, namespace: 'ns', key: `${id}` }) ?? [];
          assert.match(proof[0]?.origin ?? '', /^(root|late)$/);
        }
      }),
    );
  });

  test('what a flat node leads to later is kept with it', () => {
    const builder = new GraphBuilder();
    const plain = builder.intern(ResourceType.Content, 'ns', 'a');
    const lost = builder.intern(ResourceType.Lease, 'ns', 'l');
    builder.addEdge(lost, builder.intern(ResourceType.Content | FLAT, 'ns', 'a'), 'lease l');
    const marking = builder.build().mark();
    assert.ok(!marking.isReached(plain));
    marking.reach(lost, 'changed');
    assert.ok(marking.isReached(plain));
    marking.reach(plain, 'changed');
    assert.ok(marking.isReached(plain));
  });
});
