/** The collection at the end of a command that has caused garbage, where no service does it. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '../base/index.js';
import { type CollectOptions, collect } from './collect.js';
import type { CollectionResult } from './result.js';
import type { CollectStore } from './store.js';

export interface CollectAfterOptions extends Omit<CollectOptions, 'dryRun'> {
  /** Gets a line that says what was done, or why not: for `--verbose`. */
  readonly onLine?: (line: string) => void;
}

/** How long a command may be held up, in milliseconds. */
const BUDGET_MS = 500;
/** Of metadata that are read and marked in a millisecond, at the least. */
const BYTES_PER_MS = 40_000;

/**
 * Collects within a budget. A command has done its work by then, so nothing that goes wrong here is
 * thrown.
 * @returns undefined when it was not begun, or failed
 */
export async function collectAfter(
  store: CollectStore,
  { onLine = () => undefined, ...options }: CollectAfterOptions,
): Promise<CollectionResult | undefined> {
  const { budgetMs = BUDGET_MS } = options;
  try {
    const expectedMs = metadataBytes(store.root) / BYTES_PER_MS;
    if (expectedMs > budgetMs) {
      onLine(`collect: not begun, as it takes about ${Math.round(expectedMs)} ms: run lamina gc run`);
      return undefined;
    }
    const result = await collect(store, { ...options, budgetMs });
    onLine(summary(result));
    for (const { subject, message } of result.failures) onLine(`collect: ${subject}: ${message}`);
    return result;
  } catch (error) {
    onLine(`collect: failed: ${messageOf(error)}`);
    return undefined;
  }
}

function metadataBytes(root: string): number {
  return statSync(join(root, 'metadata.db'), { throwIfNoEntry: false })?.size ?? 0;
}

/** One line: what was removed, and whether all of it was. */
export function summary({ result, types, freedBytes, phases }: CollectionResult): string {
  const removed = Object.entries(types)
    .filter(([, counts]) => counts.removed > 0)
    .map(([type, counts]) => `${counts.removed} ${type}`);
  const bytes = Object.values(types).reduce((sum, counts) => sum + counts.bytes, 0);
  const ms = Object.values(phases).reduce((sum, phase) => sum + phase, 0);
  const what = removed.length === 0 ? 'nothing to remove' : `${removed.join(', ')} into the trash (${bytes} bytes)`;
  const more = result === 'stopped' ? '; stopped, as its time was up: the rest is for the next one' : '';
  return `collect: ${what}, ${freedBytes} bytes freed, ${ms.toFixed(0)} ms${more}`;
}
