/**
 * `lamina … --containerd`: over a real containerd, what is said agrees with what that then really
 * does.
 */
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { NamespaceMetadata } from '../../../src/gc/index.js';
import { Containerd } from '../../lib/containerd.js';
import { OwnStore } from '../../lib/own-store.js';
import { digestOf, RealStore } from '../gc/real-store.js';

interface Item {
  readonly type: string;
  readonly namespace: string;
  readonly key: string;
  readonly unique: number;
}

const LAYER = 'layer '.repeat(1_000);
const REF = 'containerd.io/gc.ref.content.0';
let daemon: Containerd;
let store: OwnStore;
let count = 0;
let population: NamespaceMetadata;
let real: RealStore;
/** Digests of this population's blobs, by what they are called. */
let digest: (name: string) => string;

before(async () => {
  // Nothing is collected unless it is asked for.
  daemon = await Containerd.start({
    config: ['[plugins."io.containerd.gc.v1.scheduler"]', 'deletion_threshold = 1000000', 'mutation_threshold = 0'],
  });
  store = new OwnStore();
});
after(async () => {
  store[Symbol.dispose]();
  await daemon.stop();
});

beforeEach(async (context) => {
  count += 1;
  const name = `${daemon.marker}-${count}`;
  const texts = new Map<string, string>();
  digest = (what) => {
    const text = `${name} ${what} ${LAYER}`;
    texts.set(digestOf(text), text);
    return digestOf(text);
  };
  population = {
    name,
    content: [
      { digest: digest('manifest'), labels: { [REF]: digest('layer') } },
      { digest: digest('layer'), labels: {} },
      { digest: digest('left'), labels: { [REF]: digest('child') } },
      { digest: digest('child'), labels: {} },
      { digest: digest('leased'), labels: {} },
    ],
    snapshots: [
      { key: 'native/base', parent: undefined, labels: {} },
      { key: 'native/top', parent: 'native/base', labels: {} },
      { key: 'native/left', parent: undefined, labels: {} },
    ],
    images: [{ name: 'example/image:1', target: digest('manifest'), labels: {} }],
    containers: [{ id: 'web', snapshot: 'native/top', labels: {} }],
    leases: [
      { id: 'pull', labels: {}, content: [digest('leased')], snapshots: [], ingests: [], images: [] },
      {
        ...{ id: 'old', labels: { 'containerd.io/gc.expire': '2020-01-01T00:00:00Z' } },
        ...{ content: [digest('left')], snapshots: ['native/left'], ingests: [], images: [] },
      },
    ],
    ingests: [],
    sandboxes: [],
  };
  real = new RealStore(daemon.address, name);
  await real.load(population, texts);
  if ('after' in context) context.after(() => real[Symbol.dispose]());
});

const on = (): string[] => ['--containerd', daemon.address];
const names = (items: readonly Item[]): string[] =>
  items
    .filter(({ namespace }) => namespace === population.name)
    .map(({ type, key }) => `${type} ${key}`)
    .toSorted();
const garbage = (): string[] =>
  [`content ${digest('left')}`, `content ${digest('child')}`, 'snapshot native/left', 'lease old'].toSorted();

describe('a plan of a containerd', () => {
  it('is what it then removes, and has the bytes', async () => {
    const plan = await store.json<{ id: string; items: Item[] }>(['gc', 'plan', ...on()]);
    assert.deepEqual(names(plan.items), garbage());
    const left = plan.items.find(({ key }) => key === digest('left'));
    assert.equal(left?.unique, `${population.name} left ${LAYER}`.length);
    const applied = await store.json<{ removed: Item[] }>(['gc', 'apply', plan.id, ...on()]);
    assert.deepEqual(names(applied.removed), garbage());
    const survivors = await real.survivors(population);
    for (const name of garbage()) assert.ok(!survivors.has(name), name);
    for (const what of ['manifest', 'layer', 'leased']) assert.ok(survivors.has(`content ${digest(what)}`), what);
    assert.ok(survivors.has('snapshot native/base') && survivors.has('lease pull'));
    await store.fails(['gc', 'apply', plan.id, ...on()], 1, /another plan now, [0-9a-f]{12}: nothing was removed/);
  });

  it('that has changed is refused, and nothing is removed', async () => {
    const { id } = await store.json<{ id: string }>(['gc', 'plan', ...on()]);
    await store.must(['lease', 'create', '--id', 'late', '-n', population.name, ...on()]);
    await store.must(['lease', 'add', 'late', digest('left'), '-n', population.name, ...on()]);
    await store.fails(['gc', 'apply', id, ...on()], 1, /another plan now/);
    assert.ok((await real.survivors(population)).has(`content ${digest('left')}`));
  });

  it('is carried out by gc run, which leaves no lease of its own', async () => {
    const { removed } = await store.json<{ removed: Item[] }>(['gc', 'run', ...on()]);
    assert.deepEqual(names(removed), garbage());
    for (const namespace of daemonNamespaces(removed)) {
      const { leases } = await store.json<{ leases: { id: string }[] }>(['lease', 'ls', '-n', namespace, ...on()]);
      assert.deepEqual(
        leases.filter(({ id }) => !['pull', 'late'].includes(id)),
        [],
      );
    }
  });
});

