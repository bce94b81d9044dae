import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { Store, type View } from '../../../src/store/index.js';
import { BY, laminaError, NS, newRoot, newStore } from './kit.js';

const ids = (view: View): string[] => view.leases(NS).map(({ id }) => id);

describe('a transaction', () => {
  test('that throws has changed nothing', (t) => {
    const store = newStore(t);
    store.write(BY, (tx) => tx.createLease(NS, { id: 'a' }));
    const sequence = store.read((view) => view.sequence());
    assert.throws(() =>
      store.write(BY, (tx) => {
        tx.createLease(NS, { id: 'b' });
        tx.deleteLease(NS, 'a');
        throw new Error('no');
      }),
    );
    assert.deepEqual(store.read(ids), ['a']);
    assert.equal(
      store.read((view) => view.sequence()),
      sequence,
    );
  });

  test('sees its own changes, and a read within it too', (t) => {
    const store = newStore(t);
    store.write(BY, (tx) => {
      tx.createLease(NS, { id: 'a' });
      assert.deepEqual(ids(tx), ['a']);
      assert.deepEqual(store.read(ids), ['a']);
    });
  });

  test('cannot be within another, nor asynchronous, nor used when it is over', (t) => {
    const store = newStore(t);
    const nested = (): void => store.write(BY, () => store.write(BY, () => undefined));
    assert.throws(nested, laminaError(Code.FailedPrecondition));
    const late = (): unknown => store.write(BY, async (tx) => tx.createLease(NS, { id: 'x' }));
    assert.throws(late, laminaError(Code.InvalidArgument));
    assert.deepEqual(store.read(ids), []);
    const view = store.read((open) => open);
    assert.throws(() => view.leases(NS), laminaError(Code.FailedPrecondition));
  });

  test('a view does not see what others commit meanwhile', (t) => {
    const root = newRoot(t);
    using one = Store.open({ root });
    using two = Store.open({ root });
    one.write(BY, (tx) => tx.createLease(NS, { id: 'a' }));
    two.read((view) => {
      assert.deepEqual(ids(view), ['a']);
      one.write(BY, (tx) => tx.createLease(NS, { id: 'b' }));
      assert.deepEqual(ids(view), ['a']);
    });
    assert.deepEqual(two.read(ids), ['a', 'b']);
  });

  test('that waits too long for another writer says so, with the file; readers never wait', (t) => {
    const root = newRoot(t);
    using one = Store.open({ root });
    using two = Store.open({ root, busyMs: 20 });
    one.write(BY, (tx) => {
      tx.createLease(NS, { id: 'a' });
      const wait = (): unknown => two.write(BY, (other) => other.createLease(NS, { id: 'b' }));
      assert.throws(wait, laminaError(Code.Unavailable, /metadata\.db: another process is writing to it: try again/));
      assert.deepEqual(two.read(ids), []);
    });
    two.write(BY, (tx) => tx.createLease(NS, { id: 'b' }));
    assert.deepEqual(two.read(ids), ['a', 'b']);
  });

  test('several processes write at once, and none of their changes is lost', { timeout: 120_000 }, (t) => {
    const root = newRoot(t);
    using store = Store.open({ root });
    const module = new URL('../../../src/store/index.js', import.meta.url).href;
    const program = (name: string): string => `
      import { Store } from '${module}';
      using store = Store.open({ root: ${JSON.stringify(root)}, busyMs: 60_000 });
      for (let i = 0; i < 50; i += 1) store.write({ command: 'x' }, (tx) => tx.createLease('default', { id: '${name}' + i }));`;
    const all = ['a', 'b', 'c'].map((name) => program(name));
    const shell = all.map((_, i) => `"$0" --input-type=module -e "$P${i}" & p${i}=$!`).join('\n');
    const env = { ...process.env, ...Object.fromEntries(all.map((text, i) => [`P${i}`, text])) };
    const script = `${shell}\nfor p in $p0 $p1 $p2; do wait $p || exit 1; done`;
    const { status, stderr } = spawnSync('sh', ['-c', script, process.execPath], { env, encoding: 'utf8' });
    assert.equal(status, 0, stderr);
    assert.equal(store.read(ids).length, 150);
    assert.equal(
      store.read((view) => view.sequence()),
      151,
    );
  });
});

describe('a store', () => {
  test('that is closed cannot be used', (t) => {
    const store = newStore(t);
    store[Symbol.dispose]();
    assert.throws(() => store.read(ids), laminaError(Code.FailedPrecondition));
    store[Symbol.dispose]();
  });

  test('opened for reading changes nothing and needs one that is there', (t) => {
    const root = newRoot(t);
    assert.throws(() => Store.open({ root, readOnly: true }), laminaError(Code.NotFound));
    using store = Store.open({ root });
    store.write(BY, (tx) => tx.createLease(NS, { id: 'a' }));
    using reader = Store.open({ root, readOnly: true });
    assert.deepEqual(reader.read(ids), ['a']);
    assert.throws(() => reader.write(BY, (tx) => tx.deleteLease(NS, 'a')), laminaError(Code.FailedPrecondition));
  });

  test('nothing is written on stderr when one is opened', (t) => {
    const root = newRoot(t);
    const module = new URL('../../../src/store/index.js', import.meta.url).href;
    const program = `import { Store } from '${module}'; Store.open({ root: ${JSON.stringify(root)} })[Symbol.dispose]();`;
    const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
      encoding: 'utf8',
    });
    assert.deepEqual([status, stdout, stderr], [0, '', '']);
  });
});
