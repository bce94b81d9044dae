/**
 * The metadata store: durable changes beside containerd's, changes in bulk, reading for the
 * collector, growth.
 */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { LeasesDefinition } from '../src/containerd/gen/daemon/leases.js';
import { GrpcConnection } from '../src/containerd/index.js';
import { Store } from '../src/store/index.js';
import { Containerd } from '../test/lib/containerd.js';
import type { GcRow } from './gc-row.js';
import { median } from './samples.js';

const NS = 'default';
const BY = { command: 'bench' };
const COMMITS = 1_000;
const ROUNDS = 3;
const BULK = 10_000;
const PAIRS = 1_000_000;
const PAIRS_AT_ONCE = 5_000;
/**
 * One set is a blob, an image, seven chained snapshots, a container; containerd's own benchmark has
 * the same.
 */
const SET = 10;

const perSecond = (count: number, ms: number): number => (count / ms) * 1_000;

function time(work: () => unknown): number {
  const begin = performance.now();
  work();
  return performance.now() - begin;
}

const digestOf = (text: string): string => `sha256:${createHash('sha256').update(text).digest('hex')}`;

function ourCommits(store: Store, round: number): number {
  const ms = time(() => {
    for (let i = 0; i < COMMITS; i += 1) store.write(BY, (tx) => tx.createLease(NS, { id: `${round}-${i}` }));
  });
  return perSecond(COMMITS, ms);
}

async function theirCommits(address: string, round: number): Promise<number> {
  const connection = new GrpcConnection(address, { metadata: { 'containerd-namespace': NS } });
  try {
    const leases = connection.client(LeasesDefinition);
    const begin = performance.now();
    for (let i = 0; i < COMMITS; i += 1) await leases.create({ id: `${round}-${i}`, labels: {} });
    return perSecond(COMMITS, performance.now() - begin);
  } finally {
    connection[Symbol.dispose]();
  }
}

/** By turns, in one run and on one file system. */
async function commits(dir: string): Promise<GcRow[]> {
  const containerd = await Containerd.start();
  const [ours, theirs]: [number[], number[]] = [[], []];
  try {
    using store = Store.open({ root: join(dir, 'commits') });
    for (let round = 0; round < ROUNDS; round += 1) {
      ours.push(ourCommits(store, round));
      theirs.push(await theirCommits(containerd.address, round));
    }
  } finally {
    await containerd.stop();
  }
  const note = `a lease each, one after the other; containerd ${median(theirs).toFixed(0)}/s over one connection`;
  return [{ title: 'durable commits', value: median(ours), unit: '/s', note }];
}

function bulk(dir: string): GcRow[] {
  using store = Store.open({ root: join(dir, 'bulk') });
  const rate = (work: (i: number) => (tx: Parameters<Parameters<Store['write']>[1]>[0]) => unknown): number =>
    perSecond(
      BULK,
      time(() =>
        store.write(BY, (tx) => {
          for (let i = 0; i < BULK; i += 1) work(i)(tx);
        }),
      ),
    );
  const digest = digestOf('x');
  const rows: [string, number][] = [
    ['leases made in bulk', rate((i) => (tx) => tx.createLease(NS, { id: `${i}`, labels: { a: 'b' } }))],
    ['resources added in bulk', rate((i) => (tx) => tx.addLeaseResource(NS, `${i}`, { type: 'content', id: digest }))],
    ['leases deleted in bulk', rate((i) => (tx) => tx.deleteLease(NS, `${i}`))],
  ];
  return rows.map(([title, value]) => ({ title, value, unit: '/s', target: 10_000, isLeast: true }));
}

/** Adds sets of objects, a thousand under each lock. */
export function populate(store: Store, sets: number): void {
  const common = { snapshotter: 'overlayfs', kind: 'committed' } as const;
  for (let begin = 0; begin < sets; begin += 1_000) {
    store.write(BY, (tx) => {
      for (let i = begin; i < Math.min(sets, begin + 1_000); i += 1) {
        const digest = digestOf(String(i));
        tx.addBlob(NS, { digest, size: 1, labels: { 'containerd.io/gc.ref.content.0': digestOf(String(i + 1)) } });
        tx.putImage(NS, { name: `image-${i}`, target: { mediaType: 'm', digest, size: 1 } });
        let parent: string | undefined;
        for (let layer = 0; layer < SET - 3; layer += 1) {
          const name = `snapshot-${i}-${layer}`;
          tx.createSnapshot(NS, { ...common, name, parent, backend: name });
          parent = name;
        }
        tx.createContainer(NS, { id: `c${i}`, snapshotter: common.snapshotter, snapshotKey: parent ?? '' });
      }
    });
  }
}

function reading(dir: string, objects: number): GcRow {
  const root = join(dir, `metadata-${objects}`);
  using store = Store.open({ root });
  populate(store, objects / SET);
  const times = Array.from({ length: ROUNDS }, () => time(() => store.read((view) => [...view.metadata()])));
  const size = (statSync(join(root, 'metadata.db')).size / 1e6).toFixed(0);
  return { title: `metadata of ${objects} objects read`, value: median(times), unit: 'ms', note: `${size} MB of file` };
}

function growth(dir: string): GcRow {
  const root = join(dir, 'growth');
  using store = Store.open({ root });
  const size = (): number => ['', '-wal'].reduce((sum, end) => sum + statSync(join(root, `metadata.db${end}`)).size, 0);
  let early = 0;
  const ms = time(() => {
    for (let done = 0; done < PAIRS; done += PAIRS_AT_ONCE) {
      store.write(BY, (tx) => {
        for (let i = 0; i < PAIRS_AT_ONCE; i += 1) {
          tx.createLease(NS, { id: `${done + i}`, labels: { a: 'b' } });
          tx.deleteLease(NS, `${done + i}`);
        }
      });
      if (done === PAIRS / 10) early = size();
    }
  });
  const note = `${(early / 1e6).toFixed(1)} MB after a tenth; ${perSecond(2 * PAIRS, ms).toFixed(0)} changes/s`;
  return { title: 'files after 1,000,000 leases made and deleted', value: size() / 1e6, unit: 'MB', target: 64, note };
}

/** All rows of the store. Needs root and containerd. */
export async function storeRows(): Promise<GcRow[]> {
  const dir = mkdtempSync('/var/tmp/lamina-bench-');
  try {
    return [...(await commits(dir)), ...bulk(dir), reading(dir, 100_000), reading(dir, 1_000_000), growth(dir)];
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
