/**
 * `npm run bench -- gc [--json] [collections]`: marking, collections, what a writer notices of
 * them; and the store beside containerd's, which needs root.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type GcRow, markdown } from '../gc-row.js';
import { loadAverage, machine } from '../report.js';
import { storeRows } from '../store.js';
import { collectionRows } from './collection.js';
import { markingRows } from './marking.js';

export async function main(args: readonly string[]): Promise<void> {
  // Not below /tmp, which may be memory: a commit is to reach a disk.
  const folder = mkdtempSync(join('/var/tmp', 'lamina-bench-'));
  try {
    const before = loadAverage();
    const rows: GcRow[] = [...markingRows(), ...(await collectionRows(folder))];
    if (!args.includes('collections')) rows.push(...(await storeRows()));
    if (args.includes('--json')) {
      process.stdout.write(`${JSON.stringify({ machine: machine(), before, after: loadAverage(), rows }, null, 2)}\n`);
      return;
    }
    process.stdout.write(
      `${machine()}. Node ${process.version}. Load average before ${before}, after ${loadAverage()}.\n\n`,
    );
    process.stdout.write(`${markdown(rows)}\n`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
