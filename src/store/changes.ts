/** The common part of every change: its row, its line in the journal, files that follow it. */
import { existsSync, renameSync } from 'node:fs';
import { dirname } from 'node:path';
import { Code, LaminaError } from '../base/index.js';
import { fileError } from './layout.js';
import { checkIdentifier, splitSnapshotKey } from './names.js';
import { TABLES, type Table } from './rows.js';
import type { Row, Value } from './sqlite.js';
import type { Action, Actor, ObjectKind, ObjectName } from './types.js';
import { View, type ViewContext } from './view.js';

/** A file or directory that a row owns: relative to the root, and to whom it belongs. */
export interface Place {
  readonly place: string;
  readonly object: ObjectName;
}

export const KIND_TABLES: Readonly<Record<ObjectKind, Table>> = {
  namespace: TABLES.namespaces,
  lease: TABLES.leases,
  image: TABLES.images,
  content: TABLES.blobs,
  ingest: TABLES.ingests,
  snapshot: TABLES.snapshots,
  container: TABLES.containers,
  sandbox: TABLES.sandboxes,
};

/** The type under which a lease names such an object; undefined for what no lease can keep. */
export function leaseType({ kind, key }: ObjectName): { readonly type: string; readonly id: string } | undefined {
  switch (kind) {
    case 'content':
      return { type: 'content', id: key };
    case 'ingest':
      return { type: 'ingests', id: key };
    case 'image':
      return { type: 'images', id: key };
    case 'snapshot': {
      const [snapshotter, id] = splitSnapshotKey(key);
      return { type: `snapshots/${snapshotter}`, id };
    }
    case 'namespace':
    case 'lease':
    case 'container':
    case 'sandbox':
      return undefined;
  }
}

/** A file renamed before the commit, and back when that fails. */
interface Move {
  readonly from: string;
  readonly to: string;
}

export class Changes extends View {
  readonly #by: Actor;
  readonly #known = new Set<string>();
  readonly #moves: Move[] = [];
  readonly #loose: Place[] = [];
  readonly #described: ObjectName[] = [];
  #act: number | undefined;
  /** The lock is held: it changes here alone. */
  #sequence: number | undefined;

  constructor(context: ViewContext, by: Actor) {
    super(context);
    this.#by = by;
  }

  /** Places that may have lost their last owner: looked at once this is committed. */
  get loose(): readonly Place[] {
    return this.#loose;
  }

  /** Snapshots whose directories are to say something new of them. */
  get described(): readonly ObjectName[] {
    return this.#described;
  }

  /**
   * Brings files back to where the rows as they were have them.
   * @returns false when one stays for `settle`
   */
  undoMoves(): boolean {
    let isDone = true;
    for (const { from, to } of this.#moves.reverse()) {
      try {
        renameSync(to, from);
      } catch {
        // The error that led here is the one to be told.
        isDone = false;
      }
    }
    this.#moves.length = 0;
    return isDone;
  }

  override sequence(): number {
    this.#sequence ??= super.sequence();
    return this.#sequence;
  }

  protected now(): number {
    return Math.trunc(this.context.now());
  }

  /** Adds a line to the journal. @returns its number */
  protected note(action: Action, { kind, namespace, key }: ObjectName, proof?: string): number {
    this.#act ??= this.#begin();
    if (kind === 'snapshot' && action !== 'delete' && action !== 'trash') {
      this.#described.push({ kind, namespace, key });
    }
    const sequence = this.sequence() + 1;
    this.#sequence = sequence;
    this.database.run(
      'INSERT INTO journal (seq, act, action, kind, ns, key, proof) VALUES (?, ?, ?, ?, ?, ?, ?)',
      sequence,
      this.#act,
      action,
      kind,
      namespace,
      key,
      proof ?? null,
    );
    return sequence;
  }

