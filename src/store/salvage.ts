/** Getting out of a damaged database what can still be believed. */
import { TABLES, type Table } from './rows.js';
import type { Database, Row } from './sqlite.js';

/** Rows by table, and by key within it. */
export type Salvage = Map<Table, Map<string, Row>>;

export interface Salvaged {
  readonly rows: Salvage;
  /** Rows of tables without checksums, in the order in which they are inserted. */
  readonly unproven: readonly (readonly [table: string, rows: readonly Row[]])[];
  /** Tables that may lack rows. */
  readonly incomplete: ReadonlySet<Table>;
}

/** Nothing is kept or removed because of these. */
const UNPROVEN = ['acts', 'journal', 'plans'];
const ALL: readonly Table[] = Object.values(TABLES);

export function keyText(table: Table, row: Row): string {
  return JSON.stringify(table.key.map((column) => row[column]));
}

/**
 * Reads every table from both ends up to what cannot be read. Rows whose sum is wrong are left out.
 */
export function salvage(database: Database): Salvaged {
  const rows: Salvage = new Map();
  const incomplete = new Set<Table>();
  for (const table of ALL) {
    const found = new Map<string, Row>();
    rows.set(table, found);
    const take = (row: Row): void => {
      if (table.isIntact(row)) found.set(keyText(table, row), table.strip(row));
      else incomplete.add(table);
    };
    const isWhole = ['ASC', 'DESC'].some((direction) => {
      const order = table.key.map((column) => `${column} ${direction}`).join(', ');
      const end = database.each(`SELECT ${table.fields} FROM ${table.name} ORDER BY ${order}`, take);
      return end === undefined;
    });
    if (!isWhole) incomplete.add(table);
  }
  const unproven = UNPROVEN.map((table) => {
    const found: Row[] = [];
    database.each(`SELECT * FROM ${table}`, (row) => found.push(row));
    return [table, found] as const;
  });
  return { rows, incomplete, unproven };
}

/** The result for a database that cannot be read at all. */
export function nothing(): Salvaged {
  return { rows: new Map(ALL.map((table) => [table, new Map()])), incomplete: new Set(ALL), unproven: [] };
}

/** Adds the rows that a backup has of incomplete tables. @returns how many */
export function fill({ rows, incomplete }: Salvaged, backup: Salvaged): number {
  let added = 0;
  for (const table of incomplete) {
    const found = rows.get(table) ?? new Map<string, Row>();
    for (const [key, row] of backup.rows.get(table) ?? []) {
      if (found.has(key)) continue;
      found.set(key, row);
      added += 1;
    }
    rows.set(table, found);
  }
  return added;
}
