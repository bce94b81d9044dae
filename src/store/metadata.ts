/** The whole metadata of a namespace for the collector: only its columns, as few objects as can be. */
import type { ContainerMetadata, LeaseMetadata, NamespaceMetadata } from '../gc/index.js';
import { damaged, labelsOf, optionalNumber, optionalText, TABLES, type Table, text } from './rows.js';
import type { Database, Row } from './sqlite.js';

/** @throws LaminaError DataLoss for a row that is not what was written: nothing may be collected then */
export function readMetadata(database: Database, namespace: string): NamespaceMetadata {
  const read = <T>(table: Table, decode: (row: Row) => T): T[] => {
    const columns = [...table.columns, 'sum'].join(', ');
    const sql = `SELECT ${columns} FROM ${table.name} WHERE ns = ? ORDER BY ${table.key.join(', ')}`;
    return database.all(sql, namespace).map((row) => {
      if (!table.isIntact(row)) throw damaged(database.file, table.describe(row));
      return decode(row);
    });
  };
  const leases = new Map<string, MutableLease>();
  for (const lease of read(TABLES.leases, emptyLease)) leases.set(lease.id, lease);
  read(TABLES.leaseResources, (row) => addResource(leases.get(text(row['lease'])), text(row['type']), text(row['id'])));
  return {
    name: namespace,
    leases: [...leases.values()],
    images: read(TABLES.images, (row) => ({
      name: text(row['name']),
      target: text(row['target']),
      labels: labelsOf(row),
    })),
    content: read(TABLES.blobs, (row) => ({ digest: text(row['digest']), labels: labelsOf(row) })),
    ingests: read(TABLES.ingests, (row) => ({
      ref: text(row['ref']),
      expected: optionalText(row['expected']),
      expireAt: optionalNumber(row['expires']),
    })),
    snapshots: read(TABLES.snapshots, (row) => {
      const parent = optionalText(row['parent']);
      return {
        key: `${row['snapshotter']}/${row['name']}`,
        parent: parent === undefined ? undefined : `${row['snapshotter']}/${parent}`,
        labels: labelsOf(row),
      };
    }),
    containers: read(TABLES.containers, containerMetadata),
    sandboxes: read(TABLES.sandboxes, (row) => ({ id: text(row['id']), labels: labelsOf(row) })),
  };
}

type Lists = 'content' | 'snapshots' | 'ingests' | 'images';
type MutableLease = Omit<LeaseMetadata, Lists> & Record<Lists, string[]>;

function emptyLease(row: Row): MutableLease {
  return { id: text(row['id']), labels: labelsOf(row), content: [], snapshots: [], ingests: [], images: [] };
}

function addResource(lease: MutableLease | undefined, type: string, id: string): void {
  if (lease === undefined) return;
  if (type === 'content' || type === 'ingests' || type === 'images') lease[type].push(id);
  else lease.snapshots.push(`${type.slice('snapshots/'.length)}/${id}`);
}

function containerMetadata(row: Row): ContainerMetadata {
  const { snapshotter, snapshot } = row;
  return {
    id: text(row['id']),
    snapshot: typeof snapshot === 'string' && snapshot !== '' ? `${snapshotter ?? ''}/${snapshot}` : undefined,
    labels: labelsOf(row),
  };
}
