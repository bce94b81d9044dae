/**
 * The same survivors as a real containerd: random populations are loaded into it and into Lamina's
 * store, both collect, and what is left must be equal; so must be what the marking alone says. What
 * containerd 1.6 does not know (expiring images, back references, conditions, leased images,
 * sandboxes, names behind gc.root) is left out; test/unit/gc has tables.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { collect } from '../../../src/collect/index.js';
import { type NamespaceMetadata, scan, typeName } from '../../../src/gc/index.js';
import { Containerd } from '../../lib/containerd.js';
import { LoadedStore } from '../../lib/store-load.js';
import { digestOf, RealStore } from './real-store.js';

const POPULATIONS = Number(process.env['LAMINA_TEST_POPULATIONS'] ?? 500);
/** Of one round: they share a collection. */
const AT_ONCE = 50;
const PAST = '2020-01-01T00:00:00Z';
const FUTURE = '2999-01-01T00:00:00Z';
const SNAPSHOTTER = 'native';

/** Names of blobs and snapshots in a population: few, so that references meet. */
const NAMES = ['a', 'b', 'c', 'd', 'e', 'f'];

interface Label {
  readonly name: string;
  readonly of: 'content' | 'snapshot' | 'nothing';
  readonly target: string;
}

const label: fc.Arbitrary<Label> = fc.record({
  name: fc.constantFrom(
    'ref.content',
    'ref.content.0',
    'ref.content/1',
    'ref.contentx',
    `ref.snapshot.${SNAPSHOTTER}`,
    `ref.snapshot.${SNAPSHOTTER}/0`,
    `ref.snapshot.${SNAPSHOTTER}.0`,
    'root',
    'expire',
    'flat',
    'unknown',
  ),
  of: fc.constantFrom('content', 'snapshot', 'nothing'),
  target: fc.constantFrom(...NAMES, 'missing'),
});

const labels = fc.array(label, { maxLength: 2 });
const names = fc.uniqueArray(fc.constantFrom(...NAMES), { maxLength: NAMES.length });
const some = fc.array(fc.constantFrom(...NAMES, 'missing'), { maxLength: 3 });

const populations = fc.record({
  content: fc.array(fc.tuple(fc.constantFrom(...NAMES), labels), { maxLength: 6 }),
  snapshots: fc.array(fc.tuple(names, fc.constantFrom(-1, 0, 1, 2), labels), { maxLength: 5 }),
  images: fc.array(fc.tuple(fc.constantFrom(...NAMES), labels), { maxLength: 2 }),
  containers: fc.array(fc.tuple(fc.option(fc.constantFrom('s0', 's1', 's9')), labels), { maxLength: 2 }),
  leases: fc.array(
    fc.record({
      expire: fc.constantFrom(undefined, PAST, FUTURE, 'never'),
      isFlat: fc.boolean(),
      content: some,
      snapshots: fc.array(fc.constantFrom('s0', 's1', 's2', 's9'), { maxLength: 2 }),
    }),
    { maxLength: 3 },
  ),
});

type Drawn = typeof populations extends fc.Arbitrary<infer T> ? T : never;

/**
 * The texts of all blobs, by their digests. Blobs are shared by namespaces, so their texts name the
 * population.
 */
type Texts = Map<string, string>;

function labelsOf(drawn: readonly Label[], digest: (name: string) => string): Record<string, string> {
  return Object.fromEntries(
    drawn.map(({ name, target }) => {
      const value = name.startsWith('ref.content')
        ? digest(target)
        : name.startsWith('ref.snapshot')
          ? `s${NAMES.indexOf(target)}`
          : PAST;
      return [`containerd.io/gc.${name}`, value];
    }),
  );
}

function make(drawn: Drawn, namespace: string, texts: Texts): NamespaceMetadata {
  const digest = (name: string): string => {
    const text = `${namespace} ${name}`;
    texts.set(digestOf(text), text);
    return digestOf(text);
  };
  const key = (name: string): string => `${SNAPSHOTTER}/${name}`;
  const blobs = new Map(drawn.content.map(([name, own]) => [digest(name), labelsOf(own, digest)] as const));
  return {
    name: namespace,
    content: [...blobs].map(([of, own]) => ({ digest: of, labels: own })),
    snapshots: drawn.snapshots.map(([, parent, own], index) => ({
      key: key(`s${index}`),
      parent: parent >= 0 && parent < index ? key(`s${parent}`) : undefined,
      labels: labelsOf(own, digest),
    })),
    images: drawn.images.map(([name, own], index) => ({
      name: `image${index}`,
      target: digest(name),
      // An expiry of images is new in containerd 2.0.
      labels: labelsOf(
        own.filter((one) => one.name !== 'expire'),
        digest,
      ),
    })),
    containers: drawn.containers.map(([snapshot, own], index) => ({
      id: `container${index}`,
      snapshot: snapshot === null ? undefined : key(snapshot),
      labels: labelsOf(own, digest),
    })),
    leases: drawn.leases.map(({ expire, isFlat, content, snapshots }, index) => ({
      id: `lease${index}`,
      content: [...new Set(content)].map(digest),
      snapshots: [...new Set(snapshots)].map(key),
      ingests: [],
      images: [],
      labels: {
        ...(expire === undefined ? {} : { 'containerd.io/gc.expire': expire }),
        ...(isFlat ? { 'containerd.io/gc.flat': 'yes' } : {}),
      },
    })),
    ingests: [],
    sandboxes: [],
  };
}

