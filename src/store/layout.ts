/**
 * Where everything lies below the root. Each name is made of checked parts, so none leads
 * elsewhere.
 */

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { Code, isErrno, LaminaError, makeFolders } from '../base/index.js';
import { ingestFolder, parseDigest } from './names.js';
import { CHECK } from './remedies.js';

export const DEFAULT_ROOT = '/var/lib/lamina';

export class Layout {
  readonly root: string;
  readonly database: string;
  /** The automatic copy of the metadata. */
  readonly backup: string;
  readonly blobs: string;
  readonly ingests: string;
  readonly snapshots: string;
  readonly trash: string;
  /** Holds files that nothing claims any more and that only have to be unlinked. */
  readonly doomed: string;
  /** Holds files that fsck took out because they are damaged. */
  readonly damaged: string;

  constructor(root: string) {
    this.root = root;
    this.database = join(root, 'metadata.db');
    this.backup = join(root, 'metadata.backup.db');
    this.blobs = join(root, 'blobs');
    this.ingests = join(root, 'ingest');
    this.snapshots = join(root, 'snapshots');
    this.trash = join(root, 'trash');
    this.doomed = join(root, 'trash/doomed');
    this.damaged = join(root, 'damaged');
  }

  /** `blobs/sha256/HEX` @throws LaminaError InvalidArgument for what is no digest */
  blob(digest: string): string {
    return join(this.root, this.blobPlace(digest));
  }

  /** Relative to the root, as all places are. */
  blobPlace(digest: string): string {
    const { algorithm, hex } = parseDigest(digest);
    return `blobs/${algorithm}/${hex}`;
  }

  snapshotPlace(snapshotter: string, backend: string): string {
    return `snapshots/${snapshotter}/${backend}`;
  }

  ingestPlace(namespace: string, ref: string): string {
    return `ingest/${ingestFolder(namespace, ref)}`;
  }

  ingest(namespace: string, ref: string): string {
    return join(this.root, this.ingestPlace(namespace, ref));
  }

  /** @throws LaminaError with the path */
  makeFolder(path: string): void {
    try {
      makeFolders(path, MODE);
    } catch (error) {
      throw fileError(error, path);
    }
  }

  /** Where the file or directory of a place lies while it is in the trash. */
  inTrash(place: string): string {
    return join(this.trash, place);
  }

  at(place: string): string {
    return join(this.root, place);
  }

  /**
   * @throws LaminaError when the root is not a directory that only its owner, who runs this, can
   *   use
   */
  prepare(readOnly: boolean): void {
    const { root } = this;
    const refuse = (code: Code, why: string): LaminaError =>
      new LaminaError(code, `${root}: ${why}`, { subject: root });
    try {
      if (!readOnly) makeFolders(root, MODE);
      const { mode, uid } = statSync(root);
      if (uid !== process.geteuid?.())
        throw refuse(Code.PermissionDenied, `it belongs to user ${uid}: run as that user`);
      if ((mode & 0o077) !== 0) throw refuse(Code.PermissionDenied, 'others may use it: chmod 0700 is needed');
      if (readOnly) return;
      for (const folder of [this.blobs, this.ingests, this.snapshots, this.trash, this.doomed])
        makeFolders(folder, MODE);
    } catch (error) {
      if (readOnly && isErrno(error, 'ENOENT'))
        throw refuse(Code.NotFound, 'there is no store: it is made by the first that writes');
      throw fileError(error, root);
    }
  }
}

const REMEDIES: Readonly<Record<string, readonly [Code, string]>> = {
  ENOSPC: [Code.ResourceExhausted, 'no space is left on its file system: free some and try again'],
  EDQUOT: [Code.ResourceExhausted, 'the quota is used up: free some space and try again'],
  EIO: [Code.Internal, `reading or writing failed: check the disk and the kernel log, then ${CHECK}`],
  EROFS: [Code.PermissionDenied, 'its file system is read-only: check the kernel log for why'],
  ENOTDIR: [Code.FailedPrecondition, 'a directory is needed there'],
  EACCES: [Code.PermissionDenied, 'this user may not use it'],
};

/**
 * An error of a system call as one of Lamina's: the file, what is wrong, what to do. Others stay as
 * they are.
 */
export function fileError(error: unknown, file: string): unknown {
  if (!isErrno(error)) return error;
  const [code, remedy] = REMEDIES[error.code] ?? [Code.Internal, 'check it'];
  // A path through a descriptor says nothing to who reads it.
  const path = error.path === undefined || error.path.startsWith('/proc/') ? file : error.path;
  return new LaminaError(code, `${path}: ${remedy}: ${error.syscall}: ${error.code}`, { subject: path, cause: error });
}
/** Of every folder: the store is its owner's alone. */
const MODE = 0o700;
