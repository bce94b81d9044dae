/** The only file that knows node:sqlite: opening, cached statements, transactions, errors. */

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { Code, LaminaError, messageOf } from '../base/index.js';
import { CHECK, REPAIR } from './remedies.js';

export type Value = string | number | null;
export type Row = Readonly<Record<string, Value>>;

export interface DatabaseOptions {
  /** How long a lock of another process is waited for. */
  readonly busyMs: number;
  readonly readOnly: boolean;
}

/** Result codes of SQLite (https://sqlite.org/rescode.html). */
const Result = {
  Busy: 5,
  Locked: 6,
  NoMemory: 7,
  ReadOnly: 8,
  Interrupt: 9,
  IoError: 10,
  Corrupt: 11,
  Full: 13,
  CannotOpen: 14,
  NotADatabase: 26,
} as const;

interface Complaint {
  readonly code: Code;
  readonly text: string;
}

/**
 * After these SQLite may have ended the transaction itself: what follows would be one of its own
 * each.
 */
const ENDING: ReadonlySet<number> = new Set([
  Result.NoMemory,
  Result.Interrupt,
  Result.IoError,
  Result.Corrupt,
  Result.Full,
]);

/**
 * SQLite's own waiting grows to 100 ms and misses the gaps that another writer leaves on purpose.
 */
const POLL_MS = 2;
const clock = new Int32Array(new SharedArrayBuffer(4));

const COMPLAINTS: ReadonlyMap<number, Complaint> = new Map([
  [Result.Busy, { code: Code.Unavailable, text: 'another process is writing to it: try again' }],
  [Result.Locked, { code: Code.Unavailable, text: 'it is in use in this process: try again' }],
  [Result.ReadOnly, { code: Code.PermissionDenied, text: 'it cannot be written: check its owner, mode and mount' }],
  [
    Result.IoError,
    { code: Code.Internal, text: `reading or writing failed: check the disk and the kernel log, then ${CHECK}` },
  ],
  [Result.Corrupt, { code: Code.DataLoss, text: `it is damaged: ${REPAIR}` }],
  [Result.Full, { code: Code.ResourceExhausted, text: 'no space is left on its file system: free some and try again' }],
  [Result.CannotOpen, { code: Code.Unavailable, text: 'it cannot be opened: check that its directory can be used' }],
  [Result.NotADatabase, { code: Code.DataLoss, text: `it is no database any more: ${REPAIR}` }],
]);

function resultOf(error: unknown): number {
  const has = error instanceof Error && 'errcode' in error && typeof error.errcode === 'number';
  return has ? Number(error.errcode) & 0xff : 0;
}

/** An error of SQLite as one of Lamina's: the file, what is wrong, what to do. */
export function storeError(error: unknown, file: string): unknown {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return error;
  const complaint = COMPLAINTS.get(error.errcode & 0xff);
  const detail = `${error.message} (SQLite code ${error.errcode})`;
  if (complaint === undefined)
    return new LaminaError(Code.Internal, `${file}: ${detail}`, { subject: file, cause: error });
  return new LaminaError(complaint.code, `${file}: ${complaint.text}: ${detail}`, { subject: file, cause: error });
}

/**
 * Older releases of Node say on stderr that the module is experimental; users cannot do anything
 * with that.
 */
function loadSqlite(): typeof import('node:sqlite') {
  const emit = process.emitWarning;
  process.emitWarning = () => undefined;
  try {
    return process.getBuiltinModule('node:sqlite');
  } finally {
    process.emitWarning = emit;
  }
}

export class Database implements Disposable {
  readonly file: string;
  readonly #busyMs: number;
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  readonly #listing = new Map<string, (...values: Value[]) => Value[][]>();
  #isClosed = false;
  /** The error that ended the transaction before its time. */
  #broken: unknown;

