/** Who uses the space of a store. */
import { type DiskUsage, diskUsage } from './disk-usage.js';
import { type ReadingOptions, readAndMark } from './reading.js';
import type { CollectStore } from './store.js';

/** Space by owner, what a collection would free, and the trash. */
export async function df(store: CollectStore, options: ReadingOptions = {}): Promise<DiskUsage> {
  const reading = await readAndMark(store, options);
  await Promise.all(reading.rounds.map((round) => round.cancel()));
  const trash = store.read((view) => view.trash().reduce((sum, { bytes }) => sum + bytes, 0));
  return diskUsage(reading, trash);
}
