/**
 * What a containerd says about itself and its objects, one list of its API at a time, in the shapes
 * of lamina/gc. Labels that the collector does not read are left out, so that memory grows with
 * what is reasoned about and not with what clients have noted.
 */
import { Code, codeOf, LaminaError } from '../base/index.js';
import type {
  BlobMetadata,
  ContainerMetadata,
  ImageMetadata,
  IngestMetadata,
  Labels,
  LeaseMetadata,
  SandboxMetadata,
  SnapshotMetadata,
} from '../gc/index.js';
import { ContainersDefinition } from './gen/daemon/containers.js';
import { ContentDefinition } from './gen/daemon/content.js';
import { ImagesDefinition } from './gen/daemon/images.js';
import { IntrospectionDefinition } from './gen/daemon/introspection.js';
import { type Lease, LeasesDefinition } from './gen/daemon/leases.js';
import { NamespacesDefinition } from './gen/daemon/namespaces.js';
import { StoreDefinition } from './gen/daemon/sandboxes.js';
import { SnapshotsDefinition } from './gen/daemon/snapshots.js';
import { VersionDefinition } from './gen/daemon/version.js';
import type { Timestamp } from './gen/google/protobuf/timestamp.js';
import type { GrpcConnection } from './grpc.js';

const GC_LABEL = 'containerd.io/gc.';
const SNAPSHOTTER_PLUGIN = 'io.containerd.snapshotter.v1';
/** So long an ingest without a lease is kept after its start (core/metadata/content.go). */
const INGEST_LIFE_MS = 24 * 3_600_000;
/** Calls at the same time. */
const PARALLEL = 16;

/** A lease with what only people read. */
export interface ListedLease extends LeaseMetadata {
  /** In milliseconds since the epoch. */
  readonly createdAt: number;
  readonly allLabels: Labels;
  /** As containerd has them: `content`, `ingests`, `images`, `snapshots/SNAPSHOTTER`. */
  readonly resources: readonly { readonly type: string; readonly id: string }[];
}

/** A containerd's version. */
export async function versionOf(connection: GrpcConnection): Promise<string> {
  return (await connection.client(VersionDefinition).version({})).version;
}

export async function listNamespaces(connection: GrpcConnection): Promise<string[]> {
  const { namespaces } = await connection.client(NamespacesDefinition).list({ filter: '' });
  return namespaces.map(({ name }) => name).sort();
}

/** The snapshotters that have started. Of others containerd answers nothing. */
export async function listSnapshotters(connection: GrpcConnection): Promise<string[]> {
  const filters = [`type==${SNAPSHOTTER_PLUGIN}`];
  const { plugins } = await connection.client(IntrospectionDefinition).plugins({ filters });
  return plugins
    .filter(({ type, initErr }) => type === SNAPSHOTTER_PLUGIN && (initErr === undefined || initErr.code === Code.Ok))
    .map(({ id }) => id)
    .sort();
}

/** One namespace of a containerd. Errors are those of `GrpcConnection.client`. */
export class DaemonNamespace {
  readonly name: string;
  readonly #connection: GrpcConnection;
  readonly #metadata: Readonly<Record<string, string>>;

  constructor(connection: GrpcConnection, name: string) {
    this.name = name;
    this.#connection = connection;
    this.#metadata = { 'containerd-namespace': name };
  }

  /** Without what ends while it is read. */
  async leases(): Promise<ListedLease[]> {
    const client = this.#connection.client(LeasesDefinition, this.#metadata);
    const { leases } = await client.list({ filters: [] });
    const listed = await mapParallel(leases, async (lease) => {
      const resources = await orGone(client.listResources({ id: lease.id }));
      return resources === undefined ? [] : [leaseOf(lease, resources.resources)];
    });
    return listed.flat();
  }

  async images(): Promise<ImageMetadata[]> {
    const { images } = await this.#connection.client(ImagesDefinition, this.#metadata).list({ filters: [] });
    return images.map(({ name, labels, target }) => ({ name, labels: gcLabels(labels), target: target?.digest ?? '' }));
  }

  async blobs(): Promise<BlobMetadata[]> {
    const found: BlobMetadata[] = [];
    for await (const { info } of this.#connection.client(ContentDefinition, this.#metadata).list({ filters: [] })) {
      for (const { digest, size, labels } of info)
        found.push({ digest, bytes: Number(size), labels: gcLabels(labels) });
    }
    return found;
  }

  /**
   * containerd does not say when an ingest expires: 24 hours after its start, or with its lease.
   * @param leased refs that a lease names
   */
  async ingests(leased: ReadonlySet<string>): Promise<IngestMetadata[]> {
    const client = this.#connection.client(ContentDefinition, this.#metadata);
    const { statuses } = await client.listStatuses({ filters: [] });
    return statuses.map(({ ref, expected, startedAt }) => ({
      ref,
      expected: expected === '' ? undefined : expected,
      expireAt: leased.has(ref) ? undefined : millisecondsOf(startedAt) + INGEST_LIFE_MS,
    }));
  }

