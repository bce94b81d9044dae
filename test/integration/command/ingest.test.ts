/**
 * `lamina content ingest` and `get`: pipes, files, terminals; empty, huge, twice, at once; given
 * up.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { type Command, runAtTerminal } from '../../lib/command.js';
import { LAMINA, OwnStore } from '../../lib/own-store.js';
import { until } from '../../lib/wait.js';

const MIB = 1 << 20;
/**
 * What a gigabyte may cost more than its first part: buffers, and what V8 has not collected yet.
 */
const GROWTH_KIB = 96 * 1024;

interface Listing {
  readonly content: readonly { readonly digest: string; readonly size: number }[];
  readonly ingests: readonly { readonly ref: string; readonly offset: number }[];
}

let store: OwnStore;
beforeEach(() => {
  store = new OwnStore();
});
afterEach(() => store[Symbol.dispose]());

const listing = async (): Promise<Listing> => await store.json<Listing>(['content', 'ls']);

function digestOf(...parts: readonly (string | Buffer)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return `sha256:${hash.digest('hex')}`;
}

/** The most memory a process has had, in KiB. */
function peakOf(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

/** Writes no faster than it is read. */
async function feed(command: Command, chunk: Buffer, times: number): Promise<void> {
  const { stdin } = command.child;
  assert.ok(stdin !== null);
  for (let at = 0; at < times; at += 1) {
    await new Promise<void>((resolve, reject) => stdin.write(chunk, (error) => (error ? reject(error) : resolve())));
  }
}

/** An ingest that has written so much and waits for more. */
async function begun(args: readonly string[], bytes: Buffer): Promise<Command> {
  const command = store.spawn(['content', 'ingest', ...args], { stdin: 'open' });
  await feed(command, bytes, 1);
  await until('all is written', async () => (await listing()).ingests.some(({ offset }) => offset === bytes.length));
  return command;
}

describe('an ingest', () => {
  it('takes a file, a pipe, and - for a pipe, and prints the digest alone', async () => {
    writeFileSync(join(store.dir, 'a file'), 'layer');
    const expected = `${digestOf('layer')}\n`;
    assert.equal(await store.shell('lamina content ingest "a file"'), expected);
    assert.equal(await store.shell('printf layer | lamina content ingest'), expected);
    assert.equal(await store.shell('cat "a file" | lamina content ingest -'), expected);
    assert.equal(await store.shell('lamina content ingest < "a file"'), expected);
    assert.deepEqual(await store.json(['content', 'ingest', join(store.dir, 'a file')]), { digest: digestOf('layer') });
    assert.deepEqual(
      (await listing()).content.map(({ size }) => size),
      [5],
    );
  });

  it('of nothing is the empty blob', async () => {
    assert.equal(await store.ingest(''), digestOf(''));
    assert.equal(await store.must(['content', 'get', digestOf('')]), '');
  });

  it('of a gigabyte from a pipe takes no more memory than its first part', async () => {
    const chunk = Buffer.alloc(4 * MIB, 'lamina');
    const hash = createHash('sha256');
    for (let at = 0; at < 256; at += 1) hash.update(chunk);
    const command = store.spawn(['content', 'ingest'], { stdin: 'open' });
    await feed(command, chunk, 16);
    const before = peakOf(command.pid);
    await feed(command, chunk, 240);
    const after = peakOf(command.pid);
    command.closeStdin();
    const { code, stdout, stderr } = await command.result();
    assert.equal(code, 0, stderr);
    assert.equal(stdout, `sha256:${hash.digest('hex')}\n`);
    assert.ok(after - before < GROWTH_KIB, `${before} KiB after 64 MiB, ${after} KiB after a gigabyte`);
  });

  it('at a terminal does not wait for what is never typed', async () => {
    const { code, stdout } = await runAtTerminal([LAMINA, 'content', 'ingest', '--root', store.root]).result();
    assert.equal(code, 2);
    assert.match(stdout, /^lamina: standard input is a terminal: give a FILE, or a pipe/);
  });

  it('of what cannot be read names it, and leaves nothing', async () => {
    mkdirSync(join(store.dir, 'folder'));
    await store.fails(['content', 'ingest', '/nosuch'], 1, /^lamina: \/nosuch: .*no such file/);
    await store.fails(['content', 'ingest', join(store.dir, 'folder')], 1, /folder: it is a folder: pack it/);
    await store.fails(
      ['content', 'ingest', '--lease', 'nosuch', '/etc/hostname'],
      1,
      /lease nosuch of default: not found/,
    );
    assert.deepEqual(await listing(), { content: [], ingests: [] });
  });

  it('that has another digest than expected fails, and leaves nothing', async () => {
    const args = ['content', 'ingest', '--expected', digestOf('right')];
    await store.fails(args, 1, new RegExp(digestOf('right')), { stdin: 'wrong' });
    assert.deepEqual(await listing(), { content: [], ingests: [] });
    assert.equal((await store.must(args, { stdin: 'right' })).trim(), digestOf('right'));
    // It is there: nothing has to be read.
    assert.equal((await store.must(args, { stdin: '' })).trim(), digestOf('right'));
    await store.fails(['content', 'ingest', '--expected', 'x'], 1, /digest "x"/, { stdin: '' });
  });

  it('of what is there adds its labels', async () => {
    const digest = await store.ingest('layer', '--label', 'a=1');
    for (const args of [
      ['--label', 'b=2'],
      ['--label', 'c=3', '--expected', digest],
    ]) {
      assert.equal(await store.ingest('layer', ...args), digest);
    }
    assert.match(await store.must(['content', 'ls']), / a=1 b=2 c=3$/m);
  });
});

describe('ten ingests at once', () => {
  const runTen = async (bytes: (at: number) => Buffer, ...args: string[]): Promise<string[]> =>
    await Promise.all(Array.from({ length: 10 }, async (_, at) => await store.ingest(bytes(at), ...args)));

  it('of the same bytes are one blob, also when each knows the digest', async () => {
    const bytes = Buffer.alloc(3 * MIB, 'same');
    const digest = digestOf(bytes);
    assert.deepEqual(new Set(await runTen(() => bytes)), new Set([digest]));
    const expected = Buffer.alloc(3 * MIB, 'more');
    assert.deepEqual(
      new Set(await runTen(() => expected, '--expected', digestOf(expected))),
      new Set([digestOf(expected)]),
    );
    const { content, ingests } = await listing();
    assert.deepEqual(new Set(content.map((blob) => blob.digest)), new Set([digest, digestOf(expected)]));
    assert.deepEqual(ingests, []);
    assert.equal(await store.must(['store', 'fsck', '--digests']), '2 blobs looked at: sound\n');
  });

  it('of different bytes are ten blobs', async () => {
    const bytes = (at: number): Buffer => Buffer.alloc(MIB, `part ${at}`);
    const printed = await runTen(bytes);
    assert.deepEqual(
      printed,
      Array.from({ length: 10 }, (_, at) => digestOf(bytes(at))),
    );
    assert.equal(await store.must(['store', 'fsck', '--digests']), '10 blobs looked at: sound\n');
  });
});

describe('an ingest that is given up', () => {
  const first = Buffer.alloc(2 * MIB, 'first');
  const rest = Buffer.alloc(MIB, 'rest');
  const digest = digestOf(first, rest);

  it('by SIGKILL goes on under its name, where it was', async () => {
    for (const args of [
      ['--ref', 'upload'],
      ['--expected', digest],
    ]) {
      const command = await begun(args, first);
      command.kill('SIGKILL');
      await command.result();
      assert.deepEqual(
        (await listing()).ingests.map(({ offset }) => offset),
        [first.length],
      );
      assert.equal(await store.ingest(Buffer.concat([first, rest]), ...args), digest);
      assert.deepEqual((await listing()).ingests, []);
      await store.must(['content', 'rm', digest]);
    }
  });

  it('goes on only with the same bytes', async () => {
    const command = await begun(['--ref', 'upload'], first);
    command.kill('SIGKILL');
    await command.result();
    const other = { stdin: Buffer.alloc(3 * MIB, 'other') };
    await store.fails(['content', 'ingest', '--ref', 'upload'], 1, /upload/, other);
    const short = { stdin: 'short' };
    assert.deepEqual((await listing()).ingests, [], 'what cannot be gone on with is gone');
    assert.equal((await store.must(['content', 'ingest', '--ref', 'upload'], short)).trim(), digestOf('short'));
  });

  it('by Ctrl-C says what is left of it, and ends as if the signal had ended it', async () => {
    const named = await begun(['--ref', 'upload'], first);
    named.kill('SIGINT');
    const { code, stdout, stderr } = await named.result();
    assert.equal(code, 130, stderr);
    assert.equal(stdout, '');
    assert.match(
      stderr,
      /^lamina: ingest upload given up after \S+ MiB: the same command goes on with it within a day\n$/,
    );
    assert.equal(await store.ingest(Buffer.concat([first, rest]), '--ref', 'upload'), digest);

    const nameless = await begun([], first);
    nameless.kill('SIGTERM');
    const ended = await nameless.result();
    assert.equal(ended.code, 143, ended.stderr);
    assert.equal(ended.stderr, 'lamina: ingest given up: nothing is left of it\n');
    assert.deepEqual((await listing()).ingests, []);
  });

  it('by SIGKILL is collected with its lease', async () => {
    await store.must(['lease', 'create', '--id', 'pull']);
    const command = await begun(['--lease', 'pull'], first);
    command.kill('SIGKILL');
    await command.result();
    await store.must(['gc', 'run']);
    assert.equal((await listing()).ingests.length, 1, 'its lease keeps it');
    await store.must(['lease', 'rm', 'pull']);
    assert.deepEqual(await listing(), { content: [], ingests: [] });
  });
});

describe('get', () => {
  it('gives the bytes back, to a file, a pipe, and a reader that has enough', async () => {
    const bytes = Buffer.alloc(5 * MIB, 'some bytes\n');
    const digest = await store.ingest(bytes, '--label', 'containerd.io/gc.root=yes');
    assert.equal(await store.shell(`lamina content get ${digest} | sha256sum | cut -c1-64`), `${digest.slice(7)}\n`);
    assert.equal(
      await store.shell(`lamina content get ${digest.slice(7, 17)} > copy; sha256sum < copy | cut -c1-64`),
      `${digest.slice(7)}\n`,
    );
    assert.equal(await store.shell(`lamina content get ${digest} 2> said | head -1; cat said`), 'some bytes\n');
    assert.match(await store.shell(`lamina content get ${digest} > /dev/full || echo $?`), /^1$/m);
    await store.fails(['content', 'get', 'image/x'], 1, /image\/x is no digest/);
    await store.fails(['content', 'get', 'ffff'], 1, /content ffff of default: no digest begins so/);
  });
});
