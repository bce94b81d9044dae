/** Reading the store: one consistent view, valid while the function runs that got it. */
import { Code, LaminaError } from '../base/index.js';
import type { Labels, NamespaceMetadata } from '../gc/index.js';
import type { Layout } from './layout.js';
import { readMetadata } from './metadata.js';
import {
  blobOf,
  containerOf,
  damaged,
  imageOf,
  ingestOf,
  labelsOf,
  leaseOf,
  number,
  optionalText,
  sandboxOf,
  snapshotOf,
  TABLES,
  type Table,
  text,
} from './rows.js';
import type { Database, Row, Value } from './sqlite.js';
import type {
  Action,
  Blob,
  Container,
  Image,
  Ingest,
  JournalEntry,
  JournalFilter,
  Json,
  Lease,
  LeaseResource,
  ObjectKind,
  Sandbox,
  SavedPlan,
  Snapshot,
  TrashItem,
} from './types.js';

const JOURNAL_LIMIT = 1_000;
const JOURNAL = `SELECT seq, time, uid, pid, command, rule, action, kind, ns, key, proof
  FROM journal JOIN acts ON acts.id = journal.act WHERE seq > ?`;

/** The parts of a store that a view needs. */
export interface ViewContext {
  readonly database: Database;
  readonly layout: Layout;
  /** Milliseconds since the epoch. */
  now(): number;
  /** @throws LaminaError DataLoss when rows may be missing without a trace */
  checkStructure(): void;
}

export class View {
  protected readonly context: ViewContext;
  #isOpen = true;

  constructor(context: ViewContext) {
    this.context = context;
  }

