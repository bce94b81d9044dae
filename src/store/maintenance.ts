/** Upkeep of the files: checkpoints, free pages, backups. */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { Code, LaminaError, randomName } from '../base/index.js';
import { checkDatabase } from './check.js';
import { fileError, type Layout } from './layout.js';
import { APPLICATION_ID } from './schema.js';
import { Database } from './sqlite.js';

/** A log of this size is brought into the database. */
const LOG_BYTES = 4 << 20;
/**
 * One that a reader has kept from being emptied is cut after a checkpoint that it no longer
 * hinders.
 */
const LOG_LIMIT = 32 << 20;
/** Free pages are given back when they are more than this share of the file, and so many. */
const FREE_SHARE = 0.25;
const FREE_PAGES = 1_024;
/** So many pages at a time: each step is a write of its own. */
const FREE_STEP = 1_024;
const BACKUP_MS = 60 * 60 * 1_000;

/** How a connection that writes is set up: checkpoints are made here, never within a commit. */
export const WRITER_SETTINGS = `PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;
  PRAGMA journal_size_limit = ${LOG_LIMIT}`;

/** Brings a long log into the database, between commits. */
export class Checkpoints {
  readonly #database: Database;
  /** The size of the log at which it is due. */
  #due = LOG_BYTES;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Does nothing while the log is short, and what it can while others read or write. */
  run(): void {
    const log = `${this.#database.file}-wal`;
    const size = (): number => statSync(log, { throwIfNoEntry: false })?.size ?? 0;
    if (size() < this.#due) return;
    this.#database.checkpoint();
    // A reader of an old state keeps it from being emptied: then not again at each commit.
    this.#due = size() + LOG_BYTES;
  }
}

/** Gives pages that nothing uses back to the file system. */
export function shrink(database: Database, checkpoints: Checkpoints): void {
  const isMuch = (): boolean => {
    const free = database.number('PRAGMA freelist_count');
    return free > FREE_PAGES && free > database.number('PRAGMA page_count') * FREE_SHARE;
  };
  if (!isMuch()) return;
  do {
    database.exec(`PRAGMA incremental_vacuum(${FREE_STEP})`);
    checkpoints.run();
  } while (isMuch());
}

/**
 * Writes a consistent copy of the metadata while others read and write. The file is new, whole and
 * on the disk, or not there.
 * @throws LaminaError AlreadyExists unless `replace`; ResourceExhausted without space
 */
export function copyDatabase(database: Database, file: string, replace = false): void {
  if (!replace && statSync(file, { throwIfNoEntry: false }) !== undefined) {
    throw new LaminaError(Code.AlreadyExists, `${file}: already exists: choose another name`, { subject: file });
  }
  const made = `${file}.${randomName()}`;
  try {
    database.run('VACUUM INTO ?', made);
    sync(made);
    renameSync(made, file);
    sync(dirname(file));
  } catch (error) {
    rmSync(made, { force: true });
    throw fileError(error, file);
  }
}

/** Makes the automatic copy when the last is older than an hour. */
export function backUpWhenDue(database: Database, layout: Layout, now: number): void {
  const last = statSync(layout.backup, { throwIfNoEntry: false })?.mtimeMs;
  // One from the future is of a clock that was set.
  if (last !== undefined && now - last < BACKUP_MS && last <= now) return;
  copyDatabase(database, layout.backup, true);
}

/** Why a file is no copy that can be used; undefined for one that can. */
export function whyUnusable(file: string): string | undefined {
  if (statSync(file, { throwIfNoEntry: false }) === undefined) return 'it is not there';
  try {
    using copy = new Database(file, { busyMs: 0, readOnly: true });
    if (copy.number('PRAGMA application_id') !== APPLICATION_ID) return 'it is no store';
    return checkDatabase(copy, 1)[0];
  } catch (error) {
    if (error instanceof LaminaError) return error.message;
    throw error;
  }
}

export function sync(path: string): void {
  const file = openSync(path, 'r');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
