/** What is read of a real containerd is what was loaded into it. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Code } from '../../../src/base/index.js';
import {
  DaemonNamespace,
  GrpcConnection,
  listNamespaces,
  readDaemon,
  versionOf,
} from '../../../src/containerd/index.js';
import type { NamespaceMetadata } from '../../../src/gc/index.js';
import { Containerd } from '../../lib/containerd.js';
import { digestOf, RealStore } from '../gc/real-store.js';

const HOUR_MS = 3_600_000;
const texts = new Map(['manifest', 'layer', 'left'].map((text) => [digestOf(text), text]));
const [manifest = '', layer = '', left = ''] = texts.keys();

function population(name: string): NamespaceMetadata {
  return {
    name,
    content: [
      { digest: manifest, labels: { 'containerd.io/gc.ref.content.l.0': layer } },
      { digest: layer, labels: {} },
      { digest: left, labels: {} },
    ],
    snapshots: [
      { key: 'native/base', parent: undefined, labels: { 'containerd.io/gc.root': 'yes' } },
      { key: 'native/top', parent: 'native/base', labels: {} },
    ],
    images: [{ name: 'example/image:1', target: manifest, labels: {} }],
    containers: [{ id: 'web', snapshot: 'native/top', labels: { 'containerd.io/gc.ref.content': left } }],
    leases: [
      {
        id: 'pull',
        labels: { 'containerd.io/gc.expire': '2999-01-01T00:00:00Z' },
        content: [left],
        snapshots: ['native/base'],
        ingests: [],
        images: [],
      },
    ],
    ingests: [],
    sandboxes: [],
  };
}

describe('a real containerd', () => {
  let daemon: Containerd;
  let connection: GrpcConnection;
  before(async () => {
    daemon = await Containerd.start({
      config: ['[plugins."io.containerd.gc.v1.scheduler"]', 'deletion_threshold = 1000000', 'mutation_threshold = 0'],
    });
    connection = new GrpcConnection(daemon.address);
  });
  after(async () => {
    connection[Symbol.dispose]();
    await daemon.stop();
  });

  it('says its version, and its namespaces', async () => {
    assert.equal(await versionOf(connection), daemon.version);
    const loaded = population(`${daemon.marker}-names`);
    using store = new RealStore(daemon.address, loaded.name);
    await store.load(loaded, texts);
    assert.deepEqual(await listNamespaces(connection), [loaded.name]);
  });

  it('is read as it was loaded: labels, parents, targets, leases and their resources, bytes', async () => {
    const loaded = population(`${daemon.marker}-read`);
    using store = new RealStore(daemon.address, loaded.name);
    await store.load(loaded, texts);
    const [reading] = await readDaemon(connection, [loaded.name]);
    assert.ok(reading !== undefined);
    assert.equal(reading.isSteady, true);
    const { metadata } = reading;
    const byKey = <T>(items: readonly T[], key: (item: T) => string): T[] =>
      items.toSorted((a, b) => key(a).localeCompare(key(b)));
    const digests = ({ digest }: { readonly digest: string }): string => digest;
    assert.deepEqual(
      byKey(metadata.content, digests).map(({ digest, labels }) => ({ digest, labels })),
      byKey(loaded.content, digests),
    );
    assert.deepEqual(
      byKey(metadata.snapshots, ({ key }) => key),
      loaded.snapshots,
    );
    assert.deepEqual(metadata.images, loaded.images);
    assert.deepEqual(metadata.containers, loaded.containers);
    assert.deepEqual(metadata.sandboxes, []);
    assert.deepEqual(
      metadata.leases.map(({ id, labels, content, snapshots, ingests, images }) => ({
        ...{ id, labels, content, snapshots, ingests, images },
      })),
      loaded.leases,
    );
    for (const { digest, bytes } of metadata.content) assert.equal(bytes, texts.get(digest)?.length);
    const usage = await new DaemonNamespace(connection, loaded.name).usage(['native/base', 'native/nosuch']);
    assert.deepEqual([...usage.keys()], ['native/base']);
  });

  it('has ingests that end a day after their start, or with their lease', async () => {
    const name = `${daemon.marker}-ingest`;
    const before = Date.now();
    using store = new RealStore(daemon.address, name);
    await store.begin('upload');
    const [reading] = await readDaemon(connection, [name]);
    const [ingest] = reading?.metadata.ingests ?? [];
    assert.equal(ingest?.ref, 'upload');
    const start = (ingest?.expireAt ?? 0) - 24 * HOUR_MS;
    assert.ok(start >= before - 1_000 && start <= Date.now() + 1_000, String(start));
  });

  it('takes leases and their resources, and refuses what it refuses with its own words and the address', async () => {
    const name = `${daemon.marker}-lease`;
    const loaded = population(name);
    using store = new RealStore(daemon.address, name);
    await store.load(loaded, texts);
    const namespace = new DaemonNamespace(connection, name);
    await namespace.createLease('mine', { 'containerd.io/gc.flat': 'yes' });
    await namespace.addToLease('mine', 'snapshots/native', 'top');
    const lease = (await namespace.leases()).find(({ id }) => id === 'mine');
    assert.deepEqual(lease?.snapshots, ['native/top']);
    assert.deepEqual(lease?.labels, { 'containerd.io/gc.flat': 'yes' });
    const about = { subject: daemon.address };
    await assert.rejects(namespace.createLease('mine', {}), { code: Code.AlreadyExists, ...about });
    await assert.rejects(namespace.addToLease('nosuch', 'content', layer), { code: Code.NotFound, ...about });
    await assert.rejects(namespace.addToLease('mine', 'content', 'x'), { code: Code.InvalidArgument, ...about });
    await namespace.deleteLease('mine', 60_000);
    await assert.rejects(namespace.deleteLease('mine'), { code: Code.NotFound, ...about });
  });

  it('that dies while it is asked, or is gone, is an error with its address', async () => {
    await daemon.killHard();
    await assert.rejects(readDaemon(connection), { code: Code.Unavailable, subject: daemon.address });
  });
});
