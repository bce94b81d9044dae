/** Records as rows: the columns of each table, checksums, JSON in columns. */

import { crc32 } from 'node:zlib';
import { Code, LaminaError } from '../base/index.js';
import { expiryOf, type Labels } from '../gc/index.js';
import { REPAIR } from './remedies.js';
import type { Row, Value } from './sqlite.js';
import type {
  Blob,
  Container,
  Image,
  Ingest,
  Json,
  Lease,
  ProcessIdentity,
  Sandbox,
  Snapshot,
  SnapshotKind,
} from './types.js';

/** Between the columns that a sum is over. */
const SEPARATOR = '\x1f';

export const NO_LABELS: Labels = Object.freeze({});

/** A table whose rows carry a checksum. */
export class Table {
  readonly name: string;
  /** The sum is over these, in this order. */
  readonly columns: readonly string[];
  readonly key: readonly string[];
  /** Not in the sum: has its own in `body_sum`. */
  readonly hasBody: boolean;
  /** The columns of a whole row, and the text that `isIntact` needs. */
  readonly fields: string;
  readonly insert: string;
  readonly replace: string;
  readonly one: string;
  readonly ofNamespace: string;
  readonly remove: string;
  readonly #proof: string;

  constructor(name: string, key: readonly string[], others: readonly string[], hasBody = false) {
    this.name = name;
    this.key = key;
    this.hasBody = hasBody;
    this.columns = [...key, ...others, ...(hasBody ? ['body_sum'] : [])];
    const all = [...this.columns, 'sum', ...(hasBody ? ['body'] : [])];
    const values = `${name} (${all.join(', ')}) VALUES (${all.map(() => '?').join(', ')})`;
    const byKey = `FROM ${name} WHERE ${key.map((column) => `${column} = ?`).join(' AND ')}`;
    const texts = this.columns.map((column) => `ifnull(${column}, '')`);
    this.#proof = `concat_ws(char(${SEPARATOR.charCodeAt(0)}), ${texts.join(', ')}) AS whole`;
    this.fields = `${all.join(', ')}, ${this.#proof}`;
    this.insert = `INSERT INTO ${values}`;
    this.replace = `INSERT OR REPLACE INTO ${values}`;
    this.one = `SELECT ${this.fields} ${byKey}`;
    this.ofNamespace = `SELECT ${this.fields} FROM ${name} WHERE ns = ? ORDER BY ${key.join(', ')}`;
    this.remove = `DELETE ${byKey}`;
  }

  /**
   * Some columns of the rows of a namespace whose key is behind that of another, in the order of
   * keys. Parameters: the namespace, the rest of the other's key, how many. Each row has the rest
   * of its key first, and ends with what `isProven` needs.
   */
  some(columns: readonly string[]): string {
    const rest = this.key.slice(1);
    const behind = `(${rest.join(', ')}) > (${rest.map(() => '?').join(', ')})`;
    const fields = [...rest, ...columns, 'sum', this.#proof].join(', ');
    return `SELECT ${fields} FROM ${this.name} WHERE ns = ? AND ${behind} ORDER BY ${rest.join(', ')} LIMIT ?`;
  }

  /** A row's values in the order that `insert` takes. */
  values(row: Row): Value[] {
    const body = this.hasBody ? text(row['body']) : '';
    const full = this.hasBody ? { ...row, body_sum: crc32(body) } : row;
    const values = this.columns.map((column) => full[column] ?? null);
    return [...values, crc32(values.join(SEPARATOR)), ...(this.hasBody ? [body] : [])];
  }

  /** The columns of a row alone, for keeping it elsewhere. */
  strip(row: Row): Row {
    return Object.fromEntries(
      [...this.columns, ...(this.hasBody ? ['body'] : [])].map((column) => [column, row[column] ?? null]),
    );
  }

  /** Names a row in messages. */
  describe(row: Row): string {
    return `${this.name}: ${this.key.map((column) => JSON.stringify(row[column])).join(' ')}`;
  }

  /** As `isIntact`, for the values of a row that `some` has given. */
  isProven(values: readonly Value[]): boolean {
    return values[values.length - 2] === crc32(text(values[values.length - 1]));
  }

  /** True when the row is as it was written. */
  isIntact(row: Row): boolean {
    if (row['sum'] !== crc32(text(row['whole']))) return false;
    return row['body'] === undefined || !this.hasBody || row['body_sum'] === crc32(text(row['body']));
  }
}

export const TABLES = {
  namespaces: new Table('namespaces', ['ns'], ['labels']),
  leases: new Table('leases', ['ns', 'id'], ['created', 'labels', 'owner']),
  leaseResources: new Table('lease_resources', ['ns', 'lease', 'type', 'id'], []),
  images: new Table('images', ['ns', 'name'], ['target', 'descriptor', 'labels', 'created', 'updated']),
  blobs: new Table('blobs', ['ns', 'digest'], ['size', 'labels', 'created', 'updated']),
  ingests: new Table('ingests', ['ns', 'ref'], ['expected', 'total', 'expires', 'started', 'updated', 'owner']),
  snapshots: new Table(
    'snapshots',
    ['ns', 'snapshotter', 'name'],
    ['parent', 'kind', 'backend', 'bytes', 'inodes', 'labels', 'created', 'updated'],
  ),
  containers: new Table(
    'containers',
    ['ns', 'id'],
    ['image', 'snapshotter', 'snapshot', 'sandbox', 'labels', 'created', 'updated'],
    true,
  ),
  sandboxes: new Table('sandboxes', ['ns', 'id'], ['sandboxer', 'labels', 'created', 'updated'], true),
  trash: new Table('trash', ['id'], ['time', 'kind', 'ns', 'key', 'reason', 'bytes', 'place', 'body']),
} as const;

/** A row that is not what was written. */
export function damaged(file: string, what: string): LaminaError {
  return new LaminaError(Code.DataLoss, `${file}: ${what} is damaged: ${REPAIR}`, { subject: file });
}

export const text = (value: Value | undefined): string => (typeof value === 'string' ? value : '');
export const number = (value: Value | undefined): number => (typeof value === 'number' ? value : 0);
export const optionalText = (value: Value | undefined): string | undefined =>
  typeof value === 'string' ? value : undefined;
export const optionalNumber = (value: Value | undefined): number | undefined =>
  typeof value === 'number' ? value : undefined;

/** JSON of a row whose sum was right. */
function json(value: Value | undefined): Json {
  return JSON.parse(text(value) || 'null') as Json;
}

export function labelsOf(row: Row): Labels {
  const labels = row['labels'];
  return labels === '{}' ? NO_LABELS : (json(labels) as Labels);
}

/** Labels in the order of their names: equal labels are equal text. */
export function labelText(labels: Labels): string {
  const entries = Object.entries(labels);
  if (entries.length === 0) return '{}';
  return JSON.stringify(Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1))));
}

