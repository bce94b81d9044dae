import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { Code, LaminaError } from '../../../src/base/index.js';
import { fsck, Store } from '../../../src/store/index.js';
import { checkVersion, MIGRATIONS, migrate } from '../../../src/store/schema.js';
import { Database } from '../../../src/store/sqlite.js';
import { stateOf } from '../../lib/store/state.js';
import { BY, digestOf, ingest, laminaError, NS, newRoot, newStore, pretendCrash } from './kit.js';

const metadata = (root: string): string => join(root, 'metadata.db');

/** A store with a bit of everything, closed. @returns its root */
async function filled(t: TestContext): Promise<string> {
  const root = newRoot(t);
  using store = Store.open({ root });
  store.write(BY, (tx) => tx.createLease(NS, { id: 'l' }));
  const config = await ingest(store, '{}', { lease: 'l' });
  const layer = await ingest(store, 'layer');
  const manifest = JSON.stringify({ config: { digest: config }, layers: [{ digest: layer }] });
  const digest = await ingest(store, manifest);
  const folder = join(root, 'snapshots/overlayfs/1');
  mkdirSync(folder, { recursive: true });
  store.write(BY, (tx) => {
    tx.putImage(NS, { name: 'image', target: { mediaType: 'm', digest, size: manifest.length } });
    tx.createSnapshot(NS, { snapshotter: 'overlayfs', name: 's', kind: 'committed', backend: '1', labels: { a: 'b' } });
    tx.createContainer(NS, { id: 'c', snapshotter: 'overlayfs', snapshotKey: 's', spec: { text: 'x'.repeat(6_000) } });
    for (let i = 0; i < 200; i += 1) tx.createLease(NS, { id: `many-${i}`, labels: { i: String(i) } });
  });
  return root;
}

function flip(file: string, at: number, bit: number): void {
  const byte = Buffer.alloc(1);
  const descriptor = openSync(file, 'r+');
  readSync(descriptor, byte, 0, 1, at);
  writeSync(descriptor, Buffer.of((byte[0] ?? 0) ^ (1 << bit)), 0, 1, at);
  closeSync(descriptor);
}

/** A sequence that is the same each time. */
function* numbers(seed: number): Generator<number, never> {
  for (let state = seed; ; ) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    yield state;
  }
}

describe('damaged metadata', () => {
  test('a flipped bit is never taken for data', { timeout: 300_000 }, async (t) => {
    const root = await filled(t);
    const state = ((): string => {
      using store = Store.open({ root, readOnly: true });
      return stateOf(store);
    })();
    const sound = join(root, '../sound');
    cpSync(root, sound, { recursive: true });
    rmSync(join(sound, 'metadata.backup.db'));
    const { size } = statSync(metadata(root));
    const random = numbers(7);
    let noticed = 0;
    for (let round = 0; round < 60; round += 1) {
      rmSync(root, { recursive: true });
      cpSync(sound, root, { recursive: true });
      chmodSync(root, 0o700);
      flip(metadata(root), random.next().value % size, random.next().value % 8);
      try {
        using store = Store.open({ root });
        // As a collection does: it must not miss a row.
        const count = store.read((view) => [...view.metadata()].length);
        assert.equal(count, 1);
        assert.equal(stateOf(store), state, `round ${round}`);
      } catch (error) {
        if (!(error instanceof LaminaError)) throw error;
        assert.ok(
          [Code.DataLoss, Code.FailedPrecondition].some((code) => code === error.code),
          error.message,
        );
        assert.match(error.message, /metadata\.db: .*(lamina store fsck|use )/);
        noticed += 1;
      }
      await fsck({ root, repair: true });
      assert.deepEqual((await fsck({ root })).findings, [], `round ${round}`);
      using store = Store.open({ root });
      for (const namespace of store.read((view) => view.namespaces())) store.read((view) => view.blobs(namespace));
    }
    assert.ok(noticed > 0, 'no flip has hit anything');
  });

  test('a log cut anywhere gives a state that was committed', async (t) => {
    const root = newRoot(t);
    const copy = join(root, '../copy');
    const states = new Set<string>();
    const store = newStore(t, { root });
    states.add(stateOf(store));
    for (let i = 0; i < 6; i += 1) {
      store.write(BY, (tx) => tx.createLease(NS, { id: `l${i}` }));
      states.add(stateOf(store));
    }
    const { size } = statSync(`${metadata(root)}-wal`);
    const random = numbers(3);
    for (let round = 0; round < 40; round += 1) {
      rmSync(copy, { recursive: true, force: true });
      mkdirSync(copy, { mode: 0o700 });
      for (const suffix of ['', '-wal']) copyFileSync(`${metadata(root)}${suffix}`, `${metadata(copy)}${suffix}`);
      const at = random.next().value % size;
      if (round % 2 === 0) truncateSync(`${metadata(copy)}-wal`, at);
      else flip(`${metadata(copy)}-wal`, at, round % 8);
      using damaged = Store.open({ root: copy });
      assert.ok(states.has(stateOf(damaged)), `round ${round}: cut at ${at}`);
    }
  });

  test('a database cut short, emptied or gone is refused, not begun anew', async (t) => {
    const root = await filled(t);
    for (const damage of [
      () => truncateSync(metadata(root), 9_000),
      () => truncateSync(metadata(root), 0),
      () => rmSync(metadata(root)),
    ]) {
      damage();
      assert.throws(
        () => {
          using store = Store.open({ root });
          return stateOf(store);
        },
        laminaError(Code.DataLoss, /metadata\.db: .*run "lamina store fsck --repair"/),
      );
    }
  });

  test('after a crash the whole of it is checked', async (t) => {
    const root = await filled(t);
    {
      using database = new Database(metadata(root), { busyMs: 0, readOnly: false });
      database.run("UPDATE leases SET labels = replace(labels, '1', '2') WHERE id = 'many-1'");
    }
    Store.open({ root })[Symbol.dispose]();
    pretendCrash(root);
    assert.throws(() => Store.open({ root }), laminaError(Code.DataLoss, /leases: "default" "many-1"/));
    const { findings, rebuilt } = await fsck({ root, repair: true });
    assert.match(findings[0]?.problem ?? '', /many-1/);
    assert.equal(findings[0]?.isRepaired, true);
    assert.equal(rebuilt?.fromBackup, 1);
    using store = Store.open({ root });
    assert.deepEqual(
      store.read((view) => view.lease(NS, 'many-1')?.labels),
      { i: '1' },
    );
    assert.equal(store.read((view) => view.leases(NS)).length, 201);
  });
});

