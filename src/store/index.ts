/**
 * Namespaces, leases, content, snapshots, images and containers, kept such that no crash harms
 * them.
 */

export { identityOf, isGone } from '../sys/process-identity.js';
export { ContentFiles, type IngestStatus, type ReadOptions } from './content.js';
export type * from './content-changes.js';
export { type Finding, type FsckOptions, type FsckReport, fsck } from './fsck.js';
export type { CommitOptions, IngestWriter } from './ingest.js';
export type { IngestOptions } from './ingest-files.js';
export type { NewLease } from './lease-changes.js';
export type { RebuildReport } from './rebuild.js';
export type * from './record-changes.js';
export { defaultRoot, Store, type StoreOptions } from './store.js';
export { Transaction } from './transaction.js';
export * from './types.js';
export { View } from './view.js';
