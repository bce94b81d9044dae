/** Whether what the database says can be believed: structure, then each row's checksum. */
import { messageOf } from '../base/index.js';
import { TABLES } from './rows.js';
import type { Database } from './sqlite.js';

/**
 * Whether pages and trees are sound, and keys in order: one key that was altered ends the search
 * for all behind it, and a checksum says nothing of rows that are not found.
 */
export function isStructureSound(database: Database): boolean {
  return Object.values(database.get('PRAGMA integrity_check(1)') ?? {})[0] === 'ok';
}

/** Lists what is wrong, a line each; empty for a sound database. It stops after `limit`. */
export function checkDatabase(database: Database, limit = 20): string[] {
  const wrong: string[] = [];
  try {
    for (const row of database.all(`PRAGMA integrity_check(${limit})`)) {
      const [said] = Object.values(row);
      if (said !== 'ok') wrong.push(String(said));
    }
    for (const table of Object.values(TABLES)) {
      for (const row of database.all(`SELECT ${table.fields} FROM ${table.name}`)) {
        if (wrong.length >= limit) return wrong;
        if (!table.isIntact(row)) wrong.push(`a row is not what was written: ${table.describe(row)}`);
      }
    }
  } catch (error) {
    wrong.push(messageOf(error));
  }
  return wrong;
}
