/**
 * A life of a store in steps, the same each time. As a program: `workload.js ROOT FROM` does the
 * steps from FROM on and says `done N` after each; at an error it says `failed N {code, message}`
 * and ends.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { Code, LaminaError } from '../../../src/base/index.js';
import { Store } from '../../../src/store/index.js';

type Step = (store: Store) => unknown;

const BY = { command: 'workload' };
const NS = 'default';
const TEXT = { first: 'first text '.repeat(2_000), second: 'second text '.repeat(40), third: 'third' };

export function digestOf(text: string): string {
  return `sha256:${createHash('sha256').update(text).digest('hex')}`;
}

/** In two steps, as it is two changes. */
async function begin(store: Store, ref: string, text: string, lease?: string): Promise<void> {
  await using writer = await store.content.ingest({ namespace: NS, ref, by: BY, lease });
  await writer.write(Buffer.from(text.slice(writer.offset)));
}

async function finish(store: Store, ref: string, text: string, lease?: string): Promise<void> {
  const writer = await store.content.ingest({ namespace: NS, ref, by: BY, lease });
  await writer.write(Buffer.from(text.slice(writer.offset)));
  await writer.commit({ labels: { ref } });
}

const content = (text: string) => ({ kind: 'content', namespace: NS, key: digestOf(text) }) as const;
const folderOf = (store: Store, backend: string): string => join(store.root, 'snapshots/overlayfs', backend);

/** A snapshotter's work. */
function makeFolders(store: Store): void {
  try {
    for (const backend of ['1', '2']) {
      mkdirSync(join(folderOf(store, backend), 'fs'), { recursive: true });
      writeFileSync(join(folderOf(store, backend), 'fs/file'), backend);
    }
  } catch (error) {
    throw new LaminaError(Code.Internal, `snapshotter of ${store.root}: ${String(error)}`);
  }
}

function trashId(store: Store, key: string): number {
  return store.read((view) => view.trash().findLast((item) => item.key === key)?.id ?? 0);
}

export const STEPS: readonly Step[] = [
  (store) => store.write(BY, (tx) => tx.createLease(NS, { id: 'hold', labels: { a: 'b' } })),
  (store) => begin(store, 'one', TEXT.first, 'hold'),
  (store) => finish(store, 'one', TEXT.first, 'hold'),
  (store) => begin(store, 'two', TEXT.second.slice(0, 100)),
  (store) => finish(store, 'two', TEXT.second),
  (store) =>
    store.write(BY, (tx) => {
      tx.putImage(NS, { name: 'image', target: { mediaType: 'm', digest: digestOf(TEXT.first), size: 1 } });
      tx.setLabels(content(TEXT.first), { 'containerd.io/gc.ref.content.0': digestOf(TEXT.second) });
    }),
  makeFolders,
  (store) =>
    store.write(BY, (tx) => {
      const common = { snapshotter: 'overlayfs', kind: 'committed' } as const;
      tx.createSnapshot(NS, { ...common, name: 'base', backend: '1' });
      tx.createSnapshot(NS, { ...common, name: 'top', backend: '2', parent: 'base' });
    }),
  (store) =>
    store.write(BY, (tx) =>
      tx.createContainer(NS, {
        id: 'box',
        snapshotter: 'overlayfs',
        snapshotKey: 'top',
        spec: { x: 'y'.repeat(9_000) },
      }),
    ),
  (store) => begin(store, 'three', TEXT.third),
  (store) => finish(store, 'three', TEXT.third),
  (store) =>
    store.write(BY, (tx) => {
      tx.toTrash(content(TEXT.third), 'not needed');
      tx.toTrash(content(TEXT.second), 'not needed');
      tx.deleteContainer(NS, 'box');
      tx.toTrash({ kind: 'snapshot', namespace: NS, key: 'overlayfs/top' }, 'not needed');
    }),
  (store) => store.write(BY, (tx) => tx.restore(trashId(store, digestOf(TEXT.second)))),
  (store) => store.write(BY, (tx) => tx.restore(trashId(store, 'overlayfs/top'))),
  (store) => store.write(BY, (tx) => tx.dropTrash(trashId(store, digestOf(TEXT.third)))),
  (store) => store.reclaim(),
  (store) =>
    store.write(BY, (tx) => {
      tx.deleteSnapshot(NS, 'overlayfs', 'top');
      tx.deleteBlob(NS, digestOf(TEXT.second));
      for (let i = 0; i < 40; i += 1) tx.createLease(NS, { id: `many-${i}`, labels: { text: 'z'.repeat(500) } });
    }),
  (store) => store.maintain(),
  (store) => store.reclaim(),
  (store) =>
    store.write(BY, (tx) => {
      for (let i = 0; i < 40; i += 1) tx.deleteLease(NS, `many-${i}`);
      tx.toTrash({ kind: 'lease', namespace: NS, key: 'hold' }, 'over');
    }),
];

export function openStore(root: string): Store {
  return Store.open({ root, busyMs: 20_000 });
}

async function main([root = '', from = '0']: string[]): Promise<void> {
  const say = (text: string): void => void writeSync(1, `${text}\n`);
  let step = Number(from);
  try {
    using store = openStore(root);
    for (; step < STEPS.length; step += 1) {
      await STEPS[step]?.(store);
      say(`done ${step}`);
    }
  } catch (error) {
    const { code, message } = error instanceof LaminaError ? error : { code: -1, message: String(error) };
    say(`failed ${step} ${JSON.stringify({ code, message })}`);
  }
}

if (process.argv[1] === import.meta.filename) await main(process.argv.slice(2));
