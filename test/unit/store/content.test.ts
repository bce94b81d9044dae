import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { type IngestWriter, Store } from '../../../src/store/index.js';
import { BY, digestOf, ingest, laminaError, NS, newRoot, newStore, readAll } from './kit.js';

const TEXT = 'some text';
const DIGEST = digestOf(TEXT);

async function begin(store: Store, options: object = {}): Promise<IngestWriter> {
  return await store.content.ingest({ namespace: NS, ref: 'ref', by: BY, ...options });
}

const write = (writer: IngestWriter, text: string): Promise<void> => writer.write(Buffer.from(text));

describe('an ingest', () => {
  test('becomes a blob under its digest, that can be read whole or in part', async (t) => {
    const store = newStore(t);
    const writer = await begin(store);
    // Not waited for: they are done one after the other.
    await Promise.all([...TEXT].map((letter) => write(writer, letter)));
    assert.equal(await writer.commit({ size: TEXT.length, digest: DIGEST, labels: { a: 'b' } }), DIGEST);
    const blob = store.read((view) => view.blob(NS, DIGEST));
    assert.deepEqual([blob?.size, blob?.labels], [TEXT.length, { a: 'b' }]);
    assert.equal(await readAll(store.content.read(NS, DIGEST)), TEXT);
    assert.equal(await readAll(store.content.read(NS, DIGEST, { offset: 5 })), 'text');
    assert.equal(await readAll(store.content.read(NS, DIGEST, { offset: 5, length: 2 })), 'te');
    assert.equal(await readAll(store.content.read(NS, DIGEST, { offset: TEXT.length })), '');
    assert.throws(() => store.content.read(NS, DIGEST, { offset: 10 }), laminaError(Code.OutOfRange));
    assert.deepEqual(
      store.read((view) => view.ingests(NS)),
      [],
    );
    assert.deepEqual(readdirSync(join(store.root, 'ingest')), []);
    assert.equal(statSync(store.content.path(DIGEST)).mode & 0o777, 0o400);
  });

  test('of nothing is a blob too', async (t) => {
    const store = newStore(t);
    const digest = await (await begin(store)).commit();
    assert.equal(digest, digestOf(''));
    assert.equal(await readAll(store.content.read(NS, digest)), '');
    await store.content.verify(NS, digest);
  });

  test('can have another algorithm', async (t) => {
    const store = newStore(t);
    const expected = `sha512:${'0'.repeat(128)}`;
    await using writer = await begin(store, { expected });
    await write(writer, TEXT);
    await assert.rejects(writer.commit(), laminaError(Code.FailedPrecondition, /its digest is sha512:/));
  });

  test('with another digest, size or total is refused, and can be gone on with', async (t) => {
    const store = newStore(t);
    const first = await begin(store, { total: TEXT.length });
    await write(first, 'some');
    await assert.rejects(first.commit(), laminaError(Code.FailedPrecondition, /has 4 bytes, not 9/));
    await assert.rejects(first.commit({ size: 3 }), laminaError(Code.FailedPrecondition, /has 4 bytes, not 3/));
    await first.close();
    assert.equal(store.content.status(NS, 'ref')?.offset, 4);
    await assert.rejects(begin(store, { total: 5 }), laminaError(Code.FailedPrecondition, /total is 5, was 9/));
    await using second = await begin(store);
    assert.equal(second.offset, 4);
    await write(second, ' text');
    const other = digestOf('other');
    await assert.rejects(second.commit({ digest: other }), laminaError(Code.FailedPrecondition, /its digest is/));
    assert.equal(await second.commit(), DIGEST);
    await assert.rejects(write(second, 'x'), laminaError(Code.FailedPrecondition, /has ended/));
    await assert.rejects(second.commit(), laminaError(Code.FailedPrecondition, /has ended/));
  });

  test('is gone on with by another process after the first was killed', async (t) => {
    const root = newRoot(t);
    {
      using store = Store.open({ root });
      const writer = await begin(store);
      await write(writer, 'some');
      await writer.close();
      // As a process that is gone would leave it.
      const owner = { pid: 1, startTime: 1, bootId: 'another' };
      store.write(BY, (tx) => tx.putIngest(NS, { ref: 'ref', owner }));
    }
    const module = new URL('../../../src/store/index.js', import.meta.url).href;
    const program = `
      import { Store } from '${module}';
      using store = Store.open({ root: ${JSON.stringify(root)} });
      const writer = await store.content.ingest({ namespace: 'default', ref: 'ref' });
      await writer.write(Buffer.from(' text'));
      console.log(await writer.commit());`;
    const { spawnSync } = await import('node:child_process');
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
      encoding: 'utf8',
    });
    assert.equal(stdout.trim(), DIGEST, stderr);
  });

  test('has one writer at a time', async (t) => {
    const root = newRoot(t);
    using one = Store.open({ root });
    using two = Store.open({ root });
    await using writer = await begin(one);
    await assert.rejects(begin(one), laminaError(Code.Unavailable, /ref ref: locked/));
    await assert.rejects(begin(two), laminaError(Code.Unavailable, /by process/));
    await begin(two, { namespace: 'other' }).then((other) => other.abort());
    await writer.close();
    await (await begin(two)).abort();
  });

  test('leaves nothing when it is aborted, and the next begins at the start', async (t) => {
    const store = newStore(t);
    const writer = await begin(store);
    await write(writer, 'wrong');
    await writer.abort();
    await store.reclaim();
    assert.equal(store.content.status(NS, 'ref'), undefined);
    assert.deepEqual(readdirSync(join(store.root, 'ingest')), []);
    const next = await begin(store);
    assert.equal(next.offset, 0);
    await next.close();
    store.content.abort(NS, 'ref', BY);
    assert.throws(() => store.content.abort(NS, 'ref', BY), laminaError(Code.NotFound));
  });

  test('that was deleted meanwhile leaves no file behind', async (t) => {
    const store = newStore(t);
    const writer = await begin(store);
    await write(writer, TEXT);
    store.content.abort(NS, 'ref', BY);
    await assert.rejects(writer.commit(), laminaError(Code.NotFound, /ingest ref/));
    assert.ok(!existsSync(store.content.path(DIGEST)));
    const { fsck } = await import('../../../src/store/index.js');
    assert.deepEqual((await fsck({ root: store.root })).findings, []);
  });

  test('refs are only names: none leads out of the directory', async (t) => {
    const store = newStore(t);
    for (const ref of ['../../escape', '/etc/passwd', 'a\nb', '.']) {
      const writer = await begin(store, { ref });
      await write(writer, ref);
      await writer.commit();
    }
    await assert.rejects(begin(store, { ref: '' }), laminaError(Code.InvalidArgument));
    await assert.rejects(begin(store, { ref: 'a\0' }), laminaError(Code.InvalidArgument));
    assert.deepEqual(
      readdirSync(store.root)
        .filter((name) => !name.startsWith('metadata'))
        .sort(),
      ['blobs', 'ingest', 'snapshots', 'trash'],
    );
  });

  test('without a lease it expires after a day; with one the lease keeps it, then its blob', async (t) => {
    const store = newStore(t, { now: () => 1_000 });
    const expiry = (): number | undefined => store.read((view) => view.ingest(NS, 'ref')?.expiresAt);
    await (await begin(store)).close();
    assert.equal(expiry(), 1_000 + 24 * 60 * 60 * 1_000);
    await assert.rejects(begin(store, { lease: 'l' }), laminaError(Code.NotFound, /lease l/));
    store.write(BY, (tx) => tx.createLease(NS, { id: 'l' }));
    const writer = await begin(store, { lease: 'l' });
    assert.equal(expiry(), undefined);
    const resources = (): unknown => store.read((view) => view.leaseResources(NS, 'l'));
    assert.deepEqual(resources(), [{ type: 'ingests', id: 'ref' }]);
    await write(writer, TEXT);
    await writer.commit();
    assert.deepEqual(resources(), [{ type: 'content', id: DIGEST }]);
  });
});