describe('rebuilding', () => {
  test('brings content and snapshots back when all metadata is lost', async (t) => {
    const root = await filled(t);
    for (const name of ['metadata.db', 'metadata.backup.db']) rmSync(join(root, name));
    const orphan = join(root, 'blobs/sha256', 'f'.repeat(64));
    writeFileSync(orphan, 'not this digest');
    const { rebuilt, findings } = await fsck({ root, repair: true });
    assert.deepEqual([rebuilt?.adopted, rebuilt?.snapshots, rebuilt?.kept], [3, 1, 0]);
    assert.ok(rebuilt?.losses.some((line) => line.startsWith(orphan)));
    assert.ok(findings.every(({ isRepaired }) => isRepaired));
    assert.ok(!existsSync(orphan));
    using store = Store.open({ root });
    store.read((view) => {
      const blobs = view.blobs('recovered');
      const manifest = blobs.find(({ labels }) => Object.keys(labels).length > 0);
      assert.deepEqual(manifest?.labels, {
        'containerd.io/gc.ref.content.config': digestOf('{}'),
        'containerd.io/gc.ref.content.l.0': digestOf('layer'),
      });
      assert.equal(view.leaseResources('recovered', 'recovered').length, 3);
      assert.equal(view.snapshot(NS, 'overlayfs', 's')?.labels['a'], 'b');
      assert.equal(view.journal().at(-1)?.proof, 'metadata rebuilt');
    });
    for (const { digest } of store.read((view) => view.blobs('recovered')))
      await store.content.verify('recovered', digest);
  });

  test('with the last copy, all is as it was', async (t) => {
    const root = await filled(t);
    const state = ((): string => {
      using store = Store.open({ root });
      return stateOf(store);
    })();
    writeFileSync(metadata(root), 'no database');
    const { rebuilt } = await fsck({ root, repair: true });
    assert.ok(existsSync(rebuilt?.damaged ?? ''));
    using store = Store.open({ root });
    assert.equal(stateOf(store), state);
  });

  test('of a sound store loses nothing, the journal included', async (t) => {
    const root = await filled(t);
    const read = (): unknown[] => {
      using store = Store.open({ root });
      return store.read((view) => [stateOf(store), view.journal().length]);
    };
    const [state, length] = read();
    await fsck({ root, repair: true, rebuild: true });
    assert.deepEqual(read(), [state, Number(length) + 1]);
  });

  test('needs the store for itself', async (t) => {
    const root = await filled(t);
    const module = new URL('../../../src/store/index.js', import.meta.url).href;
    using store = Store.open({ root });
    store.write(BY, (tx) => tx.createLease(NS));
    const program = `import { fsck } from '${module}';
      try { await fsck({ root: ${JSON.stringify(root)}, repair: true, rebuild: true }); console.log('done'); }
      catch (error) { console.log(error.code, error.message); }`;
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
      encoding: 'utf8',
    });
    assert.match(stdout, new RegExp(`^${Code.Unavailable} .*process ${process.pid} has it open`), stderr);
  });
});

