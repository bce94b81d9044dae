/** Leases that end with a process, and the housekeeper, over the real store and real processes. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { Code } from '../../../src/base/index.js';
import {
  type CollectionResult,
  collect,
  collectAfter,
  Housekeeper,
  type HousekeeperOptions,
} from '../../../src/collect/index.js';
import { Store } from '../../../src/store/index.js';
import { identityOf, type ProcessIdentity } from '../../../src/sys/index.js';
import { digestOf, LoadedStore } from '../../lib/store-load.js';
import { until } from '../../lib/wait.js';
import { blob, namespace } from '../../unit/gc/kit.js';

const BY = { command: 'test' };

function begin(): { child: ChildProcess; owner: ProcessIdentity } {
  const child = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] });
  const owner = identityOf(child.pid ?? 0);
  assert.ok(owner !== undefined);
  return { child, owner };
}

async function kill(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

/** A store with a blob that only a lease bound to this process keeps. */
function owned(owner: ProcessIdentity): LoadedStore {
  const loaded = new LoadedStore().load(namespace('default', { content: [blob(digestOf('a'))] }));
  loaded.store.write(BY, (tx) => {
    tx.createLease('default', { id: 'l', owner });
    tx.addLeaseResource('default', 'l', { type: 'content', id: digestOf('a') });
  });
  return loaded;
}
const ALL = [`content ${digestOf('a')}`, 'lease l'];

describe('leases bound to a process', () => {
  test('end with it, also when it is killed, and what they kept goes', async () => {
    const { child, owner } = begin();
    using loaded = owned(owner);
    await collect(loaded.store, { by: BY });
    assert.deepEqual(loaded.names(), ALL);
    await kill(child);
    await collect(loaded.store, { by: BY });
    assert.deepEqual(loaded.names(), []);
    const reasons = loaded.store.read((view) => view.trash().map(({ reason }) => reason));
    assert.match(reasons.join('\n'), new RegExp(`its owner, process ${owner.pid}, has ended`));
  });

  test('end with the boot, and with a later process of the same pid', async () => {
    const { child, owner } = begin();
    for (const other of [
      { ...owner, bootId: 'another' },
      { ...owner, startTime: owner.startTime - 1 },
    ]) {
      using loaded = owned(other);
      await collect(loaded.store, { by: BY });
      assert.deepEqual(loaded.names(), []);
    }
    await kill(child);
  });

  test('of another pid namespace stay: that process cannot be judged from here', async () => {
    using loaded = owned({ pid: 1, startTime: 1, bootId: identityOf()?.bootId ?? '', pidNamespace: 'pid:[1]' });
    await collect(loaded.store, { by: BY });
    assert.deepEqual(loaded.names(), ALL);
  });
});

/** A housekeeper that does nothing by itself but what is under test. */
function keep(loaded: LoadedStore, options: Partial<HousekeeperOptions> = {}) {
  const results: CollectionResult[] = [];
  const failures: unknown[] = [];
  const housekeeper = new Housekeeper(loaded.store, {
    by: BY,
    pollMs: 10,
    schedule: { startupDelayMs: 0 },
    onResult: (result) => results.push(result),
    onFailure: (error) => failures.push(error),
    ...options,
  });
  return { housekeeper, results, failures };
}

describe('housekeeper', () => {
  test('collects when the owner of a lease is killed', async () => {
    const { child, owner } = begin();
    using loaded = owned(owner);
    await using made = keep(loaded).housekeeper;
    made.start();
    await kill(child);
    await until('all has gone', () => loaded.names().length === 0);
  });

  test('collects when a lease expires that another process has made, although nothing else happens', async () => {
    using loaded = new LoadedStore();
    const { housekeeper, failures } = keep(loaded);
    await using _ = housekeeper;
    housekeeper.start();
    using other = Store.open({ root: loaded.root });
    other.write(BY, (tx) => tx.createLease('default', { id: 'short', expiresAt: Date.now() + 300 }));
    assert.deepEqual(loaded.names(), ['lease short']);
    await until('the lease has gone', () => loaded.names().length === 0);
    assert.deepEqual(failures, []);
  });

  test('collects after a deletion by another process, and not after its own', async () => {
    using loaded = new LoadedStore().load(namespace('default', { content: [blob(digestOf('a'), { root: '' })] }));
    const { housekeeper, results } = keep(loaded);
    await using _ = housekeeper;
    await housekeeper.collectNow();
    using other = Store.open({ root: loaded.root });
    other.write(BY, (tx) => {
      tx.createLease('default', { id: 'x' });
      tx.setLabels({ kind: 'content', namespace: 'default', key: digestOf('a') }, {});
      tx.deleteLease('default', 'x');
    });
    await until('the blob has gone', () => loaded.names().length === 0);
    const count = results.length;
    // Its own removal is in the journal by now; a collection that is asked for is the next one.
    await housekeeper.collectNow();
    assert.equal(results.length, count + 1);
  });

  test('an end stops it, and refuses those who wait', async () => {
    using loaded = new LoadedStore();
    const { housekeeper } = keep(loaded);
    housekeeper.start();
    await housekeeper.collectNow();
    await housekeeper.close();
    await assert.rejects(housekeeper.collectNow(), { code: Code.Unavailable });
  });
});

describe('a command without a service', () => {
  test('collects at its end within a budget, and says so', async () => {
    using loaded = new LoadedStore().load(namespace('default', { content: [blob(digestOf('a'))] }));
    const lines: string[] = [];
    const result = await collectAfter(loaded.store, { by: BY, budgetMs: 60_000, onLine: (line) => lines.push(line) });
    assert.equal(result?.result, 'success');
    assert.deepEqual(loaded.names(), []);
    assert.match(lines.join('\n'), /^collect: 1 content into the trash \(0 bytes\), 0 bytes freed, \d+ ms$/);
  });

  test('does not begin what cannot end in time, and throws nothing', async () => {
    using loaded = new LoadedStore().load(namespace('default', { content: [blob(digestOf('a'))] }));
    const lines: string[] = [];
    const onLine = (line: string): void => void lines.push(line);
    assert.equal(await collectAfter(loaded.store, { by: BY, budgetMs: 0, onLine }), undefined);
    assert.match(lines[0] ?? '', /^collect: not begun, as it takes about \d+ ms: run lamina gc run$/);
    const closed = new LoadedStore();
    closed[Symbol.dispose]();
    assert.equal(await collectAfter(closed.store, { by: BY, onLine }), undefined);
    assert.match(lines[1] ?? '', /^collect: failed: /);
  });
});
