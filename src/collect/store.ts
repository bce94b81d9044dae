/** What a collection needs of a store: lamina/store has it, and tests have it in memory. */
import type { Actor, Transaction, View } from '../store/index.js';

/** Reading: one consistent view, valid while the function runs that got it. */
export type CollectView = Pick<
  View,
  | 'namespaces'
  | 'namespacesOf'
  | 'leases'
  | 'metadata'
  | 'sequence'
  | 'journal'
  | 'lease'
  | 'leaseResources'
  | 'image'
  | 'blob'
  | 'ingest'
  | 'snapshot'
  | 'container'
  | 'sandbox'
  | 'trash'
  | 'plan'
  | 'plans'
>;

export type CollectTransaction = CollectView &
  Pick<Transaction, 'toTrash' | 'restore' | 'dropTrash' | 'putPlan' | 'deletePlan'>;

export interface CollectStore {
  /** Its directory, for the space that is left. */
  readonly root: string;
  read<T>(work: (view: CollectView) => T): T;
  write<T>(by: Actor, work: (transaction: CollectTransaction) => T): T;
  /** What a long-lived process does now and then; a store may have nothing of that kind. */
  maintain?(): void;
  /** Frees the bytes of what was deleted for good. */
  reclaim(signal?: AbortSignal): Promise<void>;
}