describe('a check', () => {
  test('without repair changes nothing', async (t) => {
    const root = await filled(t);
    const stray = join(root, 'blobs/sha256', digestOf('stray').slice(7));
    writeFileSync(stray, 'stray');
    const before = readFileSync(metadata(root));
    const { findings, isSound } = await fsck({ root });
    assert.equal(isSound, false);
    assert.deepEqual(
      findings.map(({ subject, problem }) => [subject, problem]),
      [[stray, 'no record']],
    );
    assert.ok(before.equals(readFileSync(metadata(root))));
    assert.equal((await fsck({ root, repair: true })).isSound, true);
    using store = Store.open({ root });
    assert.equal(
      store.read((view) => view.blob('recovered', digestOf('stray'))?.size),
      5,
    );
  });

  test('of a root without a store finds nothing wrong with it', async (t) => {
    await assert.rejects(fsck({ root: newRoot(t) }), laminaError(Code.NotFound));
  });
});

describe('a copy', () => {
  test('is made while others write, never over another file, and can take the place of the store', async (t) => {
    const root = await filled(t);
    const file = join(root, '../copy.db');
    using store = Store.open({ root });
    const state = stateOf(store);
    store.backup(file);
    assert.throws(() => store.backup(file), laminaError(Code.AlreadyExists));
    store.write(BY, (tx) => tx.createLease(NS, { id: 'later' }));
    store[Symbol.dispose]();
    copyFileSync(file, metadata(root));
    using again = Store.open({ root });
    assert.equal(stateOf(again), state);
  });

  test('is kept beside the store, an hour old at most when a writer has closed it', async (t) => {
    const root = await filled(t);
    using copy = new Database(join(root, 'metadata.backup.db'), { busyMs: 0, readOnly: true });
    assert.equal(copy.number('SELECT count(*) FROM leases'), 201);
  });
});

describe('the schema', () => {
  test('a newer one is refused, with what to do', async (t) => {
    const root = await filled(t);
    {
      using database = new Database(metadata(root), { busyMs: 0, readOnly: false });
      database.exec('PRAGMA user_version = 99');
    }
    const before = readFileSync(metadata(root));
    for (const readOnly of [true, false]) {
      assert.throws(
        () => Store.open({ root, readOnly }),
        laminaError(Code.FailedPrecondition, /schema 99.*newer Lamina/),
      );
    }
    assert.ok(before.equals(readFileSync(metadata(root))));
  });

  test("another program's database is refused", (t) => {
    const root = newRoot(t);
    mkdirSync(root, { mode: 0o700 });
    {
      using database = new Database(metadata(root), { busyMs: 0, readOnly: false });
      database.exec('CREATE TABLE theirs (a)');
    }
    assert.throws(() => Store.open({ root }), laminaError(Code.FailedPrecondition, /another program/));
  });

  test('a migration is done once, whole or not at all', (t) => {
    using database = new Database(join(newStore(t).root, 'other.db'), { busyMs: 0, readOnly: false });
    const next = 'CREATE TABLE more (a INTEGER) STRICT; INSERT INTO more VALUES (1);';
    migrate(database);
    assert.equal(checkVersion(database), MIGRATIONS.length);
    assert.throws(() => migrate(database, [...MIGRATIONS, `${next} BROKEN`]));
    assert.equal(checkVersion(database, [...MIGRATIONS, next]), MIGRATIONS.length);
    migrate(database, [...MIGRATIONS, next]);
    migrate(database, [...MIGRATIONS, next]);
    assert.equal(database.number('SELECT count(*) FROM more'), 1);
    assert.throws(() => migrate(database), laminaError(Code.FailedPrecondition));
  });
});

describe('the root', () => {
  test('is made for its owner alone, and refused when others can use it', (t) => {
    const store = newStore(t);
    assert.equal(statSync(store.root).mode & 0o777, 0o700);
    chmodSync(store.root, 0o755);
    assert.throws(() => Store.open({ root: store.root }), laminaError(Code.PermissionDenied, /chmod 0700/));
  });

  test('comes from LAMINA_ROOT', (t) => {
    const root = newRoot(t);
    const { LAMINA_ROOT: before } = process.env;
    process.env['LAMINA_ROOT'] = root;
    t.after(() => {
      if (before === undefined) delete process.env['LAMINA_ROOT'];
      else process.env['LAMINA_ROOT'] = before;
    });
    using store = Store.open();
    assert.equal(store.root, root);
  });
});
