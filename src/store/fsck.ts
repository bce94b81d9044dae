/** Comparing the metadata with itself and with the files, and mending what can be mended. */
import { existsSync, statSync } from 'node:fs';
import { LaminaError, messageOf } from '../base/index.js';
import { childLabels, isAuthentic, putAside, RECOVERED } from './adopt.js';
import { checkDatabase } from './check.js';
import { Layout } from './layout.js';
import { blobPlaces, findLoose, settle, snapshotPlaces } from './places.js';
import { type RebuildReport, rebuild } from './rebuild.js';
import { number, TABLES, text } from './rows.js';
import { checkVersion } from './schema.js';
import { Database } from './sqlite.js';
import { defaultRoot, Store } from './store.js';

export interface FsckOptions {
  /** As of StoreOptions. */
  readonly root?: string | undefined;
  /** Mends what can be mended; without it nothing is changed. */
  readonly repair?: boolean | undefined;
  /** Reads all content and compares digests; without it, sizes only. */
  readonly verify?: boolean | undefined;
  /** Makes the metadata anew though it looks sound. */
  readonly rebuild?: boolean | undefined;
}

export interface Finding {
  /** The file or object. */
  readonly subject: string;
  readonly problem: string;
  /** Says what was done, or is to be done. */
  readonly remedy: string;
  readonly isRepaired: boolean;
}

export interface FsckReport {
  readonly findings: readonly Finding[];
  /** Nothing is wrong any more. */
  readonly isSound: boolean;
  /** Blobs that were looked at. */
  readonly blobs: number;
  readonly rebuilt: RebuildReport | undefined;
}

const ACTOR = { command: 'fsck' };

class Check {
  readonly findings: Finding[] = [];
  readonly layout: Layout;
  readonly repair: boolean;

  constructor(layout: Layout, repair: boolean) {
    this.layout = layout;
    this.repair = repair;
  }

  /** Notes what is wrong, and mends it when that was asked for. */
  find(subject: string, problem: string, remedy: string, mend: () => void): void {
    const isRepaired = this.repair;
    if (isRepaired) mend();
    this.findings.push({ subject, problem, remedy: isRepaired ? remedy : `repair: ${remedy}`, isRepaired });
  }

  /** Notes what cannot be mended here. */
  report(subject: string, problem: string, remedy: string): void {
    this.findings.push({ subject, problem, remedy, isRepaired: false });
  }
}

/**
 * Checks a store, and mends it when asked to. Others may go on using it, unless the metadata has to
 * be made anew.
 * @throws LaminaError as `Store.open`, but not for damage; Unavailable when it has to be alone and
 *   is not
 */
export async function fsck(options: FsckOptions = {}): Promise<FsckReport> {
  const layout = new Layout(options.root ?? defaultRoot());
  const check = new Check(layout, options.repair ?? false);
  layout.prepare(!check.repair);
  let rebuilt: RebuildReport | undefined;
  const wrong = whatIsWrong(layout);
  if (wrong.length > 0 || options.rebuild === true) {
    for (const problem of wrong) {
      check.findings.push({
        subject: layout.database,
        problem,
        remedy: check.repair ? 'the metadata was made anew' : 'repair: the metadata is made anew',
        isRepaired: check.repair,
      });
    }
    if (!check.repair) return { findings: check.findings, isSound: wrong.length === 0, blobs: 0, rebuilt };
    rebuilt = await rebuild(layout);
  }
  const { database: file } = layout;
  if (!existsSync(file)) return { findings: check.findings, isSound: true, blobs: 0, rebuilt };
  const blobs = await compare(check, options.verify ?? false);
  return { findings: check.findings, isSound: check.findings.every(({ isRepaired }) => isRepaired), blobs, rebuilt };
}

/** Lists why the metadata cannot be used. */
function whatIsWrong(layout: Layout): string[] {
  if (!existsSync(layout.database)) {
    const isLost = existsSync(layout.backup) || blobPlaces(layout.blobs).length > 0;
    return isLost ? ['it is not there, and there is content'] : [];
  }
  let database: Database | undefined;
  try {
    database = new Database(layout.database, { busyMs: 5_000, readOnly: false });
    if (checkVersion(database) > 0) return checkDatabase(database);
    const isLost = existsSync(layout.backup) || blobPlaces(layout.blobs).length > 0;
    return isLost ? ['it is empty, and there is content'] : [];
  } catch (error) {
    if (!(error instanceof LaminaError)) throw error;
    return [messageOf(error)];
  } finally {
    database?.[Symbol.dispose]();
  }
}

