/**
 * containerd's own benchmark population: sets of a blob, an image, seven chained snapshots and a
 * container.
 */
import type { Store } from '../../src/store/index.js';

export const OBJECTS_PER_SET = 10;
const CHAIN = 7;
/** A transaction takes so many sets. */
const BATCH = 200;

export interface Sets {
  readonly count: number;
  /** So many of them have neither image nor container: garbage. */
  readonly garbage: number;
}

export function loadSets(store: Store, { count, garbage }: Sets, namespace = 'bench'): void {
  for (let at = 0; at < count; at += BATCH) {
    store.write({ command: 'bench' }, (tx) => {
      for (let set = at; set < Math.min(count, at + BATCH); set += 1) {
        const digest = `sha256:${set.toString(16).padStart(64, '0')}`;
        const top = `set${set}-${CHAIN - 1}`;
        tx.addBlob(namespace, { digest, size: 1_000, labels: { 'containerd.io/gc.ref.snapshot.native': top } });
        for (let level = 0; level < CHAIN; level += 1) {
          const parent = level === 0 ? undefined : `set${set}-${level - 1}`;
          const name = `set${set}-${level}`;
          tx.createSnapshot(namespace, { snapshotter: 'native', name, parent, kind: 'committed', backend: name });
        }
        if (set < garbage) continue;
        tx.putImage(namespace, { name: `image${set}`, target: { mediaType: '', digest, size: 1_000 } });
        tx.createContainer(namespace, { id: `container${set}`, snapshotter: 'native', snapshotKey: top });
      }
    });
  }
}
