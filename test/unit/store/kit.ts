/** Stores for tests: short to make, gone afterwards. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type Code, LaminaError } from '../../../src/base/index.js';
import { Store, type StoreOptions } from '../../../src/store/index.js';
import { Database } from '../../../src/store/sqlite.js';

export const BY = { command: 'test' };
export const NS = 'default';

export function digestOf(text: string): string {
  return `sha256:${createHash('sha256').update(text).digest('hex')}`;
}

/** A root that is not there yet, and goes when the test ends. */
export function newRoot(t: TestContext): string {
  const dir = mkdtempSync('/tmp/lamina-store-');
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, 'root');
}

/** A store that is closed when the test ends. */
export function newStore(t: TestContext, options: StoreOptions = {}): Store {
  const store = Store.open({ root: newRoot(t), ...options });
  t.after(() => store[Symbol.dispose]());
  return store;
}

export async function ingest(
  store: Store,
  text: string,
  options: { namespace?: string; lease?: string } = {},
): Promise<string> {
  const writer = await store.content.ingest({ namespace: NS, ref: text.slice(0, 40), by: BY, ...options });
  await writer.write(Buffer.from(text.slice(writer.offset)));
  return await writer.commit();
}

export async function readAll(stream: AsyncIterable<unknown>): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

/** For assert.throws and assert.rejects. */
export function laminaError(code: Code, text: RegExp = /./): (error: unknown) => boolean {
  return (error) => {
    if (!(error instanceof LaminaError)) throw error;
    if (error.code === code && text.test(error.message)) return true;
    throw new Error(`code ${error.code}, not ${code}, or not ${text}: ${error.message}`, { cause: error });
  };
}

/** Makes a store look as if a process that wrote to it had been killed. */
export function pretendCrash(root: string): void {
  using database = new Database(join(root, 'metadata.db'), { busyMs: 1_000, readOnly: false });
  const process = JSON.stringify({ pid: 1, startTime: 1, bootId: 'an earlier one' });
  database.run('INSERT INTO writers (token, process) VALUES (?, ?)', 'gone', process);
}