  /**
   * Opens a file, which is made unless `readOnly`.
   * @throws LaminaError with the file and what to do
   */
  constructor(file: string, { busyMs, readOnly }: DatabaseOptions) {
    this.file = file;
    this.#busyMs = Math.max(0, Math.round(busyMs));
    const { DatabaseSync } = loadSqlite();
    this.#database = this.#try(() => new DatabaseSync(file, { readOnly }));
    try {
      this.exec(`PRAGMA busy_timeout = ${this.#busyMs}`);
      this.exec('PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY');
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#statements.clear();
    this.#listing.clear();
    this.#database.close();
  }

  /** One or several statements without parameters or results. */
  exec(sql: string): void {
    this.#try(() => this.#database.exec(sql));
  }

  all(sql: string, ...values: Value[]): Row[] {
    return this.#try(() => this.#statement(sql).all(...values)) as Row[];
  }

  /** As `all`, each row as the list of its values: for many of them, much faster. */
  arrays(sql: string, ...values: Value[]): Value[][] {
    return this.#try(() => {
      const known = this.#listing.get(sql);
      if (known !== undefined) return known(...values);
      const statement = this.#database.prepare(sql);
      // Older releases of Node have only objects.
      const list =
        typeof statement.setReturnArrays === 'function'
          ? (...some: Value[]) => statement.all(...some) as unknown as Value[][]
          : (...some: Value[]) => statement.all(...some).map((row) => Object.values(row) as Value[]);
      statement.setReturnArrays?.(true);
      this.#listing.set(sql, list);
      return list(...values);
    });
  }

  /** Calls `take` with each row up to one that cannot be read. @returns the error that ended it */
  each(sql: string, take: (row: Row) => void): unknown {
    try {
      for (const row of this.#database.prepare(sql).iterate()) take(row as Row);
      return undefined;
    } catch (error) {
      return storeError(error, this.file);
    }
  }

  get(sql: string, ...values: Value[]): Row | undefined {
    return this.#try(() => this.#statement(sql).get(...values)) as Row | undefined;
  }

  /** @returns how many rows were changed */
  run(sql: string, ...values: Value[]): number {
    return Number(this.#try(() => this.#statement(sql).run(...values)).changes);
  }

  /** The first column of the first row as a number, 0 without one. */
  number(sql: string, ...values: Value[]): number {
    const [first] = Object.values(this.get(sql, ...values) ?? {});
    return typeof first === 'number' ? first : 0;
  }

  /**
   * Begins a write transaction.
   * @throws LaminaError Unavailable when another has not ended after `busyMs`
   */
  beginWrite(): void {
    const end = performance.now() + this.#busyMs;
    this.exec('PRAGMA busy_timeout = 0');
    try {
      while (!this.#tryBegin(performance.now() >= end)) Atomics.wait(clock, 0, 0, POLL_MS);
    } finally {
      this.exec(`PRAGMA busy_timeout = ${this.#busyMs}`);
    }
  }

  /** Brings the log into the database and empties it, as far as no other connection uses it now. */
  checkpoint(): void {
    this.exec('PRAGMA busy_timeout = 0');
    try {
      this.all('PRAGMA wal_checkpoint(TRUNCATE)');
    } finally {
      this.exec(`PRAGMA busy_timeout = ${this.#busyMs}`);
    }
  }

  #tryBegin(isLast: boolean): boolean {
    try {
      this.exec('BEGIN IMMEDIATE');
      return true;
    } catch (error) {
      if (isLast || !(error instanceof LaminaError) || error.code !== Code.Unavailable) throw error;
      return false;
    }
  }

  /** Ends a transaction that may be gone already: SQLite ends it itself after some errors. */
  rollBack(): void {
    this.#broken = undefined;
    try {
      this.#database.exec('ROLLBACK');
    } catch (error) {
      if (!/no transaction is active/.test(messageOf(error))) throw storeError(error, this.file);
    }
  }

  #statement(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = this.#database.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }

  #try<T>(work: () => T): T {
    if (this.#isClosed) throw new LaminaError(Code.FailedPrecondition, `${this.file}: closed`, { subject: this.file });
    if (this.#broken !== undefined) throw this.#broken;
    try {
      return work();
    } catch (error) {
      const told = storeError(error, this.file);
      if (ENDING.has(resultOf(error))) this.#broken = told;
      throw told;
    }
  }
}