function ownerOf(row: Row): ProcessIdentity | undefined {
  return row['owner'] === null ? undefined : (json(row['owner']) as unknown as ProcessIdentity);
}

const dates = (row: Row) => ({
  labels: labelsOf(row),
  createdAt: number(row['created']),
  updatedAt: number(row['updated']),
});

export function leaseOf(row: Row): Lease {
  const labels = labelsOf(row);
  return {
    id: text(row['id']),
    createdAt: number(row['created']),
    labels,
    expiresAt: expiryOf(labels),
    owner: ownerOf(row),
  };
}

export function imageOf(row: Row): Image {
  return { name: text(row['name']), target: json(row['descriptor']) as unknown as Image['target'], ...dates(row) };
}

export function blobOf(row: Row): Blob {
  return { digest: text(row['digest']), size: number(row['size']), ...dates(row) };
}

export function ingestOf(row: Row): Ingest {
  return {
    ref: text(row['ref']),
    expected: optionalText(row['expected']),
    total: optionalNumber(row['total']),
    expiresAt: optionalNumber(row['expires']),
    startedAt: number(row['started']),
    updatedAt: number(row['updated']),
    owner: ownerOf(row),
  };
}

export function snapshotOf(row: Row): Snapshot {
  const bytes = optionalNumber(row['bytes']);
  return {
    snapshotter: text(row['snapshotter']),
    name: text(row['name']),
    parent: optionalText(row['parent']),
    kind: text(row['kind']) as SnapshotKind,
    backend: text(row['backend']),
    usage: bytes === undefined ? undefined : { bytes, inodes: number(row['inodes']) },
    ...dates(row),
  };
}

type Body = Readonly<Record<'runtime' | 'spec' | 'extensions', Json>>;

export function bodyText({ runtime, spec, extensions }: Body): string {
  return JSON.stringify({ runtime, spec, extensions });
}

function bodyOf(row: Row): Body {
  return json(row['body']) as unknown as Body;
}

export function containerOf(row: Row): Container {
  return {
    id: text(row['id']),
    image: optionalText(row['image']),
    snapshotter: optionalText(row['snapshotter']),
    snapshotKey: optionalText(row['snapshot']),
    sandbox: optionalText(row['sandbox']),
    ...dates(row),
    ...bodyOf(row),
  };
}

export function sandboxOf(row: Row): Sandbox {
  return { id: text(row['id']), sandboxer: optionalText(row['sandboxer']), ...dates(row), ...bodyOf(row) };
}
