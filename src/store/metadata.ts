/**
 * The whole metadata of a namespace for the collector: only its columns, as few objects as can be.
 */
import type { Labels, LeaseMetadata, NamespaceMetadata } from '../gc/index.js';
import { damaged, NO_LABELS, TABLES, type Table } from './rows.js';
import type { Database, Value } from './sqlite.js';

/** So many rows are in memory at a time beside what is made of them. */
const CHUNK = 5_000;

/**
 * @throws LaminaError DataLoss for a row that is not what was written: nothing may be collected
 *   then
 */
export function readMetadata(database: Database, namespace: string): NamespaceMetadata {
  const read = <T>(table: Table, columns: readonly string[], decode: (...values: Value[]) => T): T[] =>
    readAll(database, namespace, table, columns, decode);
  const leases = new Map<Value, MutableLease>();
  const lease = (id: Value = '', labels: Value = '', owner: Value = null): void => {
    const lists = { content: [], snapshots: [], ingests: [], images: [] };
    leases.set(id, { id: String(id), labels: readLabels(labels), owner: readOwner(owner), ...lists });
  };
  read(TABLES.leases, ['labels', 'owner'], lease);
  read(TABLES.leaseResources, [], (of = '', type, id) => addResource(leases.get(of), String(type), String(id)));
  return {
    name: namespace,
    leases: [...leases.values()],
    images: read(TABLES.images, ['target', 'labels'], (name, target, labels) => ({
      name: String(name),
      target: String(target),
      labels: readLabels(labels),
    })),
    content: read(TABLES.blobs, ['labels', 'size'], (digest, labels, size) => ({
      digest: String(digest),
      labels: readLabels(labels),
      bytes: Number(size),
    })),
    ingests: read(TABLES.ingests, ['expected', 'expires'], (ref, expected, expires) => ({
      ref: String(ref),
      expected: expected === null ? undefined : String(expected),
      expireAt: expires === null ? undefined : Number(expires),
    })),
    snapshots: read(TABLES.snapshots, ['parent', 'labels', 'bytes'], (snapshotter, name, parent, labels, bytes) => ({
      key: `${snapshotter}/${name}`,
      parent: parent === null ? undefined : `${snapshotter}/${parent}`,
      labels: readLabels(labels),
      bytes: Number(bytes),
    })),
    containers: read(TABLES.containers, ['snapshotter', 'snapshot', 'labels'], (id, snapshotter, snapshot, labels) => ({
      id: String(id),
      snapshot: snapshot === null || snapshot === '' ? undefined : `${snapshotter ?? ''}/${snapshot}`,
      labels: readLabels(labels),
    })),
    sandboxes: read(TABLES.sandboxes, ['labels'], (id, labels) => ({ id: String(id), labels: readLabels(labels) })),
  };
}

/** Calls `decode` with each row's key, without the namespace, and columns. */
function readAll<T>(
  database: Database,
  namespace: string,
  table: Table,
  columns: readonly string[],
  decode: (...values: Value[]) => T,
): T[] {
  const sql = table.some(columns);
  const rest = table.key.length - 1;
  const decoded: T[] = [];
  for (let last: Value[] = table.key.slice(1).map(() => ''), length = CHUNK; length === CHUNK; ) {
    const rows = database.arrays(sql, namespace, ...last, CHUNK);
    for (const values of rows) {
      if (!table.isProven(values)) {
        throw damaged(database.file, `${table.name}: ${[namespace, ...values.slice(0, rest)].join(' ')}`);
      }
      decoded.push(decode(...values));
    }
    length = rows.length;
    last = rows.at(-1)?.slice(0, rest) ?? last;
  }
  return decoded;
}

type Lists = 'content' | 'snapshots' | 'ingests' | 'images';
type MutableLease = Omit<LeaseMetadata, Lists> & Record<Lists, string[]>;

function addResource(lease: MutableLease | undefined, type: string, id: string): void {
  if (lease === undefined) return;
  if (type === 'content' || type === 'ingests' || type === 'images') lease[type].push(id);
  else lease.snapshots.push(`${type.slice('snapshots/'.length)}/${id}`);
}

function readLabels(text: Value | undefined): Labels {
  return text === '{}' ? NO_LABELS : (JSON.parse(String(text)) as Labels);
}

function readOwner(text: Value): LeaseMetadata['owner'] {
  return text === null ? undefined : (JSON.parse(String(text)) as NonNullable<LeaseMetadata['owner']>);
}
