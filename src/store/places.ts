/**
 * Where files lie follows from what the rows say:
 *
 *   an object has it              in its place
 *   only the trash has it         below trash/, or still in its place
 *   nothing has it                trash/doomed, still in its place, or below trash/
 *
 * So a crash between a commit and a rename leaves nothing wrong, only something to be done: `settle`.
 */
import { type Dirent, existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isErrno, randomName } from '../base/index.js';
import type { Place } from './changes.js';
import { fileError, type Layout } from './layout.js';
import { isHexOf } from './names.js';
import type { Database } from './sqlite.js';
import type { ObjectName } from './types.js';

/** So many places are settled under one lock: writers wait no longer than that takes. */
const BATCH = 64;

type Claim = 'object' | 'trash' | 'nothing';

function claimOf(database: Database, { place, object }: Place): Claim {
  if (isHeld(database, place, object)) return 'object';
  return database.get('SELECT 1 FROM trash WHERE place = ? LIMIT 1', place) === undefined ? 'nothing' : 'trash';
}

function isHeld(database: Database, place: string, { kind, namespace, key }: ObjectName): boolean {
  if (kind === 'content') {
    const sql = 'SELECT 1 FROM namespaces n JOIN blobs b ON b.ns = n.ns AND b.digest = ? LIMIT 1';
    if (database.get(sql, key) !== undefined) return true;
    // Its own namespace may have dropped it since: the ingest has nothing else.
    return database.get('SELECT 1 FROM ingests WHERE expected = ? LIMIT 1', key) !== undefined;
  }
  if (kind === 'ingest') {
    return database.get('SELECT 1 FROM ingests WHERE ns = ? AND ref = ?', namespace, key) !== undefined;
  }
  const [, snapshotter = '', backend = ''] = place.split('/');
  const sql = 'SELECT 1 FROM snapshots WHERE snapshotter = ? AND backend = ?';
  return database.get(sql, snapshotter, backend) !== undefined;
}

/**
 * Brings one file to where it belongs. The caller has the write lock.
 * @returns the directory of an ingest that was doomed: it has a few files of our own only
 */
function settleOne(database: Database, layout: Layout, place: Place): string | undefined {
  const [own, trash] = [layout.at(place.place), layout.inTrash(place.place)];
  const claim = claimOf(database, place);
  if (claim === 'object') {
    if (!existsSync(own)) moveIfThere(layout, trash, own);
    else doom(layout, trash);
  } else if (claim === 'nothing') {
    const doomed = doom(layout, own);
    doom(layout, trash);
    if (place.object.kind === 'ingest') return doomed;
  } else if (existsSync(own)) {
    if (existsSync(trash)) doom(layout, own);
    else moveIfThere(layout, own, trash);
  }
  return undefined;
}

function doom(layout: Layout, path: string): string | undefined {
  const doomed = join(layout.doomed, randomName());
  return moveIfThere(layout, path, doomed) ? doomed : undefined;
}

function moveIfThere(layout: Layout, from: string, to: string): boolean {
  if (!existsSync(from)) return false;
  try {
    renameSync(from, to);
  } catch (error) {
    if (!isErrno(error, 'ENOENT') || existsSync(dirname(to))) throw error;
    layout.makeFolder(dirname(to));
    renameSync(from, to);
  }
  return true;
}

/**
 * Brings the files of places to where the rows have them, a few under each lock.
 * @throws LaminaError Unavailable while another process keeps writing; the rest is done by the next
 *   `findLoose`
 */
export function settle(database: Database, layout: Layout, places: readonly Place[]): void {
  for (let at = 0; at < places.length; at += BATCH) {
    const ingests: string[] = [];
    database.beginWrite();
    try {
      for (const place of places.slice(at, at + BATCH)) ingests.push(settleOne(database, layout, place) ?? '');
    } catch (error) {
      throw fileError(error, layout.trash);
    } finally {
      database.rollBack();
    }
    for (const folder of ingests.filter((path) => path !== '')) removeIngest(folder);
  }
}

/**
 * Most have given their bytes to a blob; those of others are freed like everything that is doomed.
 */
function removeIngest(folder: string): void {
  try {
    if ((statSync(join(folder, 'data'), { throwIfNoEntry: false })?.nlink ?? 0) === 1) return;
    rmSync(folder, { recursive: true, force: true });
  } catch (error) {
    throw fileError(error, folder);
  }
}

/** Within a transaction, once they are settled. */
export function forgetLoose(database: Database, places: readonly Place[]): void {
  for (const { place } of places) database.run('DELETE FROM loose WHERE place = ?', place);
}

/** Finds files that a crash may have left where they do not belong. */
export function findLoose(database: Database, layout: Layout): Place[] {
  const places = new Map<string, Place>();
  const add = (place: string, object: ObjectName): void => void places.set(place, { place, object });
  const sql =
    'SELECT place, kind, ns, key FROM trash WHERE place IS NOT NULL UNION ALL SELECT place, kind, ns, key FROM loose';
  for (const row of database.all(sql)) {
    const kind = row['kind'] as ObjectName['kind'];
    add(String(row['place']), { kind, namespace: String(row['ns']), key: String(row['key']) });
  }
  for (const { place, object } of placesBelow(layout.trash)) add(place, object);
  for (const { place, object } of ingestPlaces(layout.ingests)) add(place, object);
  return [...places.values()];
}

/** The files that lie in a directory in places of blobs, snapshots and ingests. */
export function placesBelow(base: string): Place[] {
  return [
    ...blobPlaces(join(base, 'blobs')),
    ...snapshotPlaces(join(base, 'snapshots')),
    ...ingestPlaces(join(base, 'ingest')),
  ];
}

export function blobPlaces(base: string): Place[] {
  return subfolders(base).flatMap((algorithm) =>
    list(join(base, algorithm))
      .filter((entry) => entry.isFile() && isHexOf(algorithm, entry.name))
      .map(({ name }) => ({
        place: `blobs/${algorithm}/${name}`,
        object: { kind: 'content', namespace: '', key: `${algorithm}:${name}` },
      })),
  );
}

export function snapshotPlaces(base: string): Place[] {
  return subfolders(base).flatMap((snapshotter) =>
    subfolders(join(base, snapshotter)).map((backend) => ({
      place: `snapshots/${snapshotter}/${backend}`,
      object: { kind: 'snapshot', namespace: '', key: `${snapshotter}/${backend}` },
    })),
  );
}

/** An ingest's directory says itself which it is; one that does not belongs to none. */
export function ingestPlaces(base: string): Place[] {
  return subfolders(base)
    .filter((name) => isHexOf('sha256', name))
    .map((name) => {
      const [namespace = '', key = ''] = readRef(join(base, name)).split(/\/(.*)/s);
      return { place: `ingest/${name}`, object: { kind: 'ingest', namespace, key } };
    });
}

function readRef(folder: string): string {
  try {
    return readFileSync(join(folder, 'ref'), 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EISDIR')) return '';
    throw fileError(error, folder);
  }
}

function subfolders(folder: string): string[] {
  return list(folder)
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name);
}

function list(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return [];
    throw fileError(error, folder);
  }
}
