/** All that a store says, in a form that can be compared: without times and pids. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { ObjectName, Store, View } from '../../../src/store/index.js';

const without = <T extends object>(fields: T, ...names: (keyof T)[]): object =>
  Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name as keyof T)));

const named = ({ kind, namespace, key }: ObjectName): string => `${kind} ${namespace} ${key}`;

function namespaceState(view: View, namespace: string): object {
  return {
    namespace,
    leases: view.leases(namespace).map((lease) => ({
      ...without(lease, 'createdAt', 'owner'),
      resources: view.leaseResources(namespace, lease.id),
    })),
    images: view.images(namespace).map((image) => without(image, 'createdAt', 'updatedAt')),
    blobs: view.blobs(namespace).map((blob) => without(blob, 'createdAt', 'updatedAt')),
    ingests: view.ingests(namespace).map(({ ref, expected, total }) => ({ ref, expected, total })),
    snapshots: view.snapshots(namespace).map((snapshot) => without(snapshot, 'createdAt', 'updatedAt')),
    containers: view.containers(namespace).map((container) => without(container, 'createdAt', 'updatedAt')),
    sandboxes: view.sandboxes(namespace).map((sandbox) => without(sandbox, 'createdAt', 'updatedAt')),
  };
}

/** Rows only. Content that a check has found and recorded apart is left out. */
export function stateOf(store: Store): string {
  return store.read((view) => {
    const namespaces = view.namespaces().filter((name) => name !== 'recovered');
    const trash = view.trash().map((item) => `${named(item)} ${item.leases.join(' ')}`);
    return JSON.stringify({ namespaces: namespaces.map((name) => namespaceState(view, name)), trash }, null, 1);
  });
}

/**
 * Rows against files: all content has its bytes, what is in the trash still exists, snapshots have
 * their directories.
 * @throws AssertionError or LaminaError for what is not so
 */
export async function checkFiles(store: Store): Promise<void> {
  const { namespaces, trash } = store.read((view) => ({
    namespaces: view.namespaces().map((name) => ({ name, blobs: view.blobs(name), snapshots: view.snapshots(name) })),
    trash: view.trash(),
  }));
  for (const { name, blobs, snapshots } of namespaces) {
    for (const { digest } of blobs) await store.content.verify(name, digest);
    for (const { backend } of snapshots) needThere(join(store.root, 'snapshots/overlayfs', backend));
  }
  for (const { digest } of trash) {
    if (digest === undefined) continue;
    const own = store.content.path(digest);
    const [, , algorithm = '', hex = ''] = own.slice(store.root.length).split('/');
    if (!existsSync(own)) needThere(join(store.root, 'trash/blobs', algorithm, hex));
  }
}

function needThere(path: string): void {
  if (!existsSync(path)) throw new Error(`${path} is gone`);
}
