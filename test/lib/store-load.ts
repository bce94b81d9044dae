/** Puts populations of the collector's tests into a real store, and asks what is left. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type NamespaceMetadata, ResourceType, typeName } from '../../src/gc/index.js';
import { Store, type Transaction } from '../../src/store/index.js';

const BY = { command: 'test' };

/** A store of its own, removed with what is in it. */
export class LoadedStore implements Disposable {
  readonly root: string;
  readonly store: Store;

  constructor(now?: () => number) {
    this.root = mkdtempSync(join(tmpdir(), 'lamina-store-'));
    this.store = Store.open({ root: this.root, now });
  }

  [Symbol.dispose](): void {
    this.store[Symbol.dispose]();
    rmSync(this.root, { recursive: true, force: true });
  }

  load(...populations: readonly NamespaceMetadata[]): this {
    this.store.write(BY, (transaction) => {
      for (const population of populations) loadInto(transaction, population);
    });
    return this;
  }

  /**
   * What can be removed and is there: `content sha256:…`, or `ns2/content …` outside `default`;
   * sorted.
   */
  names(): string[] {
    const namespaces = this.store.read((view) => [...view.metadata()]);
    return namespaces
      .flatMap(({ name, leases, images, content, ingests, snapshots }) =>
        [
          ...leases.map(({ id }) => [ResourceType.Lease, id] as const),
          ...images.map((image) => [ResourceType.Image, image.name] as const),
          ...content.map(({ digest }) => [ResourceType.Content, digest] as const),
          ...ingests.map(({ ref }) => [ResourceType.Ingest, ref] as const),
          ...snapshots.map(({ key }) => [ResourceType.Snapshot, key] as const),
        ].map(([type, key]) => `${name === 'default' ? '' : `${name}/`}${typeName(type)} ${key}`),
      )
      .sort((a, b) => (a < b ? -1 : 1));
  }
}

/** Short names in a population become digests, in labels too. */
export function digestOf(name: string): string {
  return /^sha256:[0-9a-f]{64}$/.test(name) ? name : `sha256:${createHash('sha256').update(name).digest('hex')}`;
}

/** The same population with digests where content was named shortly. */
export function withDigests(population: NamespaceMetadata): NamespaceMetadata {
  const labels = <T extends { readonly labels: Readonly<Record<string, string>> }>(of: T): T => ({
    ...of,
    labels: Object.fromEntries(
      Object.entries(of.labels).map(([label, value]) => [
        label,
        /gc\.b?ref\.content/.test(label) ? digestOf(value) : value,
      ]),
    ),
  });
  return {
    ...population,
    leases: population.leases.map((one) => labels({ ...one, content: one.content.map(digestOf) })),
    images: population.images.map((one) => labels({ ...one, target: digestOf(one.target) })),
    content: population.content.map((one) => labels({ ...one, digest: digestOf(one.digest) })),
    ingests: population.ingests.map((one) => ({ ...one, expected: one.expected && digestOf(one.expected) })),
    snapshots: population.snapshots.map(labels),
    containers: population.containers.map(labels),
    sandboxes: population.sandboxes.map(labels),
  };
}

function loadInto(tx: Transaction, population: NamespaceMetadata): void {
  const { name: namespace, leases, images, content, ingests, snapshots, containers, sandboxes } = population;
  for (const { digest, labels, bytes = 0 } of content) tx.addBlob(namespace, { digest, labels, size: bytes });
  // In the order of the list, in which parents come first.
  for (const { key, parent, labels, bytes = 0 } of snapshots) {
    const [snapshotter = '', name = ''] = key.split('/');
    const of = parent?.split('/')[1];
    const backend = createHash('sha256').update(`${namespace}/${key}`).digest('hex');
    const usage = { bytes, inodes: 1 };
    tx.createSnapshot(namespace, { snapshotter, name, parent: of, kind: 'committed', backend, usage, labels });
  }
  for (const { name, target, labels } of images) {
    tx.putImage(namespace, {
      name,
      target: { mediaType: 'application/octet-stream', digest: target, size: 0 },
      labels,
    });
  }
  for (const { ref, expected, expireAt } of ingests) tx.putIngest(namespace, { ref, expected, expiresAt: expireAt });
  for (const { id, snapshot, labels } of containers) {
    const [snapshotter, snapshotKey] = snapshot?.split('/') ?? [];
    tx.createContainer(namespace, { id, snapshotter, snapshotKey, labels });
  }
  for (const { id, labels } of sandboxes) tx.createSandbox(namespace, { id, labels });
  for (const lease of leases) {
    tx.createLease(namespace, { id: lease.id, labels: lease.labels, owner: lease.owner });
    const add = (type: string, ids: readonly string[]): void => {
      for (const id of new Set(ids)) tx.addLeaseResource(namespace, lease.id, { type, id });
    };
    add('content', lease.content);
    add('ingests', lease.ingests);
    add('images', lease.images);
    for (const key of lease.snapshots) {
      const [snapshotter = '', name = ''] = key.split('/');
      add(`snapshots/${snapshotter}`, [name]);
    }
  }
}
