import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { FLAT, GraphBuilder, ResourceType, typeName } from '../../../src/gc/index.js';

/** A graph of content nodes 0 … n−1, some of them named flat by a root. */
interface Plain {
  readonly count: number;
  readonly edges: readonly (readonly [from: number, to: number])[];
  readonly roots: readonly number[];
}

const graphs: fc.Arbitrary<Plain> = fc.integer({ min: 1, max: 40 }).chain((count) => {
  const node = fc.integer({ min: 0, max: count - 1 });
  return fc.record({
    count: fc.constant(count),
    edges: fc.array(fc.tuple(node, node), { maxLength: 120 }),
    roots: fc.array(node, { maxLength: 5 }),
  });
});

const of = (index: number, flag = 0) => ({ type: ResourceType.Content | flag, namespace: 'ns', key: `${index}` });

function build({ count, edges, roots }: Plain) {
  const builder = new GraphBuilder();
  const intern = (index: number): number => builder.intern(ResourceType.Content, 'ns', `${index}`);
  for (let index = 0; index < count; index += 1) intern(index);
  for (const [from, to] of edges) builder.addEdge(intern(from), intern(to), `${from}>${to}`);
  for (const root of roots) builder.addRoot(intern(root), `root ${root}`);
  return builder.build();
}

/** The definition, as slow as it is plain. */
function reachable({ edges, roots }: Plain): Set<number> {
  const reached = new Set(roots);
  for (let grew = true; grew; ) {
    const before = reached.size;
    for (const [from, to] of edges) if (reached.has(from)) reached.add(to);
    grew = reached.size > before;
  }
  return reached;
}

describe('marking', () => {
  test('reaches exactly what the roots lead to', () => {
    fc.assert(
      fc.property(graphs, (plain) => {
        const marking = build(plain).mark();
        const expected = reachable(plain);
        for (let index = 0; index < plain.count; index += 1) {
          assert.equal(marking.isKept(of(index)), expected.has(index), `node ${index}`);
        }
      }),
    );
  });

  test('each proof begins at a root and follows edges that are there', () => {
    fc.assert(
      fc.property(graphs, (plain) => {
        const marking = build(plain).mark();
        for (const index of reachable(plain)) {
          const proof = marking.proof(of(index)) ?? [];
          assert.equal(proof.at(-1)?.resource.key, `${index}`);
          assert.match(proof[0]?.origin ?? '', /^root /);
          for (const [at, step] of proof.slice(1).entries()) {
            assert.equal(step.origin, `${proof[at]?.resource.key}>${step.resource.key}`);
          }
        }
      }),
    );
  });

  test('a further edge never makes anything garbage', () => {
    const withEdge = graphs.chain((plain) => {
      const node = fc.integer({ min: 0, max: plain.count - 1 });
      return fc.tuple(fc.constant(plain), node, node);
    });
    fc.assert(
      fc.property(withEdge, ([plain, from, to]) => {
        const before = build(plain).mark();
        const after = build({ ...plain, edges: [...plain.edges, [from, to]] }).mark();
        for (let index = 0; index < plain.count; index += 1) {
          assert.ok(!before.isKept(of(index)) || after.isKept(of(index)), `node ${index}`);
        }
      }),
    );
  });

  test('what is reached only flat is kept, and nothing is followed from there', () => {
    const builder = new GraphBuilder();
    const [a, b] = ['a', 'b'].map((key) => builder.intern(ResourceType.Content, 'ns', key));
    builder.addEdge(a ?? 0, b ?? 0, 'label');
    builder.addRoot(builder.intern(ResourceType.Content | FLAT, 'ns', 'a'), 'lease');
    const marking = builder.build().mark();
    assert.ok(marking.isKept({ type: ResourceType.Content, namespace: 'ns', key: 'a' }));
    assert.ok(!marking.isKept({ type: ResourceType.Content, namespace: 'ns', key: 'b' }));
    assert.deepEqual(marking.proof({ type: ResourceType.Content, namespace: 'ns', key: 'a' }), [
      { resource: { type: ResourceType.Content, namespace: 'ns', key: 'a' }, origin: 'lease' },
    ]);
  });

  test('a chain of a hundred thousand takes no recursion', () => {
    const builder = new GraphBuilder();
    const COUNT = 100_000;
    for (let index = 0; index < COUNT; index += 1) builder.intern(ResourceType.Content, 'ns', `${index}`);
    for (let index = 1; index < COUNT; index += 1) builder.addEdge(index - 1, index, 'next');
    builder.addRoot(0, 'root');
    const marking = builder.build().mark();
    assert.equal(marking.proof(of(COUNT - 1))?.length, COUNT);
  });

  test('the flat flag is above every type a plug-in can take', () => {
    assert.equal(typeName(ResourceType.Image | FLAT), 'image');
    assert.equal(typeName(30), 'type 30');
  });
});
