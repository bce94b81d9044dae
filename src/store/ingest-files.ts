/** Beginning an ingest: its row, then its directory. */
import { createHash, type Hash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { Code, isErrno, LaminaError } from '../base/index.js';
import { identityOf, isGone } from '../sys/process-identity.js';
import { fileError, type Layout } from './layout.js';
import { parseDigest } from './names.js';
import type { Transaction } from './transaction.js';
import type { Actor, Ingest } from './types.js';
import type { View } from './view.js';

/** The parts of a store that content needs. */
export interface ContentHost {
  read<T>(work: (view: View) => T): T;
  write<T>(by: Actor, work: (tx: Transaction) => T): T;
  now(): number;
  settleBlob(digest: string): void;
}

export interface IngestOptions {
  readonly namespace: string;
  /** Names the ingest in its namespace: who stops half-way goes on under the same. */
  readonly ref: string;
  /** The digest it is to have. Its algorithm is used; without it, sha256. */
  readonly expected?: string | undefined;
  /** How many bytes it is to have. */
  readonly total?: number | undefined;
  /** The id of a lease that keeps the ingest, then the blob. */
  readonly lease?: string | undefined;
  readonly by?: Actor | undefined;
}

const EXPIRY_MS = 24 * 60 * 60 * 1_000;
const READ_BYTES = 1 << 20;
const DEFAULT_ACTOR: Actor = { command: 'ingest' };

/** Directories of ingests of this process; false for one that has been closed. */
const ours = new Map<string, boolean>();

export function releaseIngest(folder: string): void {
  ours.set(folder, false);
}

export function forgetIngest(folder: string): void {
  ours.delete(folder);
}

/** An ingest that this process alone writes. */
export interface BegunIngest {
  readonly options: IngestOptions;
  readonly by: Actor;
  readonly folder: string;
  /** Undefined when the bytes are there already, in a blob of another namespace. */
  readonly data: FileHandle | undefined;
  readonly hash: Hash;
  readonly algorithm: string;
  readonly offset: number;
}

type Beginning = 'exists' | 'shared' | 'new' | 'resumed';

/** @throws as `ContentFiles.ingest` */
export async function beginIngest(host: ContentHost, layout: Layout, options: IngestOptions): Promise<BegunIngest> {
  const { namespace, ref, expected, by = DEFAULT_ACTOR } = options;
  const folder = layout.ingest(namespace, ref);
  const { algorithm } = expected === undefined ? { algorithm: 'sha256' } : parseDigest(expected);
  const beginning = host.write(by, (tx) => begin(host, layout, options, tx));
  if (beginning === 'exists') {
    throw new LaminaError(Code.AlreadyExists, `content ${expected}: already exists`, { subject: expected ?? ref });
  }
  ours.set(folder, true);
  try {
    const hash = createHash(algorithm);
    const begun = { options, by, folder, hash, algorithm };
    if (beginning === 'shared') return { ...begun, data: undefined, offset: blobSize(host, expected ?? '') };
    const data = await openFolder(layout, options, beginning === 'new', host.now());
    try {
      return { ...begun, data, offset: await hashAll(data, hash) };
    } catch (error) {
      await data.close();
      throw error;
    }
  } catch (error) {
    releaseIngest(folder);
    throw fileError(error, folder);
  }
}

function begin(host: ContentHost, layout: Layout, options: IngestOptions, tx: Transaction): Beginning {
  const { namespace, ref, expected, total, lease } = options;
  const keep = (type: string, id: string): void => {
    if (lease !== undefined) tx.addLeaseResource(namespace, lease, { type, id });
  };
  const hasFile = expected !== undefined && existsSync(layout.blob(expected));
  if (hasFile && tx.blob(namespace, expected) !== undefined) {
    keep('content', expected);
    return 'exists';
  }
  const before = tx.ingest(namespace, ref);
  if (before !== undefined) checkResumed(layout, options, before);
  tx.putIngest(namespace, {
    ref,
    expected: expected ?? before?.expected,
    total: total ?? before?.total,
    expiresAt: lease === undefined ? host.now() + EXPIRY_MS : undefined,
    owner: identityOf(),
  });
  keep('ingests', ref);
  const isShared = hasFile && tx.namespacesOf(expected).length > 0;
  if (isShared && (total === undefined || total === tx.blobSize(expected))) return 'shared';
  return before === undefined ? 'new' : 'resumed';
}

function checkResumed(layout: Layout, { namespace, ref, expected, total }: IngestOptions, before: Ingest): void {
  const { owner } = before;
  const isOurs = ours.get(layout.ingest(namespace, ref));
  const isFree = owner === undefined || isOurs === false || isGone(owner);
  if (isOurs === true || !isFree) {
    const pid = owner === undefined ? '' : ` by process ${owner.pid}`;
    throw new LaminaError(Code.Unavailable, `ref ${ref}: locked: it is being written${pid}`, { subject: ref });
  }
  const differs = (what: string, is: unknown, was: unknown): void => {
    if (is === undefined || was === undefined || is === was) return;
    throw new LaminaError(Code.FailedPrecondition, `ref ${ref}: ${what} is ${is}, was ${was}: abort it first`, {
      subject: ref,
    });
  };
  differs('total', total, before.total);
  differs('expected digest', expected, before.expected);
}

function blobSize(host: ContentHost, digest: string): number {
  return host.read((view) => view.blobSize(digest)) ?? 0;
}

async function openFolder(layout: Layout, options: IngestOptions, isNew: boolean, now: number): Promise<FileHandle> {
  const { namespace, ref, total } = options;
  const folder = layout.ingest(namespace, ref);
  layout.makeFolder(folder);
  const time = new Date(now).toISOString();
  if (isNew) {
    await writeText(`${folder}/ref`, `${namespace}/${ref}`);
    await writeText(`${folder}/startedat`, time);
    if (total !== undefined) await writeText(`${folder}/total`, String(total));
  }
  await writeText(`${folder}/updatedat`, time);
  const path = `${folder}/data`;
  try {
    return await open(path, isNew ? 'w+' : 'r+', 0o600);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
    return await open(path, 'w+', 0o600);
  }
}

export async function writeText(path: string, text: string): Promise<void> {
  const file = await open(path, 'w', 0o600);
  try {
    await file.writeFile(text);
  } finally {
    await file.close();
  }
}

/** @returns how many bytes there are */
async function hashAll(file: FileHandle, hash: Hash): Promise<number> {
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  let offset = 0;
  for (;;) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, offset);
    if (bytesRead === 0) return offset;
    hash.update(buffer.subarray(0, bytesRead));
    offset += bytesRead;
  }
}
