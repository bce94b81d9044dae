/** New metadata out of what is left: the damaged database, the last copy, the directories. */
import { existsSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno, messageOf, randomName } from '../base/index.js';
import { childLabels, isAuthentic, putAside, RECOVERED } from './adopt.js';
import { fileError, type Layout } from './layout.js';
import { sync, whyUnusable } from './maintenance.js';
import { needAlone } from './openers.js';
import { blobPlaces, ingestPlaces, snapshotPlaces } from './places.js';
import { labelText, TABLES, type Table } from './rows.js';
import { fill, keyText, nothing, type Salvaged, salvage } from './salvage.js';
import { migrate } from './schema.js';
import { readRecord } from './snapshot-record.js';
import { Database, type Row } from './sqlite.js';

export interface RebuildReport {
  /** Rows that were still good. */
  readonly kept: number;
  /** Rows that only the last copy had. */
  readonly fromBackup: number;
  /** Files of content that had no record any more. */
  readonly adopted: number;
  /** Snapshots whose record was in their directory only. */
  readonly snapshots: number;
  /** Everything that is not as it was, a line each. */
  readonly losses: readonly string[];
  /** Where the damaged database is now; undefined when there was none. */
  readonly damaged: string | undefined;
}

/** Content without a record is kept so long: time to look at it. */
const KEPT_MS = 7 * 24 * 60 * 60 * 1_000;
const LEASE = 'recovered';

/**
 * Makes the metadata anew. Each row that can be read and has its checksum stays; where some cannot
 * be read, those of the last copy come in; content without a record goes into namespace
 * `recovered`, under a lease of seven days; snapshots come back by what their directories say. The
 * damaged database is kept below `damaged/`.
 * @throws LaminaError Unavailable while a process has the store open
 */
export async function rebuild(layout: Layout, now: number = Date.now()): Promise<RebuildReport> {
  needAlone(layout.database);
  const made = join(layout.root, 'metadata.rebuilt.db');
  if (isWhole(layout, made)) replace(layout, made);
  const losses: string[] = [];
  const salvaged = read(layout.database, losses);
  const kept = count(salvaged);
  const fromBackup = useBackup(layout, salvaged, losses);
  const adopted = await adoptContent(layout, salvaged, losses, now);
  const snapshots = adoptSnapshots(layout, salvaged);
  adoptIngests(layout, salvaged, now);
  ensureNamespaces(salvaged);
  write(made, salvaged, now);
  const damaged = replace(layout, made);
  return { kept, fromBackup, adopted, snapshots, losses, damaged };
}

function count({ rows }: Salvaged): number {
  return [...rows.values()].reduce((sum, { size }) => sum + size, 0);
}

function read(file: string, losses: string[]): Salvaged {
  if (!existsSync(file)) return nothing();
  try {
    using database = new Database(file, { busyMs: 0, readOnly: false });
    const salvaged = salvage(database);
    for (const table of salvaged.incomplete) losses.push(`${file}: rows of ${table.name} that cannot be read`);
    return salvaged;
  } catch (error) {
    losses.push(`nothing can be read: ${messageOf(error)}`);
    return nothing();
  }
}

function useBackup(layout: Layout, salvaged: Salvaged, losses: string[]): number {
  if (salvaged.incomplete.size === 0) return 0;
  const why = whyUnusable(layout.backup);
  if (why !== undefined) {
    losses.push(`${layout.backup}: no use: ${why}`);
    return 0;
  }
  using backup = new Database(layout.backup, { busyMs: 0, readOnly: true });
  const time = statSync(layout.backup).mtime.toISOString();
  losses.push(`changes after ${time} to rows that could not be read: what was before is back`);
  return fill(salvaged, salvage(backup));
}

function rowsOf({ rows }: Salvaged, table: Table): Map<string, Row> {
  const known = rows.get(table) ?? new Map<string, Row>();
  rows.set(table, known);
  return known;
}

function put(salvaged: Salvaged, table: Table, row: Row): void {
  rowsOf(salvaged, table).set(keyText(table, row), row);
}

