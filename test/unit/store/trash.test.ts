import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { ResourceType } from '../../../src/gc/index.js';
import { Store, type Transaction } from '../../../src/store/index.js';
import { BY, digestOf, ingest, laminaError, NS, newRoot, newStore, pretendCrash, readAll } from './kit.js';

const TEXT = 'some text';
const DIGEST = digestOf(TEXT);
const CONTENT = { kind: 'content', namespace: NS, key: DIGEST } as const;

const trashed = (store: Store): string => join(store.root, 'trash/blobs/sha256', DIGEST.slice('sha256:'.length));

describe('the trash', () => {
  test('content comes back with its labels, leases and bytes', async (t) => {
    const store = newStore(t);
    store.write(BY, (tx) => tx.createLease(NS, { id: 'l' }));
    await ingest(store, TEXT, { lease: 'l' });
    store.write(BY, (tx) => tx.setLabels(CONTENT, { a: 'b' }));
    const id = store.write(BY, (tx) =>
      tx.toTrash({ type: ResourceType.Content, namespace: NS, key: DIGEST }, 'unused'),
    );
    store.read((view) => {
      assert.deepEqual([view.blobs(NS), view.leaseResources(NS, 'l')], [[], []]);
      const [item] = view.trash();
      assert.deepEqual([item?.id, item?.bytes, item?.reason, item?.leases], [id, TEXT.length, 'unused', ['l']]);
    });
    assert.ok(existsSync(trashed(store)));
    assert.ok(!existsSync(store.content.path(DIGEST)));
    store.write(BY, (tx) => tx.restore(id));
    assert.deepEqual(
      store.read((view) => view.blob(NS, DIGEST)?.labels),
      { a: 'b' },
    );
    assert.deepEqual(
      store.read((view) => view.leaseResources(NS, 'l')),
      [{ type: 'content', id: DIGEST }],
    );
    assert.equal(await readAll(store.content.read(NS, DIGEST)), TEXT);
    assert.throws(() => store.write(BY, (tx) => tx.restore(id)), laminaError(Code.NotFound));
  });

  test('bytes that another namespace has stay where they are', async (t) => {
    const store = newStore(t);
    await ingest(store, TEXT);
    await (await store.content.ingest({ namespace: 'other', ref: 'r', expected: DIGEST })).commit();
    const first = store.write(BY, (tx) => tx.toTrash(CONTENT, 'x'));
    assert.ok(existsSync(store.content.path(DIGEST)));
    const second = store.write(BY, (tx) => tx.toTrash({ ...CONTENT, namespace: 'other' }, 'x'));
    assert.ok(existsSync(trashed(store)));
    store.write(BY, (tx) => tx.dropTrash(second));
    assert.ok(existsSync(trashed(store)));
    store.write(BY, (tx) => tx.restore(first));
    assert.equal(await readAll(store.content.read(NS, DIGEST)), TEXT);
  });

  test('a lease comes back with what it named', (t) => {
    const store = newStore(t);
    const id = store.write(BY, (tx) => {
      tx.createLease(NS, { id: 'l', labels: { a: 'b' }, owner: { pid: 1, startTime: 2, bootId: 'b' } });
      tx.addLeaseResource(NS, 'l', { type: 'images', id: 'i' });
      return tx.toTrash({ kind: 'lease', namespace: NS, key: 'l' }, 'x');
    });
    assert.equal(
      store.read((view) => view.lease(NS, 'l')),
      undefined,
    );
    store.write(BY, (tx) => tx.restore(id));
    store.read((view) => {
      assert.deepEqual(view.leaseResources(NS, 'l'), [{ type: 'images', id: 'i' }]);
      assert.equal(view.lease(NS, 'l')?.owner?.bootId, 'b');
    });
  });

  test('snapshots with children stay, a child waits for its parent', (t) => {
    const store = newStore(t);
    const folder = (name: string): string => join(store.root, 'snapshots/overlayfs', name);
    for (const name of ['p', 'c']) {
      mkdirSync(join(folder(name), 'fs'), { recursive: true });
      writeFileSync(join(folder(name), 'fs/file'), name);
    }
    const common = { snapshotter: 'overlayfs', kind: 'committed' } as const;
    store.write(BY, (tx) => {
      tx.createSnapshot(NS, { ...common, name: 'p', backend: 'p' });
      tx.createSnapshot(NS, { ...common, name: 'c', backend: 'c', parent: 'p' });
    });
    const drop = (name: string): number =>
      store.write(BY, (tx) => tx.toTrash({ kind: 'snapshot', namespace: NS, key: `overlayfs/${name}` }, 'x'));
    assert.throws(() => drop('p'), laminaError(Code.FailedPrecondition, /parent of c/));
    const [child, parent] = [drop('c'), drop('p')];
    assert.deepEqual(readdirSync(join(store.root, 'snapshots/overlayfs')), []);
    const back = (id: number) => () => store.write(BY, (tx) => tx.restore(id));
    assert.throws(back(child), laminaError(Code.NotFound, /overlayfs\/p/));
    assert.ok(!existsSync(folder('c')));
    back(parent)();
    back(child)();
    assert.ok(existsSync(join(folder('c'), 'fs/file')));
  });

  test('a name that is taken again is not overwritten', (t) => {
    const store = newStore(t);
    const id = store.write(BY, (tx) => {
      tx.createLease(NS, { id: 'l', labels: { a: 'old' } });
      const item = tx.toTrash({ kind: 'lease', namespace: NS, key: 'l' }, 'x');
      tx.createLease(NS, { id: 'l', labels: { a: 'new' } });
      return item;
    });
    assert.throws(() => store.write(BY, (tx) => tx.restore(id)), laminaError(Code.AlreadyExists));
    assert.deepEqual(
      store.read((view) => view.lease(NS, 'l')?.labels),
      { a: 'new' },
    );
    assert.equal(store.read((view) => view.trash()).length, 1);
  });

  test('a file is back in the trash when the restoring transaction fails', async (t) => {
    const store = newStore(t);
    await ingest(store, TEXT);
    const id = store.write(BY, (tx) => tx.toTrash(CONTENT, 'x'));
    const fail = (): void =>
      store.write(BY, (tx) => {
        tx.restore(id);
        throw new Error('no');
      });
    assert.throws(fail, /no/);
    assert.ok(existsSync(trashed(store)));
    assert.ok(!existsSync(store.content.path(DIGEST)));
    assert.equal(store.read((view) => view.trash()).length, 1);
  });

  test('what is emptied is gone, and its bytes are free', async (t) => {
    const store = newStore(t);
    await ingest(store, TEXT);
    const id = store.write(BY, (tx) => tx.toTrash(CONTENT, 'x'));
    store.write(BY, (tx) => tx.dropTrash(id));
    assert.equal(
      store.read((view) => view.trash().length),
      0,
    );
    await store.reclaim();
    assert.ok(!existsSync(trashed(store)));
    assert.deepEqual(readdirSync(join(store.root, 'trash/doomed')), []);
    assert.throws(() => store.write(BY, (tx) => tx.dropTrash(id)), laminaError(Code.NotFound));
  });

  test('namespaces and resources of plug-ins cannot go there', (t) => {
    const store = newStore(t);
    store.write(BY, (tx) => tx.createNamespace(NS));
    const drop = (what: Parameters<Transaction['toTrash']>[0]) => () => store.write(BY, (tx) => tx.toTrash(what, 'x'));
    assert.throws(drop({ kind: 'namespace', namespace: NS, key: NS }), laminaError(Code.InvalidArgument));
    assert.throws(drop({ type: 12, namespace: NS, key: 'x' }), laminaError(Code.InvalidArgument));
    assert.throws(drop(CONTENT), laminaError(Code.NotFound));
  });
});

