/**
 * The record in a snapshot's directory, from which lost metadata is rebuilt. The directory is the
 * snapshotter's, `snapshots/SNAPSHOTTER/BACKEND`; a snapshot without one has no record.
 */
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno } from '../base/index.js';
import { fileError, type Layout } from './layout.js';
import { TABLES } from './rows.js';
import type { Row } from './sqlite.js';

const NAME = 'lamina.json';

/** Writes the record of a snapshot that has a directory. */
export function writeRecord(layout: Layout, row: Row): void {
  const folder = layout.at(layout.snapshotPlace(String(row['snapshotter']), String(row['backend'])));
  if (!existsSync(folder)) return;
  const made = join(folder, `.${NAME}`);
  try {
    writeFileSync(made, `${JSON.stringify(TABLES.snapshots.strip(row))}\n`, { mode: 0o600 });
    renameSync(made, join(folder, NAME));
  } catch (error) {
    rmSync(made, { force: true });
    throw fileError(error, made);
  }
}

/** The row that a directory tells of; undefined when it tells of none. */
export function readRecord(layout: Layout, place: string): Row | undefined {
  const path = join(layout.at(place), NAME);
  let row: unknown;
  try {
    row = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    if (error instanceof SyntaxError || isErrno(error, 'ENOENT')) return undefined;
    throw fileError(error, path);
  }
  if (typeof row !== 'object' || row === null) return undefined;
  const { ns, snapshotter, name, backend, kind, labels } = row as Record<string, unknown>;
  const isWhole = [ns, snapshotter, name, backend, kind, labels].every((field) => typeof field === 'string');
  if (!isWhole || place !== `snapshots/${snapshotter}/${backend}`) return undefined;
  return TABLES.snapshots.strip(row as Row);
}