  async snapshots(snapshotter: string): Promise<SnapshotMetadata[]> {
    const found: SnapshotMetadata[] = [];
    const client = this.#connection.client(SnapshotsDefinition, this.#metadata);
    for await (const { info } of client.list({ snapshotter, filters: [] })) {
      for (const { name, parent, labels } of info) {
        const own = parent === '' ? undefined : `${snapshotter}/${parent}`;
        found.push({ key: `${snapshotter}/${name}`, parent: own, labels: gcLabels(labels) });
      }
    }
    return found;
  }

  async containers(): Promise<ContainerMetadata[]> {
    const found: ContainerMetadata[] = [];
    const client = this.#connection.client(ContainersDefinition, this.#metadata);
    for await (const { container } of client.listStream({ filters: [] })) {
      if (container === undefined) continue;
      const { id, labels, snapshotter, snapshotKey } = container;
      const snapshot = snapshotKey === '' ? undefined : `${snapshotter}/${snapshotKey}`;
      found.push({ id, labels: gcLabels(labels), snapshot });
    }
    return found;
  }

  /** None where containerd is older than 1.7 and has no such service. */
  async sandboxes(): Promise<SandboxMetadata[]> {
    try {
      const { list } = await this.#connection.client(StoreDefinition, this.#metadata).list({ filters: [] });
      return list.map(({ sandboxId, labels }) => ({ id: sandboxId, labels: gcLabels(labels) }));
    } catch (error) {
      if (codeOf(error) === Code.Unimplemented) return [];
      throw error;
    }
  }

  /**
   * Bytes that each snapshot takes by itself, by its key; those that are gone have none. For an
   * active snapshot containerd walks through its files.
   */
  async usage(keys: readonly string[]): Promise<Map<string, number>> {
    const client = this.#connection.client(SnapshotsDefinition, this.#metadata);
    const found = await mapParallel(keys, async (key): Promise<[string, number][]> => {
      const slash = key.indexOf('/');
      const request = { snapshotter: key.slice(0, slash), key: key.slice(slash + 1) };
      const usage = await orGone(client.usage(request));
      return usage === undefined ? [] : [[key, Number(usage.size)]];
    });
    return new Map(found.flat());
  }

  /** @throws LaminaError AlreadyExists */
  async createLease(id: string, labels: Labels): Promise<void> {
    await this.#connection.client(LeasesDefinition, this.#metadata).create({ id, labels: { ...labels } });
  }

  /**
   * @param timeoutMs of a deletion that waits for the collection; undefined: does not wait
   * @throws LaminaError NotFound
   */
  async deleteLease(id: string, timeoutMs?: number): Promise<void> {
    const options = timeoutMs === undefined ? {} : { timeoutMs };
    const request = { id, sync: timeoutMs !== undefined };
    await this.#connection.client(LeasesDefinition, this.#metadata).delete(request, options);
  }

  /**
   * @param type `content`, `ingests`, `images` or `snapshots/SNAPSHOTTER`
   * @throws LaminaError NotFound for the lease
   */
  async addToLease(lease: string, type: string, id: string): Promise<void> {
    const request = { id: lease, resource: { type, id } };
    await this.#connection.client(LeasesDefinition, this.#metadata).addResource(request);
  }
}

function leaseOf(lease: Lease, resources: readonly { readonly id: string; readonly type: string }[]): ListedLease {
  const ofType = (type: string): string[] => resources.filter((one) => one.type === type).map(({ id }) => id);
  return {
    id: lease.id,
    createdAt: millisecondsOf(lease.createdAt),
    allLabels: lease.labels,
    resources: resources.map(({ type, id }) => ({ type, id })),
    labels: gcLabels(lease.labels),
    content: ofType('content'),
    ingests: ofType('ingests'),
    images: ofType('images'),
    snapshots: resources
      .filter(({ type }) => type.startsWith('snapshots/'))
      .map(({ type, id }) => `${type.slice('snapshots/'.length)}/${id}`),
  };
}

function gcLabels(labels: Readonly<Record<string, string>>): Labels {
  return Object.fromEntries(Object.entries(labels).filter(([name]) => name.startsWith(GC_LABEL)));
}

function millisecondsOf(time: Timestamp | undefined): number {
  return time === undefined ? 0 : Number(time.seconds) * 1_000 + Math.trunc(time.nanos / 1_000_000);
}

/** Undefined for what was removed since it was listed. */
async function orGone<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof LaminaError && error.code === Code.NotFound) return undefined;
    throw error;
  }
}

/** Some at a time, in the order of the items. The first error ends it. */
async function mapParallel<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = new Array(items.length);
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let at = next++; at < items.length; at = next++) results[at] = await work(items[at] as T);
  };
  await Promise.all(Array.from({ length: Math.min(PARALLEL, items.length) }, worker));
  return results;
}
