/** The metadata store: opening, reading, writing, closing. docs/store.md tells how it is used. */

import { existsSync } from 'node:fs';
import { Code, LaminaError } from '../base/index.js';
import { type Place, rowKey } from './changes.js';
import { checkDatabase, isStructureSound } from './check.js';
import { ContentFiles } from './content.js';
import { DEFAULT_ROOT, Layout } from './layout.js';
import { backUpWhenDue, Checkpoints, copyDatabase, shrink, WRITER_SETTINGS } from './maintenance.js';
import { blobPlaces, findLoose, forgetLoose, settle } from './places.js';
import { REPAIR } from './remedies.js';
import { removeDoomed } from './removal.js';
import { damaged, TABLES } from './rows.js';
import { checkVersion, MIGRATIONS, migrate } from './schema.js';
import { writeRecord } from './snapshot-record.js';
import { Database } from './sqlite.js';
import { Transaction } from './transaction.js';
import type { Actor } from './types.js';
import { View, type ViewContext } from './view.js';
import { deadWriters, forgetWriters, Writer } from './writers.js';

export interface StoreOptions {
  /** LAMINA_ROOT without it, /var/lib/lamina without either. */
  readonly root?: string | undefined;
  /** How long another process's write is waited for, in milliseconds; 5,000 without it. */
  readonly busyMs?: number | undefined;
  /** The time in milliseconds since the epoch. */
  readonly now?: (() => number) | undefined;
  /** Changes nothing, and needs a store that is there. */
  readonly readOnly?: boolean | undefined;
}

const BUSY_MS = 5_000;

/** Those of this process: its end is an orderly one, whether it has closed them or not. */
const open = new Set<Store>();

function closeAll(): void {
  for (const store of open) store[Symbol.dispose]();
}

/** The root a process uses that was given none. */
export function defaultRoot(): string {
  const { LAMINA_ROOT: root } = process.env;
  return root === undefined || root === '' ? DEFAULT_ROOT : root;
}

export class Store implements Disposable {
  readonly root: string;
  /** Files of blobs and ingests. */
  readonly content: ContentFiles;
  readonly #layout: Layout;
  readonly #database: Database;
  readonly #context: ViewContext;
  readonly #checkpoints: Checkpoints;
  readonly #writer = new Writer();
  readonly #isReadOnly: boolean;
  #isClosed = false;
  #isStructureChecked = false;
  /** Places that need not be remembered any more, from the next commit on. */
  #settled: readonly Place[] = [];
  /** Files are not yet where the rows have them. */
  #isUnsettled = false;
  /** The transaction under way, whose view nested reads get. */
  #current: View | undefined;

  /**
   * Opens the store, which is made when it is not there. After an end that was not orderly the
   * whole metadata is checked.
   * @throws LaminaError PermissionDenied for a root that others may use; FailedPrecondition for a
   *   newer schema; DataLoss for damage, with the file and what to do; Unavailable while another
   *   process checks it
   */
  static open(options: StoreOptions = {}): Store {
    const layout = new Layout(options.root ?? defaultRoot());
    const readOnly = options.readOnly ?? false;
    layout.prepare(readOnly);
    const database = new Database(layout.database, { busyMs: options.busyMs ?? BUSY_MS, readOnly });
    try {
      const version = checkVersion(database);
      if (version === 0) needNoContent(layout, database);
      if (readOnly && version < MIGRATIONS.length) throw notMade(layout.database);
      if (!readOnly) {
        database.exec(`PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; ${WRITER_SETTINGS}`);
        migrate(database);
      }
      const store = new Store(layout, database, options);
      if (!readOnly) store.#recover();
      return store;
    } catch (error) {
      database[Symbol.dispose]();
      throw error;
    }
  }

