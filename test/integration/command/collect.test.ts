/** `lamina gc`, `lease`, `content`, `df` over a store, as their users type them. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { OwnStore } from '../../lib/own-store.js';

const ROOT = 'containerd.io/gc.root=yes';

interface Item {
  readonly type: string;
  readonly key: string;
  readonly unique: number;
  readonly reason: string;
}
interface Plan {
  readonly id: string;
  readonly items: readonly Item[];
}
interface Why {
  readonly kind: string;
  readonly proof: readonly { readonly type: string; readonly key: string; readonly origin: string }[];
  readonly missing: readonly { readonly from: { readonly key: string }; readonly reason: string }[];
  readonly trash: number | null;
}
interface Usage {
  readonly owners: readonly {
    readonly type: string;
    readonly key: string;
    readonly unique: number;
    readonly shared: number;
  }[];
  readonly total: number;
  readonly shared: number;
  readonly reclaimable: number;
  readonly trash: number;
}

let store: OwnStore;
beforeEach(() => {
  store = new OwnStore();
});
afterEach(() => store[Symbol.dispose]());

const plan = async (): Promise<Plan> => await store.json<Plan>(['gc', 'plan']);
const digests = async (): Promise<string[]> => (await store.must(['content', 'ls', '-q'])).split('\n').filter(Boolean);

describe('a lease', () => {
  it('is printed by its id alone, and keeps what is ingested with it, until it is removed', async () => {
    const lease = await store.must(['lease', 'create', '--expires', '1h', '--label', 'job=7']);
    assert.match(lease, /^\S+\n$/);
    const digest = await store.ingest('layer', '--lease', lease.trim());
    const why = await store.json<Why>(['gc', 'why', digest]);
    assert.equal(why.kind, 'kept');
    assert.deepEqual(
      why.proof.map(({ type, key }) => `${type} ${key}`),
      [`lease ${lease.trim()}`, `content ${digest}`],
    );
    assert.match(await store.must(['lease', 'ls']), new RegExp(`^${lease.trim()} .* 1 +job=7$`, 'm'));
    const said = await store.run(['lease', 'rm', lease.trim(), '--verbose']);
    assert.equal(said.code, 0);
    assert.match(said.stderr, /^lamina: collect: 1 content into the trash \(5 bytes\)/);
    assert.deepEqual(await digests(), []);
  });

  it('collects nothing loudly without --verbose', async () => {
    const lease = (await store.must(['lease', 'create'])).trim();
    await store.ingest('layer', '--lease', lease);
    assert.deepEqual(await store.run(['lease', 'rm', lease]), { code: 0, stdout: '', stderr: '' });
    assert.deepEqual(await digests(), []);
  });

  it('of a process ends with it, also by SIGKILL', async () => {
    const owner = spawn('sleep', ['1000']);
    await store.must(['lease', 'create', '--id', 'mine', '--pid', String(owner.pid)]);
    const digest = await store.ingest('layer', '--lease', 'mine');
    assert.match(await store.must(['lease', 'ls']), new RegExp(` ${owner.pid} +1$`, 'm'));
    await store.must(['gc', 'run']);
    assert.deepEqual(await digests(), [digest]);
    const exit = once(owner, 'exit');
    owner.kill('SIGKILL');
    await exit;
    await store.must(['gc', 'run']);
    assert.deepEqual(await digests(), []);
    assert.deepEqual((await store.json<{ leases: unknown[] }>(['lease', 'ls'])).leases, []);
  });

  it('that expires keeps nothing any more, and a flat one only what it names', async () => {
    const child = await store.ingest('child');
    const parent = await store.ingest('parent', '--label', `containerd.io/gc.ref.content.0=${child}`);
    await store.must(['lease', 'create', '--id', 'short', '--expires', '1ms']);
    await store.must(['lease', 'create', '--id', 'flat', '--flat']);
    await store.must(['lease', 'add', 'short', child]);
    await store.must(['lease', 'add', 'flat', parent]);
    const why = await store.json<Why>(['gc', 'why', child]);
    assert.equal(why.kind, 'garbage');
    assert.ok(
      why.missing.some(({ from, reason }) => from.key === 'short' && /expired/.test(reason)),
      JSON.stringify(why),
    );
    await store.must(['gc', 'run']);
    assert.deepEqual(await digests(), [parent]);
  });

  it('may be made, named and removed in the wrong order, and says so', async () => {
    await store.must(['lease', 'create', '--id', 'a']);
    await store.fails(['lease', 'create', '--id', 'a'], 1, /^lamina: lease a of default: .*exists/);
    await store.fails(['lease', 'add', 'nosuch', `sha256:${'0'.repeat(64)}`], 1, /lease nosuch of default: not found/);
    await store.fails(['lease', 'add', 'a', 'lease/b'], 1, /a lease keeps content, images, snapshots and ingests/);
    await store.must(['lease', 'rm', 'a']);
    await store.fails(['lease', 'rm', 'a'], 1, /lease a of default: not found/);
    await store.fails(['lease', 'create', '--expires', 'soon'], 1, /--expires is "soon", expected a duration/);
    await store.fails(['lease', 'create', '--pid', '4194304'], 1, /process 4194304: there is none/);
    await store.fails(['lease', 'create', '--pid', 'x'], 2, /--pid is x/);
    await store.fails(['lease', 'create', '--label', 'x'], 2, /--label x: expected KEY=VALUE/);
    await store.fails(['lease', 'ls', '--timeout', '5'], 2, /--timeout goes with --containerd/);
    await store.fails(['lease', 'ls', '--containerd', '/x', '--root', '/y'], 2, /not both/);
  });
});

describe('a plan', () => {
  it('names what would go, and applied removes exactly that, once', async () => {
    const kept = await store.ingest('kept', '--label', ROOT);
    const garbage = await store.ingest('garbage');
    const { id, items } = await plan();
    assert.deepEqual(
      items.map(({ key, unique }) => [key, unique]),
      [[garbage, 7]],
    );
    assert.match(await store.must(['gc', 'plan']), new RegExp(`^content +default +${garbage} +7 B +7 B +\\S.*$`, 'm'));
    assert.deepEqual(new Set(await digests()), new Set([garbage, kept]));
    const later = await store.ingest('later');
    const applied = await store.json<{ removed: Item[]; bytes: number }>(['gc', 'apply', id]);
    assert.deepEqual(
      applied.removed.map(({ key }) => key),
      [garbage],
    );
    assert.deepEqual(new Set(await digests()), new Set([kept, later]));
    await store.fails(['gc', 'apply', id], 1, new RegExp(`plan ${id}: not found`));
  });

  it('that has changed is refused, with what has changed, and nothing is removed', async () => {
    const first = await store.ingest('first');
    const second = await store.ingest('second');
    const { id } = await plan();
    await store.must(['lease', 'create', '--id', 'late']);
    await store.must(['lease', 'add', 'late', first]);
    await store.fails(
      ['gc', 'apply', id],
      1,
      new RegExp(`plan ${id}: content ${first} of default: .*nothing was removed`),
    );
    assert.deepEqual(new Set(await digests()), new Set([first, second]));
  });

  it('of a store in which all is kept is empty', async () => {
    await store.ingest('kept', '--label', ROOT);
    assert.deepEqual((await plan()).items, []);
    assert.match(await store.must(['gc', 'plan']), /^plan [0-9a-f]+: 0 to remove, 0 B to free\n$/);
  });
});

describe('what was removed', () => {
  it('is told by why and journal, comes back by undo, and stays when a lease names it', async () => {
    const digest = await store.ingest('layer');
    await store.must(['gc', 'run']);
    const why = await store.json<Why>(['gc', 'why', digest.slice(7, 15)]);
    assert.equal(why.kind, 'removed');
    assert.match(await store.must(['gc', 'why', digest]), /by "lamina gc run" \(user 0, process \d+\), rule collect/);
    assert.match(
      await store.must(['gc', 'journal', '--key', digest]),
      /trash +default +content\/sha256:.* lamina gc run /,
    );
    assert.match(await store.must(['gc', 'undo']), new RegExp(`^${why.trash} .* content/${digest} `, 'm'));
    await store.must(['lease', 'create', '--id', 'safe']);
    await store.must(['gc', 'undo', String(why.trash), '--lease', 'safe']);
    await store.must(['gc', 'run']);
    assert.deepEqual(await digests(), [digest]);
    assert.equal(await store.must(['content', 'get', digest]), 'layer');
    await store.fails(['gc', 'undo', String(why.trash)], 1, /was never there, or is gone for good/);
  });

  it('comes back by the time it went, and is gone once the trash is emptied', async () => {
    const digest = await store.ingest('layer');
    await store.must(['gc', 'run']);
    assert.equal(await store.must(['gc', 'undo', '--since', '1h']), `content/${digest} of default is back\n`);
    assert.equal(await store.must(['gc', 'undo', '--since', '1h']), 'nothing was removed since then\n');
    await store.must(['gc', 'run']);
    assert.match(await store.must(['gc', 'empty', '--older-than', '1h']), /^0 items, 0 B freed\n$/);
    assert.match(await store.must(['gc', 'empty']), /^1 items, 5 B freed\n$/);
    assert.equal(await store.must(['gc', 'undo']), '');
    await store.fails(['gc', 'undo', 'x'], 2, /x is no number/);
    await store.fails(['gc', 'undo', '1', '--since', '1h'], 2, /not both/);
  });

  it('by hand may be what something keeps, and comes back to it', async () => {
    const digest = await store.ingest('layer', '--label', ROOT);
    assert.equal(await store.must(['content', 'rm', digest.slice(7, 13)]), `${digest}\n`);
    await store.fails(['content', 'rm', digest], 1, /content sha256:.* of default.*not found/);
    await store.must(['gc', 'undo', '--since', '1h']);
    assert.match(await store.must(['content', 'ls']), / containerd\.io\/gc\.root=yes$/m);
  });
});

describe('df', () => {
  it('counts bytes once, by what keeps them', async () => {
    const [shared, own] = ['shared layer', 'own'];
    const common = await store.ingest(shared);
    for (const id of ['a', 'b']) {
      await store.must(['lease', 'create', '--id', id]);
      await store.must(['lease', 'add', id, common]);
    }
    await store.ingest(own, '--lease', 'a');
    await store.ingest('garbage!');
    const usage = await store.json<Usage>(['df']);
    const { total, reclaimable, trash } = usage;
    assert.deepEqual(
      { total, shared: usage.shared, reclaimable, trash },
      { total: 23, shared: 12, reclaimable: 8, trash: 0 },
    );
    assert.deepEqual(
      usage.owners.map(({ key, unique, shared: of }) => [key, unique, of]),
      [
        ['a', 3, 12],
        ['b', 0, 12],
      ],
    );
    const text = await store.must(['df']);
    assert.match(text, /^lease\/a +default +3 B +12 B$/m);
    assert.match(text, /^reclaimable +8 B$/m);
    await store.must(['gc', 'run']);
    assert.equal((await store.json<Usage>(['df'])).trash, 8);
  });
});

describe('namespaces', () => {
  it('are apart, and share the bytes of a blob', async () => {
    await store.ingest('same', '--label', ROOT, '-n', 'one');
    const digest = await store.ingest('same', '-n', 'two');
    assert.equal(await store.must(['content', 'ls', '-q', '-n', 'one']), `${digest}\n`);
    const { items } = await plan();
    assert.deepEqual(
      items.map(({ key, unique }) => [key, unique]),
      [[digest, 0]],
    );
    await store.must(['gc', 'run']);
    assert.equal(await store.must(['content', 'get', digest], { env: { LAMINA_NAMESPACE: 'one' } }), 'same');
    await store.fails(['gc', 'why', digest, '-n', 'three'], 1, /namespace three: not found in .*; there are: one, two/);
    await store.fails(['content', 'ls', '-n', ''], 2, /--namespace is empty/);
  });
});

describe('fsck, backup and rebuild', () => {
  it('say that all is sound, copy the metadata, and make it anew from the files', async () => {
    const digest = await store.ingest('layer', '--label', ROOT);
    assert.equal(await store.must(['store', 'fsck', '--digests']), '1 blobs looked at: sound\n');
    const copy = `${store.dir}/copy.db`;
    assert.equal(await store.must(['store', 'backup', copy]), `${copy}\n`);
    await store.fails(['store', 'backup', copy], 1, /copy\.db.*exist/);
    await store.must(['store', 'rebuild']);
    assert.equal(await store.must(['content', 'get', digest]), 'layer');
    assert.equal(await store.must(['store', 'fsck']), '1 blobs looked at: sound\n');
  });
});