describe('removal', () => {
  test('takes a deep tree with links out of it away, and nothing else', async (t) => {
    const store = newStore(t);
    const outside = join(dirname(store.root), 'outside');
    mkdirSync(outside);
    writeFileSync(join(outside, 'file'), 'kept');
    const folder = join(store.root, 'snapshots/overlayfs/1');
    mkdirSync(folder, { recursive: true });
    symlinkSync(outside, join(folder, 'link'));
    symlinkSync(join(outside, 'file'), join(folder, 'file'));
    writeFileSync(Buffer.concat([Buffer.from(`${folder}/`), Buffer.from([0xff, 0xfe])]), 'a name that is no text');
    // Deeper than any path may be long.
    let at = folder;
    for (let depth = 0; depth < 300; depth += 1) {
      at = join(at, 'd'.repeat(10));
      mkdirSync(at);
    }
    store.write(BY, (tx) => {
      tx.createSnapshot(NS, { snapshotter: 'overlayfs', name: 's', kind: 'committed', backend: '1' });
      tx.deleteSnapshot(NS, 'overlayfs', 's');
    });
    await store.reclaim();
    assert.deepEqual(readdirSync(join(store.root, 'trash/doomed')), []);
    assert.deepEqual(readdirSync(outside), ['file']);
  });
});

describe('after a crash', () => {
  test('files are brought to where the rows have them', async (t) => {
    const root = newRoot(t);
    let own = '';
    {
      using store = Store.open({ root });
      await ingest(store, TEXT);
      await ingest(store, 'other');
      store.write(BY, (tx) => tx.toTrash({ ...CONTENT, key: digestOf('other') }, 'x'));
      own = store.content.path(DIGEST);
      // Neither rename was followed by its commit.
      renameSync(own, trashed(store));
      const other = store.content.path(digestOf('other'));
      renameSync(join(root, 'trash', other.slice(root.length)), other);
    }
    pretendCrash(root);
    using store = Store.open({ root });
    assert.ok(existsSync(own));
    assert.ok(!existsSync(trashed(store)));
    assert.ok(!existsSync(store.content.path(digestOf('other'))));
    await store.content.verify(NS, DIGEST);
  });
});
