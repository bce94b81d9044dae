/** What was removed, for a while: how long it stays, how it goes, and how it comes back. */
import { statfsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Code, codeOf, LaminaError, messageOf } from '../base/index.js';
import type { Actor, ObjectName, TrashItem } from '../store/index.js';
import type { CollectStore, CollectTransaction } from './store.js';

export interface TrashPolicy {
  /** How long a thing stays, in milliseconds. Default one hour. */
  readonly windowMs: number;
  /**
   * With less free space than this share of the file system, the oldest go at once. Default 0.1.
   */
  readonly minFreeShare: number;
}

export const DEFAULT_TRASH: TrashPolicy = { windowMs: 3_600_000, minFreeShare: 0.1 };

/** Space of a file system, in bytes. */
export interface Space {
  readonly size: number;
  /** What may be used without root's reserve. */
  readonly free: number;
}

export function spaceOf(path: string): Space {
  const { bsize, blocks, bavail } = statfsSync(path);
  return { size: bsize * blocks, free: bsize * bavail };
}

export interface Emptied {
  readonly items: number;
  /** Freed: those of a blob that another namespace has, or another item, are not. */
  readonly bytes: number;
}

/** How many items have each digest: a blob's file goes with the last of them. */
function digestCounts(items: readonly TrashItem[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { digest } of items) if (digest !== undefined) counts.set(digest, (counts.get(digest) ?? 0) + 1);
  return counts;
}

/** A transaction drops so many at most: each may be a rename to undo. */
const BATCH = 200;
const GAP_MS = 10;

/** Which items go, the oldest first. @param space undefined: there is enough */
export function dueItems(
  items: readonly TrashItem[],
  now: number,
  { windowMs, minFreeShare }: TrashPolicy,
  space?: Space,
): TrashItem[] {
  const oldestFirst = [...items].sort((a, b) => a.time - b.time || a.id - b.id);
  let wanted = space === undefined ? 0 : space.size * minFreeShare - space.free;
  return oldestFirst.filter(({ time, bytes }) => {
    // What lies in the future was put there before the clock was set back.
    if (now - time >= windowMs || time - now > windowMs) {
      wanted -= bytes;
      return true;
    }
    if (wanted <= 0) return false;
    wanted -= bytes;
    return bytes > 0;
  });
}

/**
 * Removes items for good and frees their bytes.
 * @param onPause gets the milliseconds that each transaction kept writers waiting
 */
export async function drop(
  store: CollectStore,
  by: Actor,
  items: readonly TrashItem[],
  onPause: (ms: number) => void = () => undefined,
): Promise<Emptied> {
  const counts = digestCounts(store.read((view) => view.trash()));
  const emptied = { items: 0, bytes: 0 };
  for (let at = 0; at < items.length; at += BATCH) {
    if (at > 0) await delay(GAP_MS);
    let begin = performance.now();
    const freed = store.write(by, (transaction) => {
      begin = performance.now();
      return items.slice(at, at + BATCH).flatMap((item) => dropOne(transaction, item, counts));
    });
    onPause(performance.now() - begin);
    emptied.items += freed.length;
    emptied.bytes += freed.reduce((sum, bytes) => sum + bytes, 0);
  }
  return emptied;
}

/** @returns the bytes that this frees; nothing when it was restored, or another has emptied it */
function dropOne(
  transaction: CollectTransaction,
  { id, digest, bytes }: TrashItem,
  counts: Map<string, number>,
): readonly number[] {
  try {
    transaction.dropTrash(id);
  } catch (error) {
    if (codeOf(error) === Code.NotFound) return [];
    throw error;
  }
  if (digest === undefined) return [bytes];
  const left = (counts.get(digest) ?? 1) - 1;
  counts.set(digest, left);
  return [left > 0 || transaction.namespacesOf(digest).length > 0 ? 0 : bytes];
}

export interface EmptyOptions {
  readonly by: Actor;
  /** Only what has been there for so long, in milliseconds. Default 0: everything. */
  readonly olderThanMs?: number;
  /** Only until so many bytes are freed, the oldest first. */
  readonly bytes?: number;
  readonly now?: () => number;
}

/** Removes for good what is in the trash. There is no way back. */
export async function emptyTrash(store: CollectStore, options: EmptyOptions): Promise<Emptied> {
  const { by, olderThanMs = 0, bytes = Number.POSITIVE_INFINITY, now = Date.now } = options;
  let wanted = bytes;
  const items = [...store.read((view) => view.trash())]
    .sort((a, b) => a.time - b.time || a.id - b.id)
    .filter((item) => {
      if (wanted <= 0 || now() - item.time < olderThanMs) return false;
      wanted -= item.bytes;
      return true;
    });
  return await drop(store, { rule: 'trash emptied', ...by }, items);
}

export interface UndoOptions {
  readonly by: Actor;
  /** Numbers of items in the trash. */
  readonly ids?: readonly number[];
  /** Everything removed at this time or later, in milliseconds since the epoch. */
  readonly since?: number;
  readonly namespace?: string;
}

export interface Undone {
  readonly restored: readonly ObjectName[];
  /** What could not be brought back, and why: its name is taken again, its parent is gone. */
  readonly refused: readonly { readonly id: number; readonly object: ObjectName; readonly message: string }[];
}

/**
 * Brings back what was removed, in one transaction. What cannot be brought back is named and does
 * not keep the others. It may be garbage still: without something that keeps it, the next
 * collection removes it again.
 * @throws LaminaError InvalidArgument without `ids` and `since`; NotFound for an id that is not in
 *   the trash
 */
export function undo(store: CollectStore, { by, ids, since, namespace }: UndoOptions): Undone {
  if (ids === undefined && since === undefined) {
    throw new LaminaError(Code.InvalidArgument, 'undo: ids or a time are needed', { subject: 'undo' });
  }
  return store.write({ rule: 'undo', ...by }, (transaction) => {
    const all = new Map(transaction.trash().map((item) => [item.id, item] as const));
    const missing = (ids ?? []).filter((id) => !all.has(id));
    if (missing.length > 0) {
      const what = `trash item ${missing.join(', ')}`;
      throw new LaminaError(Code.NotFound, `undo: ${what}: it was never there, or is gone for good`, { subject: what });
    }
    const wanted = [...all.values()].filter(
      (item) =>
        (ids === undefined || ids.includes(item.id)) &&
        (since === undefined || item.time >= since) &&
        (namespace === undefined || item.namespace === namespace),
    );
    // What was removed last comes first: parents went after their children.
    wanted.sort((a, b) => b.id - a.id);
    const restored: ObjectName[] = [];
    const refused: Undone['refused'][number][] = [];
    for (const { id, kind, namespace: of, key } of wanted) {
      try {
        restored.push(transaction.restore(id));
      } catch (error) {
        if (![Code.AlreadyExists, Code.NotFound, Code.FailedPrecondition].some((code) => code === codeOf(error)))
          throw error;
        refused.push({ id, object: { kind, namespace: of, key }, message: messageOf(error) });
      }
    }
    return { restored, refused };
  });
}