function daemonNamespaces(items: readonly Item[]): Set<string> {
  return new Set(items.map(({ namespace }) => namespace));
}

describe('why, of a containerd', () => {
  it('tells the way from a root, and what garbage lacks', async () => {
    const why = async (key: string): Promise<string> =>
      await store.must(['gc', 'why', key, '-n', population.name, ...on()]);
    assert.match(
      await why(digest('layer')),
      /is kept\n {2}image example\/image:1 \(image\)\n {2}→ content .*\n {2}→ content .* \(label containerd\.io\/gc\.ref\.content\.0\)\n$/,
    );
    assert.match(
      await why('snapshot/native/base'),
      /container web .*\n {2}→ snapshot native\/top .*\n {2}→ snapshot native\/base \(parent\)\n$/,
    );
    assert.match(await why(digest('leased').slice(7, 27)), /lease pull/);
    assert.match(await why(`content/${digest('child')}`), /is garbage\n.*\n.*lease old.*expired at 2020-01-01/s);
    const asked = ['gc', 'why', 'image/nosuch', '-n', population.name, ...on()];
    assert.deepEqual(await store.run(asked), {
      code: 1,
      stdout: `image nosuch of ${population.name} is not there\n`,
      stderr: '',
    });
    await store.fails(
      ['gc', 'why', 'ab', '-n', 'nosuch', ...on()],
      1,
      /namespace nosuch: not found at .*containerd\.sock; there are: /,
    );
  });
});

describe('df, of a containerd', () => {
  it('has what each owner keeps, and what can be had back', async () => {
    const usage = await store.json<{ owners: (Item & { shared: number })[]; reclaimable: number }>(['df', ...on()]);
    const own = usage.owners.filter(({ namespace }) => namespace === population.name);
    const image = own.find(({ key }) => key === 'example/image:1');
    const bytes = (what: string): number => `${population.name} ${what} ${LAYER}`.length;
    assert.equal(image?.unique, bytes('manifest') + bytes('layer'));
    assert.equal(own.find(({ key }) => key === 'pull')?.unique, bytes('leased'));
    assert.ok(usage.reclaimable >= bytes('left') + bytes('child'));
    assert.match(await store.must(['df', ...on()]), /^image\/example\/image:1 .* KiB +0 B$/m);
  });
});

describe('leases of a containerd', () => {
  it('are made, named in, listed and ended through it, which then collects', async () => {
    const namespace = ['-n', population.name, ...on()];
    const lease = (
      await store.must(['lease', 'create', '--expires', '1h', '--flat', '--label', 'a=b', ...namespace])
    ).trim();
    await store.must(['lease', 'add', lease, digest('left'), 'snapshot/native/left', ...namespace]);
    assert.match(
      await store.must(['lease', 'ls', ...namespace]),
      new RegExp(`^${lease} .* 2 +a=b containerd\\.io/gc\\.flat=yes$`, 'm'),
    );
    const listed = (await daemon.ctr(population.name, ['leases', 'ls'])).stdout;
    assert.ok(listed.includes(lease), listed);
    await store.must(['gc', 'run', ...on()]);
    assert.ok((await real.survivors(population)).has(`content ${digest('left')}`));
    await store.must(['lease', 'rm', lease, ...namespace]);
    const survivors = await real.survivors(population);
    assert.ok(!survivors.has(`content ${digest('left')}`) && !survivors.has('snapshot native/left'));
    await store.fails(['lease', 'rm', lease, ...namespace], 1, /^lamina: containerd at .*: Delete: .*not found/);
    await store.fails(['lease', 'create', '--pid', '1', ...namespace], 2, /containerd knows no leases of processes/);
  });
});

describe('a containerd that cannot be asked', () => {
  const commands: readonly (readonly string[])[] = [
    ['gc', 'plan'],
    ['gc', 'why', 'ab'],
    ['df'],
    ['gc', 'run'],
    ['lease', 'ls'],
  ];

  it('is an error with its address and what to do, and never an empty answer', async () => {
    for (const args of commands) {
      await store.fails(
        [...args, '--containerd', '/nosuch.sock'],
        1,
        /^lamina: containerd at \/nosuch\.sock: there is no such socket: is containerd started/,
      );
      await store.fails(
        [...args, '--containerd', 'tcp://1.2.3.4'],
        1,
        /containerd's address "tcp:\/\/1\.2\.3\.4": expected the path/,
      );
      await store.fails(
        [...args, '--containerd', daemon.ttrpcAddress, '--timeout', '1'],
        1,
        /^lamina: containerd at .*\.ttrpc: /,
      );
    }
    await store.fails(['content', 'ls', ...on()], 2, /lamina content ls has no option --containerd/);
  });

  it('is not taken from the environment', async () => {
    await store.fails(['lease', 'ls'], 1, /there is no store/, { env: { CONTAINERD_ADDRESS: daemon.address } });
  });
});
