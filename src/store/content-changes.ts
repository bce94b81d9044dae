/** Images, content and ingests, and what all removals have in common. */
import { Code, LaminaError } from '../base/index.js';
import type { Labels } from '../gc/index.js';
import { describe, leaseType } from './changes.js';
import { LeaseChanges } from './lease-changes.js';
import { checkLabels, checkName, parseDigest } from './names.js';
import { labelText } from './rows.js';
import type { Row } from './sqlite.js';
import type { Descriptor, ObjectName, ProcessIdentity } from './types.js';

export interface NewImage {
  readonly name: string;
  readonly target: Descriptor;
  readonly labels?: Labels | undefined;
}

export interface NewBlob {
  readonly digest: string;
  readonly size: number;
  readonly labels?: Labels | undefined;
}

export interface NewIngest {
  readonly ref: string;
  readonly expected?: string | undefined;
  readonly total?: number | undefined;
  readonly expiresAt?: number | undefined;
  readonly owner?: ProcessIdentity | undefined;
}

function checkSize(what: string, size: number): void {
  if (Number.isSafeInteger(size) && size >= 0) return;
  throw new LaminaError(Code.InvalidArgument, `${what}: ${size} is no size`, { subject: what });
}

export class ContentChanges extends LeaseChanges {
  /** Makes an image or points it elsewhere. @throws LaminaError InvalidArgument */
  putImage(namespace: string, { name, target, labels = {} }: NewImage): void {
    checkName('image', name);
    parseDigest(target.digest);
    checkSize(`target of image ${name}`, target.size);
    checkLabels(labels);
    this.ensureNamespace(namespace);
    const now = this.now();
    const object: ObjectName = { kind: 'image', namespace, key: name };
    const row = { target: target.digest, descriptor: JSON.stringify(target), labels: labelText(labels), updated: now };
    if (this.image(namespace, name) === undefined) this.add(object, { ns: namespace, name, created: now, ...row });
    else this.change(object, row);
  }

  /** @throws LaminaError NotFound */
  deleteImage(namespace: string, name: string, proof?: string): void {
    this.remove({ kind: 'image', namespace, key: name }, proof);
  }

  /**
   * Records a blob. Its file is there already: `ContentFiles.ingest` does both.
   * @throws LaminaError AlreadyExists, InvalidArgument
   */
  addBlob(namespace: string, { digest, size, labels = {} }: NewBlob): void {
    parseDigest(digest);
    checkSize(`blob ${digest}`, size);
    checkLabels(labels);
    this.ensureNamespace(namespace);
    const now = this.now();
    const row = { ns: namespace, digest, size, labels: labelText(labels), created: now, updated: now };
    this.add({ kind: 'content', namespace, key: digest }, row);
    const place = this.context.layout.blobPlace(digest);
    if (this.isInTrash(place)) this.fetch(place);
  }

  /** The file goes with the last namespace that has the blob. @throws LaminaError NotFound */
  deleteBlob(namespace: string, digest: string, proof?: string): void {
    this.remove({ kind: 'content', namespace, key: digest }, proof);
  }

  /** Records an ingest, or that it goes on. @throws LaminaError InvalidArgument */
  putIngest(namespace: string, { ref, expected, total, expiresAt, owner }: NewIngest): void {
    checkName('ref', ref);
    if (expected !== undefined) parseDigest(expected);
    if (total !== undefined) checkSize(`total of ingest ${ref}`, total);
    this.ensureNamespace(namespace);
    const now = this.now();
    const object: ObjectName = { kind: 'ingest', namespace, key: ref };
    const row: Row = {
      expected: expected ?? null,
      total: total ?? null,
      expires: expiresAt === undefined ? null : Math.trunc(expiresAt),
      updated: now,
      owner: owner === undefined ? null : JSON.stringify(owner),
    };
    if (this.ingest(namespace, ref) !== undefined) {
      this.change(object, row);
      return;
    }
    this.add(object, { ns: namespace, ref, started: now, ...row });
    const place = this.context.layout.ingestPlace(namespace, ref);
    if (this.isInTrash(place)) this.fetch(place);
  }

  /** @throws LaminaError NotFound */
  deleteIngest(namespace: string, ref: string, proof?: string): void {
    this.remove({ kind: 'ingest', namespace, key: ref }, proof);
  }

  /** Removes for good. */
  protected remove(name: ObjectName, proof?: string): void {
    this.checkUnused(name);
    this.letGo(name, this.take(name), true);
    this.dropFromLeases(name);
    this.note('delete', name, proof);
  }

  /** @throws LaminaError FailedPrecondition for a snapshot with children */
  protected checkUnused(name: ObjectName): void {
    if (name.kind !== 'snapshot') return;
    const [snapshotter, own] = name.key.split(/\/(.*)/s);
    const child = this.database.get(
      'SELECT name FROM snapshots WHERE ns = ? AND snapshotter = ? AND parent = ? LIMIT 1',
      name.namespace,
      snapshotter ?? '',
      own ?? '',
    );
    if (child === undefined) return;
    throw new LaminaError(Code.FailedPrecondition, `${describe(name)}: it is the parent of ${child['name']}`, {
      subject: name.key,
    });
  }

  /** @returns the leases that had it */
  protected dropFromLeases(name: ObjectName): string[] {
    const resource = leaseType(name);
    if (resource === undefined) return [];
    const leases = this.leasesOf(name.namespace, resource);
    for (const lease of leases) {
      const sql = 'DELETE FROM lease_resources WHERE ns = ? AND lease = ? AND type = ? AND id = ?';
      this.database.run(sql, name.namespace, lease, resource.type, resource.id);
    }
    return leases;
  }

  protected renameInLeases(from: ObjectName, to: ObjectName): void {
    const resource = leaseType(to);
    if (resource === undefined) return;
    for (const lease of this.dropFromLeases(from)) this.addLeaseResource(to.namespace, lease, resource);
  }

  protected isInTrash(place: string): boolean {
    return this.database.get('SELECT 1 FROM trash WHERE place = ? LIMIT 1', place) !== undefined;
  }
}