/** Rows with rows, and rows with files. @returns how many blobs there are */
async function compare(check: Check, verify: boolean): Promise<number> {
  const { layout } = check;
  using store = Store.open({ root: layout.root, readOnly: !check.repair });
  using database = new Database(layout.database, { busyMs: 5_000, readOnly: !check.repair });
  checkLeases(check, database);
  checkParents(check, database);
  if (check.repair) settle(database, layout, findLoose(database, layout));
  const blobs = database.all('SELECT digest, max(size) AS size FROM blobs GROUP BY digest ORDER BY digest');
  const known = new Set<string>();
  for (const row of blobs) {
    const digest = text(row['digest']);
    known.add(digest);
    await checkBlob(check, digest, number(row['size']), verify);
  }
  for (const row of database.all("SELECT DISTINCT key FROM trash WHERE kind = 'content'")) known.add(text(row['key']));
  for (const { object } of blobPlaces(layout.blobs)) {
    if (!known.has(object.key)) await checkStray(check, store, object.key);
  }
  checkSnapshots(check, database);
  return blobs.length;
}

function checkLeases(check: Check, database: Database): void {
  const sql = `SELECT DISTINCT r.ns, r.lease FROM lease_resources r
    LEFT JOIN leases l ON l.ns = r.ns AND l.id = r.lease WHERE l.id IS NULL`;
  for (const row of database.all(sql)) {
    const [ns, lease] = [text(row['ns']), text(row['lease'])];
    check.find(`lease ${lease} of ${ns}`, 'it is gone, what it kept is still listed', 'the list was removed', () => {
      database.run('DELETE FROM lease_resources WHERE ns = ? AND lease = ?', ns, lease);
    });
  }
}

function checkParents(check: Check, database: Database): void {
  const sql = `SELECT s.ns, s.snapshotter, s.name, s.parent FROM snapshots s LEFT JOIN snapshots p
    ON p.ns = s.ns AND p.snapshotter = s.snapshotter AND p.name = s.parent
    WHERE s.parent IS NOT NULL AND p.name IS NULL`;
  for (const row of database.all(sql)) {
    const subject = `snapshot ${row['snapshotter']}/${row['name']} of ${row['ns']}`;
    check.report(subject, `its parent ${row['parent']} is gone`, 'remove it, and unpack its image again');
  }
}

async function checkBlob(check: Check, digest: string, size: number, verify: boolean): Promise<void> {
  const path = check.layout.blob(digest);
  const remedy = 'ingest it again: nothing here has its bytes';
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return check.report(path, 'the file is gone', remedy);
  const isWhole = found.size === size && (!verify || (await isAuthentic(check.layout, digest)));
  if (isWhole) return;
  const problem = found.size === size ? `its content is not ${digest}` : `it has ${found.size} bytes, not ${size}`;
  const where = check.repair ? `; the damaged file is ${putAside(check.layout, path)}` : '';
  check.report(path, problem, `${remedy}${where}`);
}

/**
 * A file without a record: of an ingest cut short in its last step, or of metadata that was lost.
 */
async function checkStray(check: Check, store: Store, digest: string): Promise<void> {
  const { layout } = check;
  const path = layout.blob(digest);
  if (!(await isAuthentic(layout, digest))) {
    check.find(path, 'no record, and not what its name says', `put aside below ${layout.damaged}`, () => {
      putAside(layout, path);
    });
    return;
  }
  check.find(path, 'no record', `recorded in namespace ${RECOVERED}, where the next collection finds it`, () => {
    const { size } = statSync(path);
    store.write(ACTOR, (tx) => tx.addBlob(RECOVERED, { digest, size, labels: childLabels(layout, digest) }));
  });
}

function checkSnapshots(check: Check, database: Database): void {
  for (const { place, object } of snapshotPlaces(check.layout.snapshots)) {
    const [snapshotter = '', backend = ''] = object.key.split('/');
    const sql = `SELECT 1 FROM ${TABLES.snapshots.name} WHERE snapshotter = ? AND backend = ?`;
    if (database.get(sql, snapshotter, backend) !== undefined) continue;
    check.report(check.layout.at(place), 'a directory of no snapshot', 'remove it when you know that it is not needed');
  }
}
