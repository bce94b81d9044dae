import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { scan } from '../../../src/gc/index.js';
import type { Labels, Transaction } from '../../../src/store/index.js';
import { BY, digestOf, laminaError, NS, newStore } from './kit.js';

const A = digestOf('a');
const B = digestOf('b');
const target = (digest: string) => ({ mediaType: 'm', digest, size: 1 });
const snapshot = (name: string, parent?: string) =>
  ({ snapshotter: 'overlayfs', name, parent, kind: 'committed', backend: name }) as const;

describe('leases', () => {
  test('a lease gets an id of its own, its expiry is its label', (t) => {
    const store = newStore(t);
    const at = Date.parse('2030-01-01T00:00:00Z');
    const lease = store.write(BY, (tx) => tx.createLease(NS, { expiresAt: at }));
    assert.match(lease.id, /^\d+-[\w-]{4}$/);
    assert.equal(lease.labels['containerd.io/gc.expire'], '2030-01-01T00:00:00.000Z');
    assert.equal(
      store.read((view) => view.lease(NS, lease.id)?.expiresAt),
      at,
    );
  });

  test('an id that is taken is refused, one that is unknown is not found', (t) => {
    const store = newStore(t);
    store.write(BY, (tx) => tx.createLease(NS, { id: 'a' }));
    const change = (work: (tx: Transaction) => unknown) => () => store.write(BY, work);
    assert.throws(
      change((tx) => tx.createLease(NS, { id: 'a' })),
      laminaError(Code.AlreadyExists),
    );
    assert.throws(
      change((tx) => tx.deleteLease(NS, 'b')),
      laminaError(Code.NotFound),
    );
    assert.throws(
      change((tx) => tx.deleteLease('other', 'a')),
      laminaError(Code.NotFound),
    );
    assert.throws(
      change((tx) => tx.addLeaseResource(NS, 'b', { type: 'content', id: A })),
      laminaError(Code.NotFound),
    );
  });

  test("types of resources are containerd's", (t) => {
    const store = newStore(t);
    store.write(BY, (tx) => tx.createLease(NS, { id: 'a' }));
    const add = (type: string, id: string) => () => store.write(BY, (tx) => tx.addLeaseResource(NS, 'a', { type, id }));
    for (const [type, id] of [
      ['content', A],
      ['ingests', 'r'],
      ['images', 'i'],
      ['snapshots/overlayfs', 's'],
    ]) {
      add(type ?? '', id ?? '')();
    }
    assert.equal(store.read((view) => view.leaseResources(NS, 'a')).length, 4);
    for (const type of ['snapshots', 'snapshots/', 'snapshots/a/b', 'content/x', 'images/x', 'ingests/x']) {
      assert.throws(add(type, A), laminaError(Code.InvalidArgument), type);
    }
    assert.throws(add('content', 'no digest'), laminaError(Code.InvalidArgument));
    assert.throws(add('tasks', 'x'), laminaError(Code.Unimplemented));
    assert.throws(add('', 'x'), laminaError(Code.Unimplemented));
  });

  test('what a lease names need not be there, and goes from it when it is deleted', (t) => {
    const store = newStore(t);
    store.write(BY, (tx) => {
      tx.createLease(NS, { id: 'a' });
      tx.addLeaseResource(NS, 'a', { type: 'content', id: A });
      tx.addBlob(NS, { digest: A, size: 1 });
    });
    assert.equal(store.read((view) => view.leaseResources(NS, 'a')).length, 1);
    store.write(BY, (tx) => tx.deleteBlob(NS, A));
    assert.equal(store.read((view) => view.leaseResources(NS, 'a')).length, 0);
  });
});

describe('snapshots', () => {
  test('a parent must be there and committed, and stays while it has children', (t) => {
    const store = newStore(t);
    const create = (parts: object) => () =>
      store.write(BY, (tx) => tx.createSnapshot(NS, { ...snapshot('x'), ...parts }));
    assert.throws(create({ parent: 'none' }), laminaError(Code.NotFound));
    create(snapshot('base'))();
    create({ ...snapshot('box', 'base'), kind: 'active' })();
    assert.throws(create({ parent: 'box' }), laminaError(Code.FailedPrecondition, /active/));
    assert.throws(create({ backend: 'box' }), laminaError(Code.AlreadyExists, /backend/));
    assert.throws(create({ backend: '../x' }), laminaError(Code.InvalidArgument));
    assert.throws(
      () => store.write(BY, (tx) => tx.deleteSnapshot(NS, 'overlayfs', 'base')),
      laminaError(Code.FailedPrecondition, /box/),
    );
  });

  test('a commit renames it, in its leases too', (t) => {
    const store = newStore(t);
    store.write(BY, (tx) => {
      tx.createSnapshot(NS, { ...snapshot('box'), kind: 'active' });
      tx.createLease(NS, { id: 'a' });
      tx.addLeaseResource(NS, 'a', { type: 'snapshots/overlayfs', id: 'box' });
      tx.commitSnapshot(NS, 'overlayfs', 'box', 'layer', { usage: { bytes: 5, inodes: 2 } });
    });
    store.read((view) => {
      assert.deepEqual(view.leaseResources(NS, 'a'), [{ type: 'snapshots/overlayfs', id: 'layer' }]);
      assert.equal(view.snapshot(NS, 'overlayfs', 'layer')?.kind, 'committed');
      assert.equal(view.snapshot(NS, 'overlayfs', 'layer')?.usage?.bytes, 5);
      assert.equal(view.snapshot(NS, 'overlayfs', 'box'), undefined);
    });
  });
});

