/** Loads a population into a real containerd through its API, and asks what is left of it. */
import { createHash } from 'node:crypto';
import { Code, codeOf } from '../../../src/base/index.js';
import { ContainersDefinition } from '../../../src/containerd/gen/daemon/containers.js';
import { ContentDefinition } from '../../../src/containerd/gen/daemon/content.js';
import { ImagesDefinition } from '../../../src/containerd/gen/daemon/images.js';
import { LeasesDefinition } from '../../../src/containerd/gen/daemon/leases.js';
import { SnapshotsDefinition } from '../../../src/containerd/gen/daemon/snapshots.js';
import { GrpcConnection } from '../../../src/containerd/index.js';
import type { NamespaceMetadata } from '../../../src/gc/index.js';

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

/** The text whose digest a blob of a population has: a blob is named by its text. */
export function digestOf(text: string): string {
  return `sha256:${createHash('sha256').update(text).digest('hex')}`;
}

/** One namespace of a real containerd. */
export class RealStore implements Disposable {
  readonly #connection: GrpcConnection;
  readonly #leases;
  readonly #content;
  readonly #images;
  readonly #snapshots;
  readonly #containers;

  constructor(address: string, namespace: string) {
    this.#connection = new GrpcConnection(address, { metadata: { 'containerd-namespace': namespace } });
    this.#leases = this.#connection.client(LeasesDefinition);
    this.#content = this.#connection.client(ContentDefinition);
    this.#images = this.#connection.client(ImagesDefinition);
    this.#snapshots = this.#connection.client(SnapshotsDefinition);
    this.#containers = this.#connection.client(ContainersDefinition);
  }

  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]();
  }

  /** @param texts digest → text of the blobs */
  async load(population: NamespaceMetadata, texts: ReadonlyMap<string, string>): Promise<void> {
    await Promise.all(population.content.map((blob) => this.#write(blob.labels, texts.get(blob.digest) ?? '')));
    // In the order of the list, in which parents come first.
    for (const { key, parent, labels } of population.snapshots) await this.#snapshot(key, parent, labels);
    for (const { name, target, labels } of population.images) {
      const image = { name, labels: { ...labels }, target: { mediaType: MANIFEST, digest: target, size: 1n } };
      await this.#images.create({ image: { ...image, createdAt: undefined, updatedAt: undefined } });
    }
    for (const { id, snapshot, labels } of population.containers) {
      const [snapshotter = '', snapshotKey = ''] = snapshot?.split('/') ?? [];
      const spec = { typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/Spec', value: Buffer.from('{}') };
      const runtime = { name: 'io.containerd.runc.v2' };
      await this.#containers.create({
        container: { id, labels: { ...labels }, image: '', runtime, spec, snapshotter, snapshotKey },
      });
    }
    for (const { id, labels, content, snapshots } of population.leases) {
      await this.#leases.create({ id, labels: { ...labels } });
      for (const digest of content) await this.#leases.addResource({ id, resource: { id: digest, type: 'content' } });
      for (const key of snapshots) {
        const [snapshotter, name = ''] = key.split('/');
        await this.#leases.addResource({ id, resource: { id: name, type: `snapshots/${snapshotter}` } });
      }
    }
  }

  /** Begins an ingest, and leaves it. */
  async begin(ref: string): Promise<void> {
    const data = new Uint8Array();
    await this.#content.write({ action: 1, ref, total: 0n, expected: '', offset: 0n, data, labels: {} });
  }

  /** Runs a collection of the whole daemon, and resolves when it is over. */
  async collect(): Promise<void> {
    await this.#leases.create({ id: 'trigger', labels: {} });
    await this.#leases.delete({ id: 'trigger', sync: true });
  }

  /** Of what can be removed, what is there. */
  async survivors(population: NamespaceMetadata): Promise<Set<string>> {
    const left = new Set<string>();
    const leases = new Set((await this.#leases.list({ filters: [] })).leases.map(({ id }) => id));
    for (const { id } of population.leases) if (leases.has(id)) left.add(`lease ${id}`);
    const images = new Set((await this.#images.list({ filters: [] })).images.map(({ name }) => name));
    for (const { name } of population.images) if (images.has(name)) left.add(`image ${name}`);
    await Promise.all([
      ...population.content.map(async ({ digest }) => {
        if (await exists(this.#content.info({ digest }))) left.add(`content ${digest}`);
      }),
      ...population.snapshots.map(async ({ key }) => {
        const [snapshotter = '', name = ''] = key.split('/');
        if (await exists(this.#snapshots.stat({ snapshotter, key: name }))) left.add(`snapshot ${key}`);
      }),
    ]);
    return left;
  }

  async #write(labels: Readonly<Record<string, string>>, text: string): Promise<void> {
    const data = Buffer.from(text);
    const expected = digestOf(text);
    const ref = `write-${expected}`;
    const total = BigInt(data.length);
    await this.#content.write({ action: 2, ref, total, expected, offset: 0n, data, labels: { ...labels } });
  }

  async #snapshot(key: string, parent: string | undefined, labels: Readonly<Record<string, string>>): Promise<void> {
    const [snapshotter = '', name = ''] = key.split('/');
    const [, parentName = ''] = parent?.split('/') ?? [];
    const own = { ...labels };
    await this.#snapshots.prepare({ snapshotter, key: `new-${name}`, parent: parentName, labels: own });
    await this.#snapshots.commit({ snapshotter, name, key: `new-${name}`, labels: own });
  }
}

async function exists(call: Promise<unknown>): Promise<boolean> {
  try {
    await call;
    return true;
  } catch (error) {
    if (codeOf(error) === Code.NotFound) return false;
    throw error;
  }
}
