/** Changing the store: everything a write may do. Whole or not at all. */
import { Code, LaminaError } from '../base/index.js';
import type { Resource } from '../gc/index.js';
import { describe, leaseType } from './changes.js';
import { RecordChanges } from './record-changes.js';
import { damaged, number, optionalText, TABLES, text } from './rows.js';
import type { Row } from './sqlite.js';
import { type Json, type ObjectName, objectOf } from './types.js';
import { type TrashBody, trashBody, trashOf } from './view.js';

/** The newest entries the journal keeps. */
const JOURNAL_KEPT = 100_000;
/** So many entries beyond that are let come together before they are removed. */
const JOURNAL_SLACK = 1_000;

export class Transaction extends RecordChanges {
  /**
   * Takes an object away, with its labels and the leases that name it, such that `restore` brings
   * it back.
   * @returns the number of the item
   * @throws LaminaError NotFound; FailedPrecondition for a snapshot with children; InvalidArgument
   *   for a plug-in's
   */
  toTrash(resource: Resource | ObjectName, reason: string): number {
    const name = nameOf(resource);
    this.checkUnused(name);
    const row = this.take(name);
    const place = this.letGo(name, row, false);
    const resources = name.kind === 'lease' ? this.leaseResources(name.namespace, name.key) : [];
    if (name.kind === 'lease') {
      this.database.run('DELETE FROM lease_resources WHERE ns = ? AND lease = ?', name.namespace, name.key);
    }
    const body: TrashBody = { row: this.strip(name, row), leases: this.dropFromLeases(name), resources };
    const id = this.note('trash', name, reason);
    this.write(TABLES.trash, {
      id,
      time: this.now(),
      kind: name.kind,
      ns: name.namespace,
      key: name.key,
      reason,
      bytes: number(row['size']) || number(row['bytes']),
      place: place ?? null,
      body: JSON.stringify(body),
    });
    return id;
  }

  /**
   * Brings an object back out of the trash, into those of its leases that are still there.
   * @throws LaminaError NotFound for the item or a snapshot's parent; AlreadyExists when the name
   *   is taken again
   */
  restore(id: number): ObjectName {
    const item = this.#trashRow(id);
    const { kind, namespace, key, leases } = trashOf(item);
    const name: ObjectName = { kind, namespace, key };
    const { row, resources } = trashBody(item);
    const parent = optionalText(row['parent']);
    if (kind === 'snapshot' && parent !== undefined) {
      this.need({ kind, namespace, key: `${row['snapshotter']}/${parent}` });
    }
    this.ensureNamespace(namespace);
    this.putBack(name, row);
    this.database.run(TABLES.trash.remove, id);
    const place = optionalText(item['place']);
    if (place !== undefined) this.fetch(place);
    for (const resource of resources) this.addLeaseResource(namespace, key, resource);
    const resource = leaseType(name);
    for (const lease of resource === undefined ? [] : leases) {
      if (resource !== undefined && this.lease(namespace, lease) !== undefined) {
        this.addLeaseResource(namespace, lease, resource);
      }
    }
    return name;
  }

  /** Removes an item from the trash for good. @throws LaminaError NotFound */
  dropTrash(id: number): void {
    const row = this.#trashRow(id);
    this.database.run(TABLES.trash.remove, id);
    const { kind, namespace, key } = trashOf(row);
    this.letGo({ kind, namespace, key }, trashBody(row).row, true);
    this.note('delete', { kind, namespace, key }, `trash item ${id} emptied`);
  }

  /** Keeps a plan under its id, in place of one that had it. */
  putPlan(id: string, body: Json): void {
    const sql = 'INSERT OR REPLACE INTO plans (id, time, body) VALUES (?, ?, ?)';
    this.database.run(sql, id, this.now(), JSON.stringify(body));
  }

  deletePlan(id: string): void {
    this.database.run('DELETE FROM plans WHERE id = ?', id);
  }

  /** Called by the store before the commit: the journal is not let grow for ever. */
  trimJournal(): void {
    const last = this.sequence();
    const first = this.database.number('SELECT min(seq) FROM journal');
    if (last - first < JOURNAL_KEPT + JOURNAL_SLACK) return;
    this.database.run('DELETE FROM journal WHERE seq <= ?', last - JOURNAL_KEPT);
    this.database.run('DELETE FROM acts WHERE id < (SELECT min(act) FROM journal)');
  }

  #trashRow(id: number): Row {
    const row = this.row(TABLES.trash, id);
    if (row === undefined) throw new LaminaError(Code.NotFound, `trash item ${id}: not found`, { subject: String(id) });
    if (text(row['body']) === '') throw damaged(this.context.database.file, `trash item ${id}`);
    return row;
  }
}

function nameOf(resource: Resource | ObjectName): ObjectName {
  const name = 'kind' in resource ? resource : objectOf(resource);
  if (name !== undefined && name.kind !== 'namespace') return name;
  const what = name === undefined ? `a plug-in's resource ${resource.key}` : describe(name);
  throw new LaminaError(Code.InvalidArgument, `${what}: it cannot go into the trash`, { subject: resource.key });
}
