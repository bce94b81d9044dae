/**
 * A writer at full speed: makes images under leases as a pull does, forgets old ones, and makes use
 * of what it has forgotten. Each time it looks whether all that must be there is.
 *
 *   node writer.js ROOT NAMESPACE    ends at a message `stop`, and sends { rounds, lost }
 */
import { createHash } from 'node:crypto';
import { Store, type Transaction } from '../../../src/store/index.js';

const [root = '', namespace = ''] = process.argv.slice(2);
const BY = { command: `writer of ${namespace}` };
/** So many images are there at a time, and so many are forgotten and may come back. */
const LIVE = 5;
const FORGOTTEN = 8;

const digestOf = (text: string): string => `sha256:${createHash('sha256').update(text).digest('hex')}`;

interface Pulled {
  readonly name: string;
  readonly manifest: string;
  readonly layers: readonly string[];
  readonly snapshots: readonly string[];
}

const store = Store.open({ root, busyMs: 60_000 });
const lost: string[] = [];
let isStopped = false;
process.on('message', () => {
  isStopped = true;
});

/** Layers repeat, so that what one image forgets another needs. */
function pulled(round: number): Pulled {
  const name = `image${round}`;
  const layers = [round % 3, round % 7].map((number) => digestOf(`layer ${number}`));
  return {
    name,
    manifest: digestOf(`${namespace} ${name}`),
    layers: [...new Set(layers)],
    snapshots: [`${name}-0`, `${name}-1`],
  };
}

function addIfMissing(tx: Transaction, digest: string, labels: Record<string, string> = {}): void {
  if (tx.blob(namespace, digest) === undefined) tx.addBlob(namespace, { digest, size: 1, labels });
}

/** As a pull: a lease first, then part by part, each in a transaction of its own. */
function pull(image: Pulled): void {
  const { name, manifest, layers, snapshots } = image;
  const lease = `pull-${name}`;
  const parts: ((tx: Transaction) => void)[] = [
    (tx) => void tx.createLease(namespace, { id: lease, labels: {} }),
    ...[...layers, manifest].map((id) => (tx: Transaction) => {
      tx.addLeaseResource(namespace, lease, { type: 'content', id });
      const labels = layers.map((layer, at) => [`containerd.io/gc.ref.content.l.${at}`, layer] as const);
      const chain = ['containerd.io/gc.ref.snapshot.native', snapshots.at(-1) ?? ''] as const;
      addIfMissing(tx, id, id === manifest ? Object.fromEntries([...labels, chain]) : {});
    }),
    ...snapshots.map((snapshot, at) => (tx: Transaction) => {
      tx.addLeaseResource(namespace, lease, { type: 'snapshots/native', id: snapshot });
      if (tx.snapshot(namespace, 'native', snapshot) !== undefined) return;
      const backend = `${namespace}-${snapshot}`;
      const parent = at === 0 ? undefined : snapshots[at - 1];
      tx.createSnapshot(namespace, { snapshotter: 'native', name: snapshot, parent, kind: 'committed', backend });
    }),
    (tx) => tx.putImage(namespace, { name, target: { mediaType: '', digest: manifest, size: 1 } }),
    (tx) => tx.deleteLease(namespace, lease),
  ];
  for (const [at, part] of parts.entries()) {
    store.write(BY, part);
    look(image, `part ${at}`, at);
  }
}

/** What a pull has made so far is there; of a whole one everything. */
function look({ name, manifest, layers, snapshots }: Pulled, when: string, done = Number.POSITIVE_INFINITY): void {
  const blobs = [...layers, manifest].slice(0, done);
  const chain = snapshots.slice(0, Math.max(0, done - layers.length - 1));
  store.read((view) => {
    for (const digest of blobs)
      if (view.blob(namespace, digest) === undefined) lost.push(`${name}, ${when}: ${digest}`);
    for (const one of chain) {
      if (view.snapshot(namespace, 'native', one) === undefined) lost.push(`${name}, ${when}: ${one}`);
    }
  });
}

/**
 * Tags an old image again, if all of its parts happen to be there still. @returns whether they were
 */
function revive({ name, manifest, layers, snapshots }: Pulled): boolean {
  return store.write(BY, (tx) => {
    const isWhole =
      [...layers, manifest].every((digest) => tx.blob(namespace, digest) !== undefined) &&
      snapshots.every((one) => tx.snapshot(namespace, 'native', one) !== undefined);
    // A manifest that is there has all that it refers to: garbage goes from the top.
    if (!isWhole && tx.blob(namespace, manifest) !== undefined) lost.push(`${name}: a manifest without its parts`);
    if (isWhole) tx.putImage(namespace, { name, target: { mediaType: '', digest: manifest, size: 1 } });
    return isWhole;
  });
}

process.send?.('ready');
const live: Pulled[] = [];
const forgotten: Pulled[] = [];
let rounds = 0;
let revived = 0;
for (; !isStopped; rounds += 1) {
  const image = pulled(rounds);
  pull(image);
  live.push(image);
  if (live.length > LIVE) {
    const old = live.shift() as Pulled;
    store.write(BY, (tx) => tx.deleteImage(namespace, old.name));
    forgotten.push(old);
  }
  if (forgotten.length > FORGOTTEN) forgotten.shift();
  const again = forgotten[rounds % FORGOTTEN];
  if (again !== undefined && revive(again)) {
    revived += 1;
    forgotten.splice(forgotten.indexOf(again), 1);
    live.push(again);
  }
  for (const one of live) look(one, 'while its image is there');
  await new Promise(setImmediate);
}
store[Symbol.dispose]();
process.send?.({ rounds, revived, lost: lost.slice(0, 20) }, () => process.disconnect());
