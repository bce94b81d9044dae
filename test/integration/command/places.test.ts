/**
 * A store where one cannot be, may not be looked at, or is broken: what is said, and that nothing
 * is harmed.
 */
import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { runCommand } from '../../lib/command.js';
import { LAMINA, OwnStore } from '../../lib/own-store.js';
import { SmallDisk } from '../../lib/small-disk.js';

const NOBODY = 65534;
const AS_NOBODY = ['setpriv', '--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups'];
const ROOT = 'containerd.io/gc.root=yes';

let store: OwnStore;
beforeEach(() => {
  store = new OwnStore();
});
afterEach(() => store[Symbol.dispose]());

describe('a store that is not there', () => {
  it('is made by what writes, and named by what reads', async () => {
    for (const args of [
      ['lease', 'ls'],
      ['content', 'ls'],
      ['df'],
      ['gc', 'journal'],
      ['gc', 'why', 'ab'],
      ['gc', 'undo'],
    ]) {
      await store.fails(args, 1, new RegExp(`^lamina: ${store.root}.*: there is no store`));
    }
    await store.must(['gc', 'run']);
    assert.equal(await store.must(['lease', 'ls']), '');
  });

  it('cannot be a file, nor lie below one', async () => {
    writeFileSync(join(store.dir, 'file'), '');
    for (const root of ['file', 'file/below']) {
      const path = join(store.dir, root);
      await store.fails(['lease', 'create', '--root', path], 1, new RegExp(`^lamina: ${store.dir}/file.*\n$`));
    }
    await store.fails(['lease', 'create', '--root', ''], 2, /--root is empty/);
  });
});

describe('another user', () => {
  it('may have a store, and may not look at that of root', async () => {
    await store.must(['lease', 'create']);
    chmodSync(store.dir, 0o755);
    const asNobody = async (root: string, ...args: string[]): ReturnType<typeof runCommand> =>
      await runCommand([...AS_NOBODY, LAMINA, ...args, '--root', root], { cwd: '/' });
    for (const args of [['lease', 'ls'], ['df'], ['gc', 'run'], ['store', 'fsck']]) {
      const { code, stdout, stderr } = await asNobody(store.root, ...args);
      assert.equal(code, 1, args.join(' '));
      assert.equal(stdout, '');
      assert.ok(stderr.includes(store.root), stderr);
      assert.match(stderr, /^lamina: .*(uid|permission|denied|user)/i);
    }
    const own = join(store.dir, 'own');
    mkdirSync(own, { mode: 0o700 });
    chownSync(own, NOBODY, NOBODY);
    const made = await asNobody(own, 'lease', 'create', '--id', 'mine');
    assert.deepEqual(made, { code: 0, stdout: 'mine\n', stderr: '' });
    await store.fails(
      ['lease', 'create', '--root', own],
      1,
      new RegExp(`^lamina: ${own}.*(uid|belongs|owner|user)`, 'i'),
    );
  });

  it('may not change the root of a store that is used', async () => {
    mkdirSync(store.root);
    chmodSync(store.root, 0o777);
    await store.fails(['lease', 'create'], 1, new RegExp(`^lamina: ${store.root}.*(mode|0777|chmod|others)`));
  });
});

describe('a full disk', () => {
  it('ends an ingest with what is full, and the store goes on when there is room', async () => {
    const disk = await SmallDisk.mount(join(store.dir, 'disk'));
    try {
      const root = join(disk.dir, 'root');
      const on = ['--root', root];
      const kept = await store.ingest('kept', '--label', ROOT, ...on);
      const big = { stdin: Buffer.alloc(40 << 20, 'x') };
      await store.fails(
        ['content', 'ingest', '--ref', 'big', ...on],
        1,
        new RegExp(`^lamina: .*${disk.dir}.*space`),
        big,
      );
      disk.fill();
      const full = await store.run(['lease', 'create', ...on]);
      assert.equal(full.code, 1, full.stdout);
      assert.match(full.stderr, new RegExp(`^lamina: .*${disk.dir}.*`));
      disk.free();
      assert.match(await store.must(['lease', 'create', '--id', 'late', ...on]), /^late\n$/);
      assert.equal(await store.must(['content', 'get', kept, ...on]), 'kept');
      assert.match(await store.must(['store', 'fsck', '--digests', '--repair', ...on]), /: sound\n$/);
    } finally {
      await disk.unmount();
    }
  });
});

describe('a broken database', () => {
  const breaks: readonly (readonly [how: string, harm: (file: string) => void])[] = [
    ['is something else', (file) => writeFileSync(file, 'not a database, and longer than a page of one'.repeat(200))],
    ['is cut off', (file) => truncateSync(file, 5_000)],
    ['has a page of zeros', (file) => writeFileSync(file, Buffer.from(readFileSync(file)).fill(0, 4_096, 8_192))],
  ];
  for (const [how, harm] of breaks) {
    it(`that ${how} is named with what to do, and mended without losing content`, async () => {
      const digest = await store.ingest('layer', '--label', ROOT);
      harm(join(store.root, 'metadata.db'));
      const asked = await store.run(['content', 'ls', '-q']);
      if (asked.code !== 0) {
        assert.match(asked.stderr, new RegExp(`^lamina: .*${store.root}/metadata\\.db.*fsck`));
        assert.doesNotMatch(asked.stderr, /\n {4}at /);
      }
      const looked = await store.run(['store', 'fsck', '--json']);
      assert.equal(looked.code, 1, looked.stdout + looked.stderr);
      assert.equal((JSON.parse(looked.stdout) as { isSound: boolean }).isSound, false);
      const mended = await store.run(['store', 'fsck', '--repair']);
      assert.equal(mended.code, 0, mended.stdout + mended.stderr);
      assert.match(mended.stdout, /: sound\n$/);
      const namespaces = ['default', 'recovered'];
      const found = await Promise.all(
        namespaces.map(async (name) => await store.run(['content', 'get', digest, '-n', name])),
      );
      assert.ok(
        found.some(({ stdout }) => stdout === 'layer'),
        JSON.stringify(found),
      );
    });
  }
});