describe('a blob that is there', () => {
  test('is never written again: it comes into the lease instead', async (t) => {
    const store = newStore(t);
    await ingest(store, TEXT);
    const { ino, mtimeMs } = statSync(store.content.path(DIGEST));
    store.write(BY, (tx) => tx.createLease(NS, { id: 'l' }));
    const isThere = laminaError(Code.AlreadyExists);
    await assert.rejects(begin(store, { expected: DIGEST, lease: 'l' }), isThere);
    assert.equal(
      store.read((view) => view.leaseResources(NS, 'l').length),
      1,
    );
    const writer = await begin(store, { lease: 'l' });
    await write(writer, TEXT);
    await assert.rejects(writer.commit(), isThere);
    assert.deepEqual(
      store.read((view) => view.ingests(NS)),
      [],
    );
    const after = statSync(store.content.path(DIGEST));
    assert.deepEqual([after.ino, after.mtimeMs], [ino, mtimeMs]);
  });

  test('in another namespace needs no bytes, and each namespace sees its own', async (t) => {
    const store = newStore(t);
    await ingest(store, TEXT);
    assert.throws(() => store.content.read('other', DIGEST), laminaError(Code.NotFound));
    const writer = await begin(store, { namespace: 'other', expected: DIGEST });
    assert.equal(writer.offset, TEXT.length);
    await assert.rejects(write(writer, 'x'), laminaError(Code.FailedPrecondition));
    assert.equal(await writer.commit({ size: TEXT.length }), DIGEST);
    assert.equal(await readAll(store.content.read('other', DIGEST)), TEXT);
    store.write(BY, (tx) => tx.deleteBlob(NS, DIGEST));
    assert.equal(await readAll(store.content.read('other', DIGEST)), TEXT);
    store.write(BY, (tx) => tx.deleteBlob('other', DIGEST));
    assert.equal(existsSync(store.content.path(DIGEST)), false);
  });

  test('of another namespace stays while an ingest waits for it', async (t) => {
    const store = newStore(t);
    await ingest(store, TEXT);
    await using writer = await begin(store, { namespace: 'other', expected: DIGEST });
    store.write(BY, (tx) => tx.deleteBlob(NS, DIGEST));
    assert.equal(await writer.commit(), DIGEST);
    assert.equal(await readAll(store.content.read('other', DIGEST)), TEXT);
  });

  test('in the trash is taken out of it again by who brings it anew', async (t) => {
    const store = newStore(t);
    await ingest(store, TEXT);
    const id = store.write(BY, (tx) => tx.toTrash({ kind: 'content', namespace: NS, key: DIGEST }, 'x'));
    await ingest(store, TEXT);
    store.write(BY, (tx) => tx.dropTrash(id));
    await store.reclaim();
    assert.equal(await readAll(store.content.read(NS, DIGEST)), TEXT);
  });

  test('a file that a crash left under its name is not believed', async (t) => {
    const store = newStore(t);
    await ingest(store, 'another');
    writeFileSync(store.content.path(DIGEST), 'half');
    await ingest(store, TEXT);
    assert.equal(readFileSync(store.content.path(DIGEST), 'utf8'), TEXT);
  });
});

describe('a damaged file', () => {
  test('says which it is and what to do, and is mended by bringing it anew', async (t) => {
    const store = newStore(t);
    await ingest(store, TEXT);
    const path = store.content.path(DIGEST);
    const lost = laminaError(Code.DataLoss, new RegExp(`^${path}: .*ingest it again`));
    truncateSync(path, 3);
    assert.throws(() => store.content.read(NS, DIGEST), lost);
    writeFileSync(path, 'SOME TEXT');
    await assert.rejects(store.content.verify(NS, DIGEST), lost);
    const { fsck } = await import('../../../src/store/index.js');
    const { findings, isSound } = await fsck({ root: store.root, repair: true, verify: true });
    assert.equal(isSound, false);
    assert.match(findings[0]?.remedy ?? '', /ingest it again.*damaged/);
    assert.throws(() => store.content.read(NS, DIGEST), lost);
    const writer = await begin(store, { expected: DIGEST });
    await write(writer, TEXT);
    await assert.rejects(writer.commit(), laminaError(Code.AlreadyExists));
    assert.equal(await readAll(store.content.read(NS, DIGEST)), TEXT);
    assert.equal((await fsck({ root: store.root, verify: true })).isSound, true);
  });
});