  /** The database, while the view is valid. */
  protected get database(): Database {
    if (this.#isOpen) return this.context.database;
    throw new LaminaError(Code.FailedPrecondition, 'view of the store: used after its function has returned');
  }

  /** Called by the store when the function that got the view has returned. */
  end(): void {
    this.#isOpen = false;
  }

  namespaces(): string[] {
    return this.rows(TABLES.namespaces, `SELECT ${TABLES.namespaces.fields} FROM namespaces ORDER BY ns`).map((row) =>
      text(row['ns']),
    );
  }

  /** Empty for a namespace that is not there: nothing need be made before it is used. */
  namespaceLabels(namespace: string): Labels {
    const row = this.row(TABLES.namespaces, namespace);
    return row === undefined ? {} : labelsOf(row);
  }

  hasNamespace(namespace: string): boolean {
    return this.row(TABLES.namespaces, namespace) !== undefined;
  }

  leases(namespace: string): Lease[] {
    return this.rowsOf(TABLES.leases, namespace).map(leaseOf);
  }

  lease(namespace: string, id: string): Lease | undefined {
    const row = this.row(TABLES.leases, namespace, id);
    return row === undefined ? undefined : leaseOf(row);
  }

  leaseResources(namespace: string, lease: string): LeaseResource[] {
    const table = TABLES.leaseResources;
    const sql = `SELECT ${table.fields} FROM lease_resources WHERE ns = ? AND lease = ? ORDER BY type, id`;
    return this.rows(table, sql, namespace, lease).map((row) => ({ id: text(row['id']), type: text(row['type']) }));
  }

  /** The leases that name a resource. */
  leasesOf(namespace: string, { type, id }: LeaseResource): string[] {
    const table = TABLES.leaseResources;
    const sql = `SELECT ${table.fields} FROM lease_resources WHERE ns = ? AND type = ? AND id = ? ORDER BY lease`;
    return this.rows(table, sql, namespace, type, id).map((row) => text(row['lease']));
  }

  images(namespace: string): Image[] {
    return this.rowsOf(TABLES.images, namespace).map(imageOf);
  }

  image(namespace: string, name: string): Image | undefined {
    const row = this.row(TABLES.images, namespace, name);
    return row === undefined ? undefined : imageOf(row);
  }

  blobs(namespace: string): Blob[] {
    return this.rowsOf(TABLES.blobs, namespace).map(blobOf);
  }

  blob(namespace: string, digest: string): Blob | undefined {
    const row = this.row(TABLES.blobs, namespace, digest);
    return row === undefined ? undefined : blobOf(row);
  }

  /** The namespaces that have a blob: its file is one for all of them. */
  namespacesOf(digest: string): string[] {
    const sql = 'SELECT n.ns FROM namespaces n JOIN blobs b ON b.ns = n.ns AND b.digest = ? ORDER BY n.ns';
    return this.database.all(sql, digest).map((row) => text(row['ns']));
  }

  /** The size of a blob in whatever namespace has it. */
  blobSize(digest: string): number | undefined {
    const [namespace] = this.namespacesOf(digest);
    return namespace === undefined ? undefined : this.blob(namespace, digest)?.size;
  }

  ingests(namespace: string): Ingest[] {
    return this.rowsOf(TABLES.ingests, namespace).map(ingestOf);
  }

  ingest(namespace: string, ref: string): Ingest | undefined {
    const row = this.row(TABLES.ingests, namespace, ref);
    return row === undefined ? undefined : ingestOf(row);
  }

  snapshots(namespace: string, snapshotter?: string): Snapshot[] {
    const all = this.rowsOf(TABLES.snapshots, namespace).map(snapshotOf);
    return snapshotter === undefined ? all : all.filter((snapshot) => snapshot.snapshotter === snapshotter);
  }

  snapshot(namespace: string, snapshotter: string, name: string): Snapshot | undefined {
    const row = this.row(TABLES.snapshots, namespace, snapshotter, name);
    return row === undefined ? undefined : snapshotOf(row);
  }

  containers(namespace: string): Container[] {
    return this.rowsOf(TABLES.containers, namespace).map(containerOf);
  }

  container(namespace: string, id: string): Container | undefined {
    const row = this.row(TABLES.containers, namespace, id);
    return row === undefined ? undefined : containerOf(row);
  }

  sandboxes(namespace: string): Sandbox[] {
    return this.rowsOf(TABLES.sandboxes, namespace).map(sandboxOf);
  }

  sandbox(namespace: string, id: string): Sandbox | undefined {
    const row = this.row(TABLES.sandboxes, namespace, id);
    return row === undefined ? undefined : sandboxOf(row);
  }

  /**
   * Everything the collector reads, a namespace at a time. The first call of an open store checks
   * the structure of the database too, 0.1 to 0.3 s for 100,000 objects: a row that is missing
   * keeps nothing.
   * @throws LaminaError DataLoss
   */
  *metadata(): Iterable<NamespaceMetadata> {
    this.context.checkStructure();
    for (const namespace of this.namespaces()) yield readMetadata(this.database, namespace);
  }

  /** The number of the journal's last entry, 0 for an empty one. */
  sequence(): number {
    return this.database.number('SELECT max(seq) FROM journal');
  }

  journal({ after = 0, namespace, key, limit = JOURNAL_LIMIT }: JournalFilter = {}): JournalEntry[] {
    const values: Value[] = [after];
    let sql = JOURNAL;
    for (const [column, value] of [['ns', namespace] as const, ['key', key] as const]) {
      if (value === undefined) continue;
      sql += ` AND ${column} = ?`;
      values.push(value);
    }
    return this.database
      .all(`${sql} ORDER BY seq DESC LIMIT ?`, ...values, limit)
      .reverse()
      .map(entryOf);
  }

  trash(): TrashItem[] {
    return this.rows(TABLES.trash, `SELECT ${TABLES.trash.fields} FROM trash ORDER BY id`).map(trashOf);
  }

  plan(id: string): SavedPlan | undefined {
    const row = this.database.get('SELECT id, time, body FROM plans WHERE id = ?', id);
    return row === undefined ? undefined : planOf(row);
  }

  plans(): SavedPlan[] {
    return this.database.all('SELECT id, time, body FROM plans ORDER BY time, id').map(planOf);
  }

  /** @throws LaminaError DataLoss for a row that is not what was written */
  protected row(table: Table, ...key: Value[]): Row | undefined {
    const row = this.database.get(table.one, ...key);
    if (row !== undefined && !table.isIntact(row)) throw damaged(this.database.file, table.describe(row));
    return row;
  }

  protected rowsOf(table: Table, namespace: string): Row[] {
    return this.rows(table, table.ofNamespace, namespace);
  }

  protected rows(table: Table, sql: string, ...values: Value[]): Row[] {
    const rows = this.database.all(sql, ...values);
    for (const row of rows) {
      if (!table.isIntact(row)) throw damaged(this.database.file, table.describe(row));
    }
    return rows;
  }
}

function entryOf(row: Row): JournalEntry {
  return {
    sequence: number(row['seq']),
    time: number(row['time']),
    uid: number(row['uid']),
    pid: number(row['pid']),
    command: text(row['command']),
    rule: optionalText(row['rule']),
    action: text(row['action']) as Action,
    kind: text(row['kind']) as ObjectKind,
    namespace: text(row['ns']),
    key: text(row['key']),
    proof: optionalText(row['proof']),
  };
}

/** The form of a record in the trash: enough to put it back. */
export interface TrashBody {
  /** The values of its row. */
  readonly row: Row;
  /** Leases that named it. */
  readonly leases: readonly string[];
  /** For a lease: the resources it named. */
  readonly resources: readonly LeaseResource[];
}

export function trashBody(row: Row): TrashBody {
  return JSON.parse(text(row['body'])) as TrashBody;
}

export function trashOf(row: Row): TrashItem {
  const kind = text(row['kind']) as ObjectKind;
  const place = optionalText(row['place']);
  const body = trashBody(row);
  return {
    id: number(row['id']),
    time: number(row['time']),
    kind,
    namespace: text(row['ns']),
    key: text(row['key']),
    reason: text(row['reason']),
    bytes: number(row['bytes']),
    digest: kind === 'content' && place !== undefined ? text(row['key']) : undefined,
    leases: body.leases,
    labels: body.row['labels'] === undefined ? {} : labelsOf(body.row),
    target: optionalText(body.row['target']),
    parent: optionalText(body.row['parent']),
  };
}

function planOf(row: Row): SavedPlan {
  return { id: text(row['id']), time: number(row['time']), body: JSON.parse(text(row['body'])) as Json };
}
