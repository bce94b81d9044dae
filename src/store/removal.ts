/**
 * Removing what is doomed. A snapshot's tree is a tenant's: each step goes through a descriptor of
 * its parent.
 */
import { closeSync, constants, openSync, readdirSync, renameSync, rmdirSync, unlinkSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { isErrno, randomName } from '../base/index.js';
import { fileError, type Layout } from './layout.js';

const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = constants;
/** A descriptor is open for each level. Deeper directories are brought up first. */
const MAX_DEPTH = 64;
/** So much is unlinked before others get their turn. */
const STEP = 256;

/** A name as bytes: a tenant's need be no text. */
function below(folder: number, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`/proc/self/fd/${folder}/`), name]);
}

function names(folder: number): Buffer[] {
  return readdirSync(`/proc/self/fd/${folder}`, { encoding: 'buffer' });
}

/** Removes everything below a directory. Rests after each entry. */
function* emptyBelow(top: number, folder: number, depth: number): Generator<void> {
  for (const name of names(folder)) {
    yield;
    yield* removeEntry(top, below(folder, name), depth);
  }
}

function* removeEntry(top: number, path: Buffer, depth: number): Generator<void> {
  if (removeFile(path)) return;
  if (depth >= MAX_DEPTH) return renameSync(path, below(top, Buffer.from(randomName())));
  const folder = openSync(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  try {
    yield* emptyBelow(top, folder, depth + 1);
  } finally {
    closeSync(folder);
  }
  try {
    rmdirSync(path);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}

/** @returns false for a directory */
function removeFile(path: Buffer): boolean {
  try {
    unlinkSync(path);
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return true;
    if (isErrno(error, 'EISDIR')) return false;
    throw error;
  }
}

function* removeAll({ doomed }: Layout): Generator<void> {
  let top: number;
  try {
    top = openSync(doomed, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return;
    throw fileError(error, doomed);
  }
  try {
    // A further round takes what was brought up from below.
    while (names(top).length > 0) yield* emptyBelow(top, top, 0);
  } catch (error) {
    throw fileError(error, doomed);
  } finally {
    closeSync(top);
  }
}

/** Frees the bytes of what is doomed. @throws LaminaError with the path that cannot be removed */
export function removeDoomedNow(layout: Layout): void {
  for (const _ of removeAll(layout)) {
    // Each step is done when the generator has rested.
  }
}

/** As `removeDoomedNow`, in small steps between which others have their turn. */
export async function removeDoomed(layout: Layout, signal?: AbortSignal): Promise<void> {
  let count = 0;
  for (const _ of removeAll(layout)) {
    signal?.throwIfAborted();
    count += 1;
    if (count % STEP === 0) await turn();
  }
}