describe('names', () => {
  const hostile = ['', '../x', '/etc', 'a/b', 'a\0b', '.', '..', '-a', 'a..b', 'x'.repeat(77), 'ä'];

  test('namespaces and ids of containers are identifiers', (t) => {
    const store = newStore(t);
    for (const name of hostile) {
      const change = (work: (tx: Transaction) => unknown) => () => store.write(BY, work);
      assert.throws(
        change((tx) => tx.createNamespace(name)),
        laminaError(Code.InvalidArgument),
        name,
      );
      assert.throws(
        change((tx) => tx.createLease(name)),
        laminaError(Code.InvalidArgument),
        name,
      );
      assert.throws(
        change((tx) => tx.createContainer(NS, { id: name })),
        laminaError(Code.InvalidArgument),
        name,
      );
    }
    assert.deepEqual(
      store.read((view) => view.namespaces()),
      [],
    );
  });

  test('digests are checked before they become paths', (t) => {
    const store = newStore(t);
    const bad = [
      '',
      'sha256:',
      `sha256:${'A'.repeat(64)}`,
      `md5:${'a'.repeat(32)}`,
      `sha256:../${'a'.repeat(61)}`,
      'x:y',
    ];
    for (const digest of bad) {
      assert.throws(
        () => store.write(BY, (tx) => tx.addBlob(NS, { digest, size: 1 })),
        laminaError(Code.InvalidArgument),
      );
      assert.throws(() => store.content.path(digest), laminaError(Code.InvalidArgument), digest);
    }
  });

  test('names of images and leases are any text', (t) => {
    const store = newStore(t);
    const names = ["o'brien", '"; DROP TABLE images; --', 'a\x1fb', '\u{1f600}', '{}', '../../x', '\x1f', '%s'];
    store.write(BY, (tx) => {
      for (const name of names) tx.putImage(NS, { name, target: target(A), labels: { [name]: name } });
    });
    assert.deepEqual(new Set(store.read((view) => view.images(NS).map(({ name }) => name))), new Set(names));
  });

  test('a label and its value have 4,096 bytes together', (t) => {
    const store = newStore(t);
    const set = (labels: Labels) => store.write(BY, (tx) => tx.createLease(NS, { labels }));
    set({ k: 'v'.repeat(4_095) });
    assert.throws(() => set({ k: 'v'.repeat(4_096) }), laminaError(Code.InvalidArgument));
  });
});

describe('labels', () => {
  test('they are replaced or patched, on all that has some', (t) => {
    const store = newStore(t);
    store.write(BY, (tx) => {
      tx.createContainer(NS, { id: 'c', spec: { a: 1 } });
      tx.createSandbox(NS, { id: 's' });
      for (const [kind, key] of [
        ['container', 'c'],
        ['sandbox', 's'],
        ['namespace', NS],
      ] as const) {
        const name = { kind, namespace: NS, key };
        tx.setLabels(name, { a: '1', b: '2' });
        tx.patchLabels(name, { a: '', c: '3' });
      }
    });
    store.read((view) => {
      assert.deepEqual(view.container(NS, 'c')?.labels, { b: '2', c: '3' });
      assert.deepEqual(view.container(NS, 'c')?.spec, { a: 1 });
      assert.deepEqual(view.sandbox(NS, 's')?.labels, { b: '2', c: '3' });
      assert.deepEqual(view.namespaceLabels(NS), { b: '2', c: '3' });
    });
  });
});