  private constructor(layout: Layout, database: Database, options: StoreOptions) {
    this.root = layout.root;
    this.#layout = layout;
    this.#database = database;
    this.#checkpoints = new Checkpoints(database);
    this.#isReadOnly = options.readOnly ?? false;
    this.#context = {
      database,
      layout,
      now: options.now ?? Date.now,
      checkStructure: () => this.#checkStructure(),
    };
    this.content = new ContentFiles(this, layout);
    if (open.size === 0) process.on('exit', closeAll);
    open.add(this);
  }

  /**
   * Closes the store. A process that wrote leaves a copy of the metadata when the last is an hour
   * old.
   */
  [Symbol.dispose](): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    open.delete(this);
    if (open.size === 0) process.off('exit', closeAll);
    try {
      if (this.#writer.hasWritten) this.#leave();
    } finally {
      this.#database[Symbol.dispose]();
    }
  }

  #leave(): void {
    // A failure here costs no data: the next open looks after it.
    try {
      backUpWhenDue(this.#database, this.#layout, Date.now());
      if (this.#isUnsettled) return;
      this.#writer.leave(this.#database, () => forgetLoose(this.#database, this.#settled));
    } catch (error) {
      if (!(error instanceof LaminaError)) throw error;
    }
  }

  /** Calls `work` with one consistent view, valid until it returns. Never waits for a writer. */
  read<T>(work: (view: View) => T): T {
    if (this.#current !== undefined) return work(this.#current);
    const commit = (): void => this.#database.exec('COMMIT');
    return this.#within(
      () => this.#database.exec('BEGIN'),
      new View(this.#context),
      work,
      commit,
      () => undefined,
    );
  }

  /**
   * Calls `work` in a write transaction. When it throws, nothing has happened; when this returns,
   * the change is on the disk.
   * @throws LaminaError Unavailable when another process writes longer than `busyMs`;
   *   ResourceExhausted without space
   */
  write<T>(by: Actor, work: (tx: Transaction) => T): T {
    if (this.#isReadOnly) throw new LaminaError(Code.FailedPrecondition, `${this.root}: opened for reading only`);
    if (this.#current !== undefined) throw new LaminaError(Code.FailedPrecondition, 'a write within another');
    const transaction = new Transaction(this.#context, by);
    const commit = (): void => {
      transaction.trimJournal();
      this.#writer.register(this.#database);
      this.#database.exec('COMMIT');
    };
    const undo = (): void => {
      if (!transaction.undoMoves()) this.#isUnsettled = true;
    };
    const all = (tx: Transaction): T => {
      forgetLoose(this.#database, this.#settled);
      return work(tx);
    };
    const result = this.#within(() => this.#database.beginWrite(), transaction, all, commit, undo);
    this.#settled = [];
    this.#writer.registered();
    this.#follow(transaction);
    return result;
  }

  /** Does the work that follows a commit. A failure is made good later: the commit stands. */
  #follow({ loose, described }: Transaction): void {
    try {
      for (const name of described) {
        const row = this.#database.get(TABLES.snapshots.one, ...rowKey(name));
        if (row !== undefined) writeRecord(this.#layout, row);
      }
      settle(this.#database, this.#layout, loose);
      this.#settled = loose;
      this.#checkpoints.run();
    } catch (error) {
      if (!(error instanceof LaminaError)) throw error;
      this.#isUnsettled = true;
    }
  }

  /** Milliseconds since the epoch. */
  now(): number {
    return this.#context.now();
  }

  /**
   * Writes a consistent copy of the metadata, which can be put in place of metadata.db while
   * nothing has the store open. Others go on reading and writing meanwhile.
   * @throws LaminaError AlreadyExists for a file that is there; ResourceExhausted without space
   */
  backup(file: string): void {
    copyDatabase(this.#database, file);
  }

  /**
   * Work for a long-lived process to do now and then: files to where the rows have them, free pages
   * back to the file system, a copy of the metadata when the last is an hour old.
   * @throws LaminaError Unavailable while another process keeps writing
   */
  maintain(): void {
    this.#settleAll();
    this.#isUnsettled = false;
    shrink(this.#database, this.#checkpoints);
    backUpWhenDue(this.#database, this.#layout, Date.now());
  }

  /** Brings the file of a blob to where the rows have it. */
  settleBlob(digest: string): void {
    const object = { kind: 'content', namespace: '', key: digest } as const;
    settle(this.#database, this.#layout, [{ place: this.#layout.blobPlace(digest), object }]);
  }

  /** Frees the bytes of what was deleted for good. */
  async reclaim(signal?: AbortSignal): Promise<void> {
    await removeDoomed(this.#layout, signal);
  }

  #within<V extends View, T>(
    begin: () => void,
    view: V,
    work: (view: V) => T,
    commit: () => void,
    undo: () => void,
  ): T {
    begin();
    this.#current = view;
    try {
      const result = work(view);
      if (result instanceof Promise) {
        result.catch(() => undefined);
        throw new LaminaError(Code.InvalidArgument, 'the function of a transaction must not be asynchronous');
      }
      commit();
      return result;
    } catch (error) {
      // As long as the lock is held.
      undo();
      this.#database.rollBack();
      throw error;
    } finally {
      this.#current = undefined;
      view.end();
    }
  }

  #checkStructure(): void {
    if (this.#isStructureChecked) return;
    if (!isStructureSound(this.#database)) throw damaged(this.#database.file, 'its structure');
    this.#isStructureChecked = true;
  }

  #settleAll(): void {
    const loose = findLoose(this.#database, this.#layout);
    settle(this.#database, this.#layout, loose);
    this.#settled = [...this.#settled, ...loose];
  }

  /** After an end that was not orderly. */
  #recover(): void {
    const dead = deadWriters(this.#database);
    if (dead.length === 0) return;
    const wrong = checkDatabase(this.#database);
    if (wrong.length > 0) {
      const { file } = this.#database;
      const what = `${file}: it is damaged: ${REPAIR}: ${wrong.slice(0, 3).join('; ')}`;
      throw new LaminaError(Code.DataLoss, what, { subject: file });
    }
    this.#settleAll();
    this.write({ command: 'recovery' }, () => forgetWriters(this.#database, dead));
  }
}

function notMade(file: string): LaminaError {
  return new LaminaError(Code.NotFound, `${file}: there is no store: it is made by the first that writes`, {
    subject: file,
  });
}

/**
 * An empty database beside content is no new store: what it held is lost, and would be collected.
 */
function needNoContent(layout: Layout, database: Database): void {
  const { database: file } = layout;
  if (!existsSync(layout.backup) && blobPlaces(layout.blobs).length === 0) return;
  // Another process may have made it meanwhile.
  if (checkVersion(database) > 0) return;
  throw new LaminaError(Code.DataLoss, `${file}: it is empty, and there is content: ${REPAIR}`, {
    subject: file,
  });
}
