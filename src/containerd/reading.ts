/**
 * Everything of a containerd that its collector looks at, read through its API.
 *
 * The lists are no one view: what is created, labelled or leased meanwhile could be seen in one of
 * them and not in another, and look like garbage. So what keeps things (leases, images, containers,
 * sandboxes) is read before and after everything else, and all again when the two differ.
 */
import type { NamespaceMetadata } from '../gc/index.js';
import { DaemonNamespace, listNamespaces, listSnapshotters } from './daemon.js';
import type { GrpcConnection } from './grpc.js';

const TRIES = 3;

export interface NamespaceReading {
  /** With the bytes of content; those of snapshots cost a call each (`withUsage`). */
  readonly metadata: NamespaceMetadata;
  /**
   * False: something changed in each try. Then what kept things in either look is taken for a root,
   * so that nothing is called garbage that may not be; something may be called kept that is not any
   * more.
   */
  readonly isSteady: boolean;
}

type Roots = Pick<NamespaceMetadata, 'leases' | 'images' | 'containers' | 'sandboxes'>;

/**
 * @param names default: all namespaces. One that does not exist is empty.
 * @throws LaminaError those of `GrpcConnection.client`: never fewer lists than asked for
 */
export async function readDaemon(connection: GrpcConnection, names?: readonly string[]): Promise<NamespaceReading[]> {
  const namespaces = names ?? (await listNamespaces(connection));
  const snapshotters = await listSnapshotters(connection);
  const found: NamespaceReading[] = [];
  for (const name of namespaces) found.push(await readNamespace(new DaemonNamespace(connection, name), snapshotters));
  return found;
}

async function readNamespace(namespace: DaemonNamespace, snapshotters: readonly string[]): Promise<NamespaceReading> {
  let before = await readRoots(namespace);
  for (let attempt = 1; ; attempt += 1) {
    const leased = new Set(before.leases.flatMap(({ ingests }) => ingests));
    const [blobs, ingests, snapshots] = await Promise.all([
      namespace.blobs(),
      namespace.ingests(leased),
      Promise.all(snapshotters.map((snapshotter) => namespace.snapshots(snapshotter))),
    ]);
    const after = await readRoots(namespace);
    const isSteady = JSON.stringify(before) === JSON.stringify(after);
    if (!isSteady && attempt < TRIES) {
      before = after;
      continue;
    }
    const roots = isSteady ? after : mergeRoots(before, after);
    return {
      metadata: { name: namespace.name, ...roots, content: blobs, ingests, snapshots: snapshots.flat() },
      isSteady,
    };
  }
}

async function readRoots(namespace: DaemonNamespace): Promise<Roots> {
  const [leases, images, containers, sandboxes] = await Promise.all([
    namespace.leases(),
    namespace.images(),
    namespace.containers(),
    namespace.sandboxes(),
  ]);
  return { leases, images, containers, sandboxes };
}

/** All of the second look, and of the first what is gone since. */
function mergeRoots(before: Roots, after: Roots): Roots {
  const merge = <T>(first: readonly T[], second: readonly T[], key: (item: T) => string): T[] => {
    const known = new Set(second.map(key));
    return [...second, ...first.filter((item) => !known.has(key(item)))];
  };
  return {
    leases: merge(before.leases, after.leases, ({ id }) => id),
    images: merge(before.images, after.images, ({ name }) => name),
    containers: merge(before.containers, after.containers, ({ id }) => id),
    sandboxes: merge(before.sandboxes, after.sandboxes, ({ id }) => id),
  };
}

/**
 * Adds the bytes of snapshots.
 * @param isWanted which; default: all
 */
export async function withUsage(
  connection: GrpcConnection,
  readings: readonly NamespaceReading[],
  isWanted: (namespace: string, key: string) => boolean = () => true,
): Promise<NamespaceReading[]> {
  const sized: NamespaceReading[] = [];
  for (const reading of readings) {
    const { name, snapshots } = reading.metadata;
    const keys = snapshots.map(({ key }) => key).filter((key) => isWanted(name, key));
    const usage = await new DaemonNamespace(connection, name).usage(keys);
    const own = snapshots.map((snapshot) => {
      const bytes = usage.get(snapshot.key);
      return bytes === undefined ? snapshot : { ...snapshot, bytes };
    });
    sized.push({ ...reading, metadata: { ...reading.metadata, snapshots: own } });
  }
  return sized;
}