async function adoptContent(layout: Layout, salvaged: Salvaged, losses: string[], now: number): Promise<number> {
  const known = new Set([...rowsOf(salvaged, TABLES.blobs).values()].map(({ digest }) => digest));
  const places = new Set([...rowsOf(salvaged, TABLES.trash).values()].map(({ place }) => place));
  let adopted = 0;
  for (const { place, object } of blobPlaces(layout.blobs)) {
    const digest = object.key;
    if (known.has(digest) || places.has(place)) continue;
    if (!(await isAuthentic(layout, digest))) {
      losses.push(`${layout.at(place)}: not what its name says: now ${putAside(layout, layout.at(place))}`);
      continue;
    }
    const { size, mtimeMs } = statSync(layout.at(place));
    const labels = labelText(childLabels(layout, digest));
    const created = Math.trunc(mtimeMs);
    put(salvaged, TABLES.blobs, { ns: RECOVERED, digest, size, labels, created, updated: created });
    put(salvaged, TABLES.leaseResources, { ns: RECOVERED, lease: LEASE, type: 'content', id: digest });
    adopted += 1;
  }
  if (adopted > 0) {
    const labels = labelText({ 'containerd.io/gc.expire': new Date(now + KEPT_MS).toISOString() });
    put(salvaged, TABLES.leases, { ns: RECOVERED, id: LEASE, created: Math.trunc(now), labels, owner: null });
  }
  return adopted;
}

function adoptSnapshots(layout: Layout, salvaged: Salvaged): number {
  const rows = rowsOf(salvaged, TABLES.snapshots);
  const backends = new Set([...rows.values()].map(({ snapshotter, backend }) => `${snapshotter}/${backend}`));
  let adopted = 0;
  for (const { place, object } of snapshotPlaces(layout.snapshots)) {
    const row = backends.has(object.key) ? undefined : readRecord(layout, place);
    if (row === undefined || rows.has(keyText(TABLES.snapshots, row))) continue;
    put(salvaged, TABLES.snapshots, row);
    adopted += 1;
  }
  return adopted;
}

function adoptIngests(layout: Layout, salvaged: Salvaged, now: number): void {
  const rows = rowsOf(salvaged, TABLES.ingests);
  for (const { place, object } of ingestPlaces(layout.ingests)) {
    const { namespace: ns, key: ref } = object;
    if (ref === '' || layout.ingestPlace(ns, ref) !== place) continue;
    const time = Math.trunc(now);
    const row = {
      ns,
      ref,
      expected: null,
      total: null,
      expires: time + KEPT_MS,
      started: time,
      updated: time,
      owner: null,
    };
    if (!rows.has(keyText(TABLES.ingests, row))) put(salvaged, TABLES.ingests, row);
  }
}

function ensureNamespaces(salvaged: Salvaged): void {
  const known = rowsOf(salvaged, TABLES.namespaces);
  for (const [table, rows] of [...salvaged.rows]) {
    if (table === TABLES.trash) continue;
    for (const { ns } of rows.values()) {
      const row = { ns: ns ?? '', labels: '{}' };
      if (!known.has(keyText(TABLES.namespaces, row))) put(salvaged, TABLES.namespaces, row);
    }
  }
}

function write(file: string, { rows, unproven }: Salvaged, now: number): void {
  for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(`${file}${suffix}`, { force: true });
  using database = new Database(file, { busyMs: 0, readOnly: false });
  database.exec('PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL');
  migrate(database);
  database.beginWrite();
  for (const [table, found] of rows) {
    for (const row of found.values()) database.run(table.insert, ...table.values(row));
  }
  for (const [table, found] of unproven) {
    for (const row of found) {
      const columns = Object.keys(row);
      const sql = `INSERT OR IGNORE INTO ${table} (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`;
      database.run(sql, ...Object.values(row));
    }
  }
  // Numbers of trash items are numbers of the journal: they must not come again.
  const last = Math.max(database.number('SELECT max(id) FROM trash'), database.number('SELECT max(seq) FROM journal'));
  const act = database.number('SELECT max(id) FROM acts') + 1;
  const uid = process.getuid?.() ?? 0;
  database.run("INSERT INTO acts VALUES (?, ?, ?, ?, 'rebuild', NULL)", act, Math.trunc(now), uid, process.pid);
  const sql = "INSERT INTO journal VALUES (?, ?, 'update', 'namespace', ?, ?, 'metadata rebuilt')";
  database.run(sql, last + 1, act, RECOVERED, RECOVERED);
  database.exec('COMMIT');
}

/** Puts the new database in place of the old one, with whose log it must never meet. */
function replace(layout: Layout, made: string): string | undefined {
  sync(made);
  const aside = join(layout.damaged, `metadata.${randomName()}.db`);
  layout.makeFolder(layout.damaged);
  try {
    for (const suffix of ['-shm', '-wal', '']) moveIfThere(`${layout.database}${suffix}`, `${aside}${suffix}`);
    sync(layout.root);
    renameSync(made, layout.database);
    sync(layout.root);
  } catch (error) {
    throw fileError(error, layout.database);
  }
  return existsSync(aside) ? aside : undefined;
}

function moveIfThere(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}

/** True when an earlier rebuild was cut short just before its end. */
function isWhole(layout: Layout, made: string): boolean {
  if (existsSync(layout.database) || existsSync(`${made}-journal`)) return false;
  return whyUnusable(made) === undefined;
}
