/** Namespaces, labels and leases. */
import { randomBytes } from 'node:crypto';
import { Code, LaminaError } from '../base/index.js';
import { EXPIRE_LABEL, expiryOf, type Labels } from '../gc/index.js';
import { Changes, describe } from './changes.js';
import { checkIdentifier, checkLabels, checkLeaseResource, checkName } from './names.js';
import { labelsOf, labelText, TABLES } from './rows.js';
import type { Lease, LeaseResource, ObjectName, ProcessIdentity } from './types.js';

export interface NewLease {
  /** A random one without it. */
  readonly id?: string | undefined;
  readonly labels?: Labels | undefined;
  /** Written as label gc.expire. */
  readonly expiresAt?: number | undefined;
  readonly owner?: ProcessIdentity | undefined;
}

const MAY_BE_EMPTY: readonly (readonly [table: string, what: string])[] = [
  ['leases', 'leases'],
  ['images', 'images'],
  ['blobs', 'content'],
  ['ingests', 'ingests'],
  ['snapshots', 'snapshots'],
  ['containers', 'containers'],
  ['sandboxes', 'sandboxes'],
];

export class LeaseChanges extends Changes {
  /** @throws LaminaError AlreadyExists, InvalidArgument */
  createNamespace(namespace: string, labels: Labels = {}): void {
    checkIdentifier('namespace', namespace);
    checkLabels(labels);
    this.add({ kind: 'namespace', namespace, key: namespace }, { ns: namespace, labels: labelText(labels) });
  }

  /** @throws LaminaError NotFound; FailedPrecondition while anything is in it */
  deleteNamespace(namespace: string): void {
    const name: ObjectName = { kind: 'namespace', namespace, key: namespace };
    this.need(name);
    const left = MAY_BE_EMPTY.filter(
      ([table]) => this.database.get(`SELECT 1 FROM ${table} WHERE ns = ? LIMIT 1`, namespace) !== undefined,
    ).map(([, what]) => what);
    if (left.length > 0) {
      throw new LaminaError(Code.FailedPrecondition, `namespace ${namespace}: it still has ${left.join(', ')}`, {
        subject: namespace,
      });
    }
    this.take(name);
    this.forgetNamespace(namespace);
    this.note('delete', name);
  }

  /**
   * Gives an object these labels in place of all it had.
   * @throws LaminaError NotFound, InvalidArgument; FailedPrecondition for an ingest, which has none
   */
  setLabels(name: ObjectName, labels: Labels): void {
    if (name.kind === 'ingest') {
      throw new LaminaError(Code.FailedPrecondition, `${describe(name)}: ingests have no labels`, {
        subject: name.key,
      });
    }
    checkLabels(labels);
    if (name.kind === 'namespace') this.ensureNamespace(name.namespace);
    const dated = name.kind === 'namespace' || name.kind === 'lease' ? {} : { updated: this.now() };
    this.change(name, { labels: labelText(labels), ...dated });
  }

  /** Changes some labels of an object; an empty value takes a label away. @throws as `setLabels` */
  patchLabels(name: ObjectName, changes: Labels): void {
    const labels = { ...labelsOf(this.need(name)), ...changes };
    this.setLabels(name, Object.fromEntries(Object.entries(labels).filter(([, value]) => value !== '')));
  }

  /** @throws LaminaError AlreadyExists, InvalidArgument */
  createLease(namespace: string, { id = randomLeaseId(), labels = {}, expiresAt, owner }: NewLease = {}): Lease {
    checkName('lease', id);
    const all = expiresAt === undefined ? labels : { ...labels, [EXPIRE_LABEL]: new Date(expiresAt).toISOString() };
    checkLabels(all);
    this.ensureNamespace(namespace);
    const createdAt = this.now();
    this.add(
      { kind: 'lease', namespace, key: id },
      { ns: namespace, id, created: createdAt, labels: labelText(all), owner: owner ? JSON.stringify(owner) : null },
    );
    return { id, createdAt, labels: all, expiresAt: expiryOf(all), owner };
  }

  /** @throws LaminaError NotFound */
  deleteLease(namespace: string, id: string, proof?: string): void {
    const name: ObjectName = { kind: 'lease', namespace, key: id };
    this.take(name);
    this.database.run('DELETE FROM lease_resources WHERE ns = ? AND lease = ?', namespace, id);
    this.note('delete', name, proof);
  }

  /**
   * Makes a lease keep something, which need not be there yet.
   * @throws LaminaError NotFound for the lease; InvalidArgument, Unimplemented for the type
   */
  addLeaseResource(namespace: string, lease: string, resource: LeaseResource): void {
    const name: ObjectName = { kind: 'lease', namespace, key: lease };
    this.need(name);
    checkLeaseResource(resource);
    const { type, id } = resource;
    const table = TABLES.leaseResources;
    if (this.database.get(table.one, namespace, lease, type, id) !== undefined) return;
    this.write(table, { ns: namespace, lease, type, id });
    this.note('update', name, `+ ${type} ${id}`);
  }

  /** Does nothing when the lease does not name it. @throws as `addLeaseResource` */
  deleteLeaseResource(namespace: string, lease: string, resource: LeaseResource): void {
    const name: ObjectName = { kind: 'lease', namespace, key: lease };
    this.need(name);
    checkLeaseResource(resource);
    const { type, id } = resource;
    if (this.database.run(TABLES.leaseResources.remove, namespace, lease, type, id) === 0) return;
    this.note('update', name, `- ${type} ${id}`);
  }
}

/** As containerd's client names leases: nanoseconds, three random bytes. */
function randomLeaseId(): string {
  return `${process.hrtime.bigint() % 1_000_000_000n}-${randomBytes(3).toString('base64url')}`;
}
