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
    // The store is not there yet: they make it at once, too.
    const output = runTogether(
      4,
      (name) => `
      import { Store } from '${MODULE}';
      using store = Store.open({ root: ${JSON.stringify(root)}, busyMs: 60_000 });
      for (let i = 0; i < 50; i += 1) store.write({ command: 'x' }, (tx) => tx.createLease('default', { id: '${name}-' + i }));`,
    );
    assert.equal(output, '');
    using store = Store.open({ root });
    assert.equal(store.read(ids).length, 200);
    assert.equal(
      store.read((view) => view.sequence()),
      201,
    );
  });
});

const MODULE = new URL('../../../src/store/index.js', import.meta.url).href;

/** Runs programs at the same time. @returns what they said of errors */
function runTogether(count: number, program: (name: string) => string): string {
  const names = Array.from({ length: count }, (_, i) => `P${i}`);
  const env = { ...process.env, ...Object.fromEntries(names.map((name) => [name, program(name)])) };
  const start = names.map((name) => `"$0" --input-type=module -e "$${name}" & ${name}_PID=$!`).join('\n');
  const wait = names.map((name) => `wait $${name}_PID || echo failed >&2`).join('\n');
  return spawnSync('sh', ['-c', `${start}\n${wait}`, process.execPath], { env, encoding: 'utf8' }).stderr;
}

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
    const program = `import { Store } from '${MODULE}'; Store.open({ root: ${JSON.stringify(root)} })[Symbol.dispose]();`;
    const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
      encoding: 'utf8',
    });
    assert.deepEqual([status, stdout, stderr], [0, '', '']);
  });
});
