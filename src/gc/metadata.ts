/** What the collector reads: the metadata of every namespace, as one consistent view. */
import type { ProcessIdentity } from '../sys/process-identity.js';
import type { Labels } from './labels.js';

interface Labelled {
  readonly labels: Labels;
}

export interface LeaseMetadata extends Labelled {
  readonly id: string;
  /** Digests. */
  readonly content: readonly string[];
  /** `SNAPSHOTTER/NAME`. */
  readonly snapshots: readonly string[];
  /** Refs of ingests. */
  readonly ingests: readonly string[];
  /** Names of images. */
  readonly images: readonly string[];
  /** The process that it ends with. */
  readonly owner?: ProcessIdentity | undefined;
}

export interface ImageMetadata extends Labelled {
  readonly name: string;
  /** Digest of its manifest or index. */
  readonly target: string;
}

export interface BlobMetadata extends Labelled {
  readonly digest: string;
  /** Size of the file, which all namespaces share. */
  readonly bytes?: number;
}

export interface IngestMetadata {
  readonly ref: string;
  /** The digest it is to have, when that is known. */
  readonly expected: string | undefined;
  /** In milliseconds since the epoch. Without it only a lease keeps the ingest. */
  readonly expireAt: number | undefined;
}

export interface SnapshotMetadata extends Labelled {
  /** `SNAPSHOTTER/NAME`. */
  readonly key: string;
  /** `SNAPSHOTTER/NAME`. */
  readonly parent: string | undefined;
  /** What it uses itself, without its parents. */
  readonly bytes?: number;
}

export interface ContainerMetadata extends Labelled {
  readonly id: string;
  /** `SNAPSHOTTER/NAME`. */
  readonly snapshot: string | undefined;
}

export interface SandboxMetadata extends Labelled {
  readonly id: string;
}

export interface NamespaceMetadata {
  readonly name: string;
  readonly leases: readonly LeaseMetadata[];
  readonly images: readonly ImageMetadata[];
  readonly content: readonly BlobMetadata[];
  readonly ingests: readonly IngestMetadata[];
  readonly snapshots: readonly SnapshotMetadata[];
  readonly containers: readonly ContainerMetadata[];
  readonly sandboxes: readonly SandboxMetadata[];
}