  #begin(): number {
    const { command, rule, uid = process.getuid?.() ?? 0, pid = process.pid } = this.#by;
    const id = this.database.number('SELECT max(id) FROM acts') + 1;
    const sql = 'INSERT INTO acts (id, time, uid, pid, command, rule) VALUES (?, ?, ?, ?, ?, ?)';
    this.database.run(sql, id, this.now(), uid, pid, command, rule ?? null);
    return id;
  }

  /** A namespace is there from its first object on. */
  protected ensureNamespace(namespace: string): void {
    if (this.#known.has(namespace)) return;
    checkIdentifier('namespace', namespace);
    if (!this.hasNamespace(namespace)) {
      this.write(TABLES.namespaces, { ns: namespace, labels: '{}' });
      this.note('create', { kind: 'namespace', namespace, key: namespace });
    }
    this.#known.add(namespace);
  }

  protected forgetNamespace(namespace: string): void {
    this.#known.delete(namespace);
  }

  /** Puts a new row. @throws LaminaError AlreadyExists */
  protected add(name: ObjectName, row: Row): void {
    const table = KIND_TABLES[name.kind];
    if (this.database.get(table.one, ...keyOf(table, row)) !== undefined) throw alreadyExists(name);
    this.write(table, row);
    this.note('create', name);
  }

  /** Puts back a row as it was. @throws LaminaError AlreadyExists */
  protected putBack(name: ObjectName, row: Row): void {
    const table = KIND_TABLES[name.kind];
    if (this.database.get(table.one, ...keyOf(table, row)) !== undefined) throw alreadyExists(name);
    this.write(table, row);
    this.note('restore', name);
  }

  /** Changes columns of a row. @throws LaminaError NotFound */
  protected change(name: ObjectName, changes: Row, proof?: string): void {
    const table = KIND_TABLES[name.kind];
    this.write(table, { ...this.need(name), ...changes }, table.replace);
    this.note('update', name, proof);
  }

  /** Removes a row. @returns what it was @throws LaminaError NotFound */
  protected take(name: ObjectName): Row {
    const table = KIND_TABLES[name.kind];
    const row = this.need(name);
    this.database.run(table.remove, ...keyOf(table, row));
    return row;
  }

  /** The columns of a row alone. */
  protected strip({ kind }: ObjectName, row: Row): Row {
    return KIND_TABLES[kind].strip(row);
  }

  /** @throws LaminaError NotFound */
  protected need(name: ObjectName): Row {
    const row = this.row(KIND_TABLES[name.kind], ...rowKey(name));
    if (row !== undefined) return row;
    throw new LaminaError(Code.NotFound, `${describe(name)}: not found`, { subject: name.key });
  }

  protected write(table: Table, row: Row, sql: string = table.insert): void {
    this.database.run(sql, ...table.values(row));
  }

  /**
   * The row is gone: its files follow after the commit.
   * @param isForGood nothing will tell of them any more: it is written down until they have
   *   followed
   */
  protected letGo(object: ObjectName, row: Row, isForGood: boolean): string | undefined {
    const place = this.#placeOf(object, row);
    if (place !== undefined) this.#loosen({ place, object }, isForGood);
    // A blob that no namespace has is kept as long as an ingest waits for it.
    const { expected } = row;
    if (object.kind === 'ingest' && typeof expected === 'string') {
      const blob: ObjectName = { kind: 'content', namespace: object.namespace, key: expected };
      this.#loosen({ place: this.context.layout.blobPlace(expected), object: blob }, true);
    }
    return place;
  }

  #loosen(place: Place, isForGood: boolean): void {
    this.#loose.push(place);
    if (!isForGood) return;
    const { kind, namespace, key } = place.object;
    const sql = 'INSERT OR REPLACE INTO loose (place, kind, ns, key) VALUES (?, ?, ?, ?)';
    this.database.run(sql, place.place, kind, namespace, key);
  }

  #placeOf({ kind, namespace, key }: ObjectName, row: Row): string | undefined {
    const { layout } = this.context;
    if (kind === 'content') return layout.blobPlace(key);
    if (kind === 'ingest') return layout.ingestPlace(namespace, key);
    if (kind !== 'snapshot') return undefined;
    return layout.snapshotPlace(String(row['snapshotter']), String(row['backend']));
  }

  /** Gets a file out of the trash before the commit, so that no committed row lacks its file. */
  protected fetch(place: string): void {
    const { layout } = this.context;
    const [from, to] = [layout.inTrash(place), layout.at(place)];
    if (!existsSync(from) || existsSync(to)) return;
    layout.makeFolder(dirname(to));
    try {
      renameSync(from, to);
    } catch (error) {
      throw fileError(error, from);
    }
    this.#moves.push({ from, to });
  }
}

function alreadyExists(name: ObjectName): LaminaError {
  return new LaminaError(Code.AlreadyExists, `${describe(name)}: already exists`, { subject: name.key });
}

function keyOf(table: Table, row: Row): Value[] {
  return table.key.map((column) => row[column] ?? null);
}

export function rowKey({ kind, namespace, key }: ObjectName): Value[] {
  if (kind === 'namespace') return [namespace];
  return kind === 'snapshot' ? [namespace, ...splitSnapshotKey(key)] : [namespace, key];
}

/** `lease a of default`, for messages. */
export function describe({ kind, namespace, key }: ObjectName): string {
  return kind === 'namespace' ? `namespace ${namespace}` : `${kind} ${key} of ${namespace}`;
}