/** What the marking keeps, without any store. */
function marked(population: NamespaceMetadata): Set<string> {
  const { graph, candidates } = scan([population], { now: Date.now() });
  const marking = graph.mark();
  return new Set(
    candidates.filter((resource) => marking.isKept(resource)).map(({ type, key }) => `${typeName(type)} ${key}`),
  );
}

let daemon: Containerd;

before(async () => {
  // Nothing is collected before all is there: only a lease's synchronous deletion asks for it.
  daemon = await Containerd.start({
    config: ['[plugins."io.containerd.gc.v1.scheduler"]', 'deletion_threshold = 1000000', 'mutation_threshold = 0'],
  });
});

after(async () => {
  await daemon.stop();
});

let count = 0;

/** Loads populations, collects once, and returns those whose survivors differ. */
async function differing(drawn: readonly Drawn[]): Promise<string[]> {
  const texts: Texts = new Map();
  const loaded = drawn.map((one) => {
    count += 1;
    const population = make(one, `${daemon.marker}-${count}`, texts);
    return { population, store: new RealStore(daemon.address, population.name) };
  });
  try {
    await Promise.all(loaded.map(({ population, store }) => store.load(population, texts)));
    await loaded[0]?.store.collect();
    using lamina = new LoadedStore().load(...loaded.map(({ population }) => population));
    const { failures } = await collect(lamina.store, { by: { command: 'test' }, gapMs: 0 });
    // A date that is none is reported.
    assert.deepEqual(
      failures.filter(({ subject }) => subject !== 'label'),
      [],
    );
    const kept = Map.groupBy(lamina.names(), (name) => name.split('/')[0] ?? '');
    const found = await Promise.all(
      loaded.map(async ({ population, store }) => {
        const sides = {
          containerd: [...(await store.survivors(population))],
          'the store': (kept.get(population.name) ?? []).map((name) => name.slice(population.name.length + 1)),
          'the marking': [...marked(population)],
        };
        const texts = Object.entries(sides).map(([side, names]) => [side, names.sort().join('\n  ')] as const);
        if (texts.every(([, text]) => text === texts[0]?.[1])) return '';
        return `${texts.map(([side, text]) => `${side} keeps\n  ${text}`).join('\n')}\nof ${JSON.stringify(population)}`;
      }),
    );
    return found.filter((difference) => difference !== '');
  } finally {
    for (const { store } of loaded) store[Symbol.dispose]();
  }
}

/** The parts of a population that can be left out, one at a time. */
function* smaller(drawn: Drawn): Generator<Drawn> {
  for (const part of ['content', 'snapshots', 'images', 'containers', 'leases'] as const) {
    for (let index = 0; index < drawn[part].length; index += 1) {
      yield { ...drawn, [part]: drawn[part].filter((_, at) => at !== index) };
    }
  }
}

/** Leaves out what the difference does not need. */
async function shrunk(drawn: Drawn): Promise<string> {
  let [found = ''] = await differing([drawn]);
  for (const candidate of smaller(drawn)) {
    const [difference] = await differing([candidate]);
    if (difference !== undefined) return await shrunk(candidate);
  }
  if (found === '') found = `the same alone: ${JSON.stringify(drawn)}`;
  return found;
}

test(`survivors: ${POPULATIONS} random populations leave what containerd leaves`, async (context) => {
  const seed = Number(process.env['LAMINA_TEST_SEED'] ?? Math.trunc(Math.random() * 2 ** 31));
  context.diagnostic(`LAMINA_TEST_SEED=${seed}`);
  const drawn = fc.sample(populations, { numRuns: POPULATIONS, seed });
  for (let at = 0; at < drawn.length; at += AT_ONCE) {
    const round = drawn.slice(at, at + AT_ONCE);
    if ((await differing(round)).length === 0) continue;
    for (const one of round) {
      if ((await differing([one])).length > 0) assert.fail(await shrunk(one));
    }
    assert.fail(`populations ${at} to ${at + AT_ONCE} differ, and none of them alone`);
  }
});
