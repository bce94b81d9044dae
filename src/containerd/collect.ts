/** Asking a containerd to collect. */
import { randomBytes } from 'node:crypto';
import { EXPIRE_LABEL } from '../gc/index.js';
import { DaemonNamespace, listNamespaces } from './daemon.js';
import type { GrpcConnection } from './grpc.js';

/** A collection of a large daemon with slow snapshotters. */
const COLLECT_MS = 300_000;
/** Of the lease, if this process dies between its creation and its removal. */
const LEASE_MS = 60_000;

/**
 * Returns when a collection that began after the call is over. containerd has no call for that; the
 * synchronous removal of a lease waits for one, so a lease is made to be removed.
 */
export async function collectNow(connection: GrpcConnection): Promise<void> {
  // A lease in a namespace that is not there would make it.
  const [name] = await listNamespaces(connection);
  if (name === undefined) return;
  const namespace = new DaemonNamespace(connection, name);
  const id = newLeaseId();
  await namespace.createLease(id, { [EXPIRE_LABEL]: new Date(Date.now() + LEASE_MS).toISOString() });
  await namespace.deleteLease(id, COLLECT_MS);
}

/** As containerd's own clients make them: nanoseconds, and three random bytes. */
export function newLeaseId(): string {
  return `${BigInt(Date.now()) * 1_000_000n}-${randomBytes(3).toString('base64url')}`;
}
