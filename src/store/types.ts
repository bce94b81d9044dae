/** The records of the store. Times are milliseconds since the epoch, sizes are bytes. */
import { type Labels, type Resource, ResourceType } from '../gc/index.js';
import type { ProcessIdentity } from '../sys/process-identity.js';

/** Everything that has a record, and is named in the journal. */
export type ObjectKind = 'namespace' | 'lease' | 'image' | 'content' | 'ingest' | 'snapshot' | 'container' | 'sandbox';

/**
 * Names one record. The key is a digest for content, `SNAPSHOTTER/NAME` for a snapshot, else the
 * name, id or ref. A namespace has itself as its key.
 */
export interface ObjectName {
  readonly kind: ObjectKind;
  readonly namespace: string;
  readonly key: string;
}

const KIND_OF_TYPE: ReadonlyMap<number, ObjectKind> = new Map([
  [ResourceType.Content, 'content'],
  [ResourceType.Snapshot, 'snapshot'],
  [ResourceType.Container, 'container'],
  [ResourceType.Image, 'image'],
  [ResourceType.Lease, 'lease'],
  [ResourceType.Ingest, 'ingest'],
]);
const TYPE_OF_KIND: ReadonlyMap<ObjectKind, number> = new Map([...KIND_OF_TYPE].map(([type, kind]) => [kind, type]));

/** The record a resource of the collector is; undefined for one that a plug-in has elsewhere. */
export function objectOf({ type, namespace, key }: Resource): ObjectName | undefined {
  const kind = KIND_OF_TYPE.get(type);
  return kind === undefined ? undefined : { kind, namespace, key };
}

/**
 * The collector's name of a record; undefined for namespaces and sandboxes, which it never removes.
 */
export function resourceOf({ kind, namespace, key }: ObjectName): Resource | undefined {
  const type = TYPE_OF_KIND.get(kind);
  return type === undefined ? undefined : { type, namespace, key };
}

/** The author of a change, for the journal. */
export interface Actor {
  readonly command: string;
  readonly rule?: string | undefined;
  /** Without it, this process's. */
  readonly uid?: number | undefined;
  /** Without it, this process's. */
  readonly pid?: number | undefined;
}

interface Dated {
  readonly labels: Labels;
  readonly createdAt: number;
  readonly updatedAt: number;
}

export interface Lease {
  readonly id: string;
  readonly createdAt: number;
  readonly labels: Labels;
  /** The time that the label gc.expire says. */
  readonly expiresAt: number | undefined;
  /** The process with which it ends. */
  readonly owner: ProcessIdentity | undefined;
}

/**
 * A thing that a lease keeps. Types are containerd's: `content`, `ingests`, `images`,
 * `snapshots/NAME`.
 */
export interface LeaseResource {
  readonly id: string;
  readonly type: string;
}

/** An OCI descriptor. Its fields beyond these three are kept too. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly [field: string]: unknown;
}

export interface Image extends Dated {
  readonly name: string;
  readonly target: Descriptor;
}

export interface Blob extends Dated {
  readonly digest: string;
  readonly size: number;
}

export interface Ingest {
  readonly ref: string;
  readonly expected: string | undefined;
  readonly total: number | undefined;
  /** After it the ingest is garbage. None: a lease decides. */
  readonly expiresAt: number | undefined;
  readonly startedAt: number;
  readonly updatedAt: number;
  /** The process that writes it, or was the last to. */
  readonly owner: ProcessIdentity | undefined;
}

export type SnapshotKind = 'active' | 'committed' | 'view';

export interface Usage {
  readonly bytes: number;
  readonly inodes: number;
}

export interface Snapshot extends Dated {
  readonly snapshotter: string;
  readonly name: string;
  /** The name of another snapshot of the same snapshotter. */
  readonly parent: string | undefined;
  readonly kind: SnapshotKind;
  /** The name by which the snapshotter knows it, unique there. */
  readonly backend: string;
  readonly usage: Usage | undefined;
}

/** JSON, or what JSON can hold. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

export interface Container extends Dated {
  readonly id: string;
  readonly image: string | undefined;
  readonly snapshotter: string | undefined;
  readonly snapshotKey: string | undefined;
  readonly sandbox: string | undefined;
  readonly runtime: Json;
  readonly spec: Json;
  readonly extensions: Json;
}

export interface Sandbox extends Dated {
  readonly id: string;
  readonly sandboxer: string | undefined;
  readonly runtime: Json;
  readonly spec: Json;
  readonly extensions: Json;
}

export type Action = 'create' | 'update' | 'delete' | 'trash' | 'restore';

export interface JournalEntry extends ObjectName {
  /** Rises by one with each entry. */
  readonly sequence: number;
  readonly time: number;
  readonly uid: number;
  readonly pid: number;
  readonly command: string;
  readonly rule: string | undefined;
  readonly action: Action;
  /** Why, when there was more to say than the rule. */
  readonly proof: string | undefined;
}

export interface JournalFilter {
  /** Only entries with a larger number. */
  readonly after?: number | undefined;
  readonly namespace?: string | undefined;
  readonly key?: string | undefined;
  /** The newest so many, 1,000 without it. The answer is in the order of numbers. */
  readonly limit?: number | undefined;
}

export interface TrashItem extends ObjectName {
  /** The number of its entry in the journal. */
  readonly id: number;
  readonly time: number;
  readonly reason: string;
  /** So much is freed with it, unless something else still needs the same bytes. */
  readonly bytes: number;
  /** The digest, when it has a file in the trash. */
  readonly digest: string | undefined;
  /** Leases that kept it, and get it back. */
  readonly leases: readonly string[];
  readonly labels: Labels;
  /** For an image: the digest it names. */
  readonly target: string | undefined;
  /** For a snapshot: the name of its parent. */
  readonly parent: string | undefined;
}

export interface SavedPlan {
  readonly id: string;
  readonly time: number;
  readonly body: Json;
}

export type { Labels, ProcessIdentity, Resource };