describe('namespaces', () => {
  test('one goes when it is empty, and says what is in it', (t) => {
    const store = newStore(t);
    const remove = (): void => store.write(BY, (tx) => tx.deleteNamespace(NS));
    assert.throws(remove, laminaError(Code.NotFound));
    store.write(BY, (tx) => tx.createLease(NS, { id: 'a' }));
    assert.throws(remove, laminaError(Code.FailedPrecondition, /leases/));
    store.write(BY, (tx) => tx.deleteLease(NS, 'a'));
    remove();
    assert.deepEqual(
      store.read((view) => view.namespaces()),
      [],
    );
  });

  test('the same names in two are two things', (t) => {
    const store = newStore(t);
    store.write(BY, (tx) => {
      for (const ns of ['one', 'two']) tx.putImage(ns, { name: 'i', target: target(ns === 'one' ? A : B) });
      tx.deleteImage('one', 'i');
    });
    assert.equal(
      store.read((view) => view.image('two', 'i')?.target.digest),
      B,
    );
  });
});

describe('metadata', () => {
  test('the collector gets all of it', (t) => {
    const store = newStore(t);
    const labels = { x: 'y' };
    store.write(BY, (tx) => {
      tx.createLease(NS, { id: 'l', labels });
      for (const [type, id] of [
        ['content', A],
        ['ingests', 'r'],
        ['images', 'i'],
        ['snapshots/overlayfs', 's'],
      ]) {
        tx.addLeaseResource(NS, 'l', { type: type ?? '', id: id ?? '' });
      }
      tx.addBlob(NS, { digest: A, size: 1, labels });
      tx.putImage(NS, { name: 'i', target: target(A), labels });
      tx.putIngest(NS, { ref: 'r', expected: B, expiresAt: 7 });
      tx.createSnapshot(NS, snapshot('p'));
      tx.createSnapshot(NS, { ...snapshot('s', 'p'), labels });
      tx.createContainer(NS, { id: 'c', labels, snapshotter: 'overlayfs', snapshotKey: 's' });
      tx.createSandbox(NS, { id: 'b', labels });
    });
    const [metadata] = store.read((view) => [...view.metadata()]);
    assert.deepEqual(metadata, {
      name: NS,
      leases: [
        { id: 'l', labels, content: [A], ingests: ['r'], images: ['i'], snapshots: ['overlayfs/s'], owner: undefined },
      ],
      images: [{ name: 'i', target: A, labels }],
      content: [{ digest: A, labels, bytes: 1 }],
      ingests: [{ ref: 'r', expected: B, expireAt: 7 }],
      snapshots: [
        { key: 'overlayfs/p', parent: undefined, labels: {}, bytes: 0 },
        { key: 'overlayfs/s', parent: 'overlayfs/p', labels, bytes: 0 },
      ],
      containers: [{ id: 'c', snapshot: 'overlayfs/s', labels }],
      sandboxes: [{ id: 'b', labels }],
    });
    assert.equal(scan(metadata === undefined ? [] : [metadata], { now: 0 }).candidates.length, 6);
  });

  test('none is left out where many are', (t) => {
    const store = newStore(t);
    const count = 12_345;
    store.write(BY, (tx) => {
      for (let i = 0; i < count; i += 1) tx.createLease(NS, { id: `l${i}` });
    });
    const [metadata] = store.read((view) => [...view.metadata()]);
    assert.equal(new Set(metadata?.leases.map(({ id }) => id)).size, count);
  });
});

describe('the journal', () => {
  test('every change has its line: who, when, what, why', (t) => {
    const store = newStore(t, { now: () => 1_000 });
    store.write({ command: 'make', rule: 'r', uid: 5, pid: 6 }, (tx) => tx.createLease(NS, { id: 'a' }));
    const before = store.read((view) => view.sequence());
    store.write(BY, (tx) => tx.deleteLease(NS, 'a', 'expired'));
    const [entry] = store.read((view) => view.journal({ after: before }));
    assert.deepEqual(entry, {
      sequence: 3,
      time: 1_000,
      uid: process.getuid?.(),
      pid: process.pid,
      command: 'test',
      rule: undefined,
      action: 'delete',
      kind: 'lease',
      namespace: NS,
      key: 'a',
      proof: 'expired',
    });
    const [, first] = store.read((view) => view.journal());
    assert.deepEqual([first?.uid, first?.pid, first?.command, first?.rule], [5, 6, 'make', 'r']);
  });

  test('it keeps the newest 100,000 entries', { timeout: 120_000 }, (t) => {
    const store = newStore(t);
    for (let round = 0; round < 11; round += 1) {
      store.write(BY, (tx) => {
        for (let i = 0; i < 10_000; i += 1) tx.createLease(NS, { id: `${round}-${i}` });
      });
    }
    const entries = store.read((view) => view.journal({ limit: 1_000_000 }));
    assert.equal(entries.length, 100_000);
    assert.equal(entries.at(-1)?.key, '10-9999');
    assert.equal(
      store.read((view) => view.sequence()),
      110_001,
    );
  });
});
