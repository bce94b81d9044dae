/** The tables, and how an older store gets them. */
import { Code, LaminaError } from '../base/index.js';
import type { Database } from './sqlite.js';

/**
 * `sum` is a checksum over the other columns of its row (rows.ts). SQLite checks the structure of
 * its pages, not what is in them.
 */
const FIRST = `
CREATE TABLE namespaces (ns TEXT PRIMARY KEY, labels TEXT NOT NULL, sum INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE leases (ns TEXT NOT NULL, id TEXT NOT NULL, created INTEGER NOT NULL, labels TEXT NOT NULL,
  owner TEXT, sum INTEGER NOT NULL, PRIMARY KEY (ns, id)) STRICT, WITHOUT ROWID;
CREATE TABLE lease_resources (ns TEXT NOT NULL, lease TEXT NOT NULL, type TEXT NOT NULL, id TEXT NOT NULL,
  sum INTEGER NOT NULL, PRIMARY KEY (ns, lease, type, id)) STRICT, WITHOUT ROWID;
CREATE INDEX leases_of ON lease_resources (ns, type, id);
CREATE TABLE images (ns TEXT NOT NULL, name TEXT NOT NULL, target TEXT NOT NULL, descriptor TEXT NOT NULL,
  labels TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL, sum INTEGER NOT NULL,
  PRIMARY KEY (ns, name)) STRICT, WITHOUT ROWID;
CREATE TABLE blobs (ns TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, labels TEXT NOT NULL,
  created INTEGER NOT NULL, updated INTEGER NOT NULL, sum INTEGER NOT NULL,
  PRIMARY KEY (ns, digest)) STRICT, WITHOUT ROWID;
CREATE TABLE ingests (ns TEXT NOT NULL, ref TEXT NOT NULL, expected TEXT, total INTEGER, expires INTEGER,
  started INTEGER NOT NULL, updated INTEGER NOT NULL, owner TEXT, sum INTEGER NOT NULL,
  PRIMARY KEY (ns, ref)) STRICT, WITHOUT ROWID;
CREATE INDEX expected_by ON ingests (expected) WHERE expected IS NOT NULL;
CREATE TABLE snapshots (ns TEXT NOT NULL, snapshotter TEXT NOT NULL, name TEXT NOT NULL, parent TEXT,
  kind TEXT NOT NULL, backend TEXT NOT NULL, bytes INTEGER, inodes INTEGER, labels TEXT NOT NULL,
  created INTEGER NOT NULL, updated INTEGER NOT NULL, sum INTEGER NOT NULL,
  PRIMARY KEY (ns, snapshotter, name)) STRICT, WITHOUT ROWID;
CREATE INDEX children_of ON snapshots (ns, snapshotter, parent) WHERE parent IS NOT NULL;
CREATE UNIQUE INDEX backends ON snapshots (snapshotter, backend);
CREATE TABLE containers (ns TEXT NOT NULL, id TEXT NOT NULL, image TEXT, snapshotter TEXT, snapshot TEXT,
  sandbox TEXT, labels TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL,
  body_sum INTEGER NOT NULL, sum INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (ns, id)) STRICT;
CREATE TABLE sandboxes (ns TEXT NOT NULL, id TEXT NOT NULL, sandboxer TEXT, labels TEXT NOT NULL,
  created INTEGER NOT NULL, updated INTEGER NOT NULL, body_sum INTEGER NOT NULL, sum INTEGER NOT NULL,
  body TEXT NOT NULL, PRIMARY KEY (ns, id)) STRICT;
CREATE TABLE acts (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, uid INTEGER NOT NULL, pid INTEGER NOT NULL,
  command TEXT NOT NULL, rule TEXT) STRICT;
CREATE TABLE journal (seq INTEGER PRIMARY KEY, act INTEGER NOT NULL, action TEXT NOT NULL, kind TEXT NOT NULL,
  ns TEXT NOT NULL, key TEXT NOT NULL, proof TEXT) STRICT;
CREATE TABLE trash (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, kind TEXT NOT NULL, ns TEXT NOT NULL,
  key TEXT NOT NULL, reason TEXT NOT NULL, bytes INTEGER NOT NULL, place TEXT, body TEXT NOT NULL,
  sum INTEGER NOT NULL) STRICT;
CREATE INDEX trash_places ON trash (place) WHERE place IS NOT NULL;
CREATE TABLE loose (place TEXT PRIMARY KEY, kind TEXT NOT NULL, ns TEXT NOT NULL, key TEXT NOT NULL) STRICT,
  WITHOUT ROWID;
CREATE TABLE plans (id TEXT PRIMARY KEY, time INTEGER NOT NULL, body TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE writers (token TEXT PRIMARY KEY, process TEXT NOT NULL) STRICT, WITHOUT ROWID;
`;

/** Each brings a store from version N, its place here, to N + 1. Never changed once released. */
export const MIGRATIONS: readonly string[] = [FIRST];

/** Marks a file as a store of Lamina's: "Lamn". */
export const APPLICATION_ID = 0x4c61_6d6e;

/** The version of a store, 0 for a new one. */
export function schemaVersion(database: Database): number {
  return database.number('PRAGMA user_version');
}

/**
 * @throws LaminaError FailedPrecondition for a file of another program, or of a newer Lamina
 */
export function checkVersion(database: Database, migrations: readonly string[] = MIGRATIONS): number {
  const { file } = database;
  const refuse = (why: string): LaminaError =>
    new LaminaError(Code.FailedPrecondition, `${file}: ${why}`, { subject: file });
  const id = database.number('PRAGMA application_id');
  const version = schemaVersion(database);
  if (id !== APPLICATION_ID && (id !== 0 || database.number('SELECT count(*) FROM sqlite_schema') > 0)) {
    throw refuse('another program made this file: use another root');
  }
  if (version > migrations.length) {
    throw refuse(
      `it has schema ${version}, this Lamina knows ${migrations.length}: use the newer Lamina that wrote it`,
    );
  }
  return version;
}

/**
 * Brings a store to the newest schema, each step whole or not at all; does nothing to one that has
 * it.
 */
export function migrate(database: Database, migrations: readonly string[] = MIGRATIONS): void {
  while (checkVersion(database, migrations) < migrations.length) {
    database.beginWrite();
    try {
      // Another process may have done it while this one waited.
      const version = checkVersion(database, migrations);
      if (version < migrations.length) {
        database.exec(migrations[version] ?? '');
        database.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${version + 1}`);
      }
      database.exec('COMMIT');
    } catch (error) {
      database.rollBack();
      throw error;
    }
  }
}
