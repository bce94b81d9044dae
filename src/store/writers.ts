/**
 * Which processes have the store open for writing. The row is written by the first change a process
 * makes, in its commit, and taken away when it closes the store: one of a process that is gone
 * means that it had no orderly end.
 */
import { randomBytes } from 'node:crypto';
import { identityOf, isGone } from '../sys/process-identity.js';
import type { Database } from './sqlite.js';
import type { ProcessIdentity } from './types.js';

export class Writer {
  readonly #token = randomBytes(9).toString('base64url');
  #isWritten = false;

  /** Within a transaction. */
  register(database: Database): void {
    if (this.#isWritten) return;
    database.run('INSERT INTO writers (token, process) VALUES (?, ?)', this.#token, JSON.stringify(identityOf()));
  }

  /** The transaction that registered is committed. */
  registered(): void {
    this.#isWritten = true;
  }

  /** An orderly end. It need not reach the disk: at worst the next one looks at a sound store. */
  leave(database: Database, last: () => void): void {
    if (!this.#isWritten) return;
    database.exec('PRAGMA synchronous = NORMAL');
    database.beginWrite();
    try {
      last();
      database.run('DELETE FROM writers WHERE token = ?', this.#token);
      database.exec('COMMIT');
    } catch (error) {
      database.rollBack();
      throw error;
    }
    this.#isWritten = false;
  }

  get hasWritten(): boolean {
    return this.#isWritten;
  }
}

/** Tokens of processes that are gone. */
export function deadWriters(database: Database): string[] {
  return database.all('SELECT token, process FROM writers').flatMap(({ token, process }) => {
    return isGone(JSON.parse(String(process)) as ProcessIdentity) ? [String(token)] : [];
  });
}

export function forgetWriters(database: Database, tokens: readonly string[]): void {
  for (const token of tokens) database.run('DELETE FROM writers WHERE token = ?', token);
}
