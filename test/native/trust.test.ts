/**
 * What docs/security.md says of the native part: who reaches the sockets, and what a bundle made by
 * somebody hostile can do.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { binding } from '../../src/sys/index.js';
import { Bed, eventually, isGone } from './harness.js';

const NOBODY = 65534;
const VICTIM = 'not ours to touch\n';
const notRoot = process.geteuid?.() === 0 ? false : 'needs root to act as another user';

/** Runs `act` with the effective uid of another user. */
function asNobody<T>(act: () => T): T {
  process.seteuid?.(NOBODY);
  try {
    return act();
  } finally {
    process.seteuid?.(0);
  }
}

const mode = (path: string): string => (statSync(path).mode & 0o7777).toString(8);

describe('places of the keeper', () => {
  let bed: Bed;
  beforeEach(() => {
    bed = new Bed();
  });
  afterEach(() => bed.close());

  it('are for their owner only', async () => {
    const { socket } = await bed.keeper();
    assert.equal(mode(bed.stateDir), '700');
    assert.equal(mode(bed.socketDir), '700');
    assert.equal(mode(socket), '600');
    const modes = readdirSync(bed.stateDir).map(
      (name) => `${name.replace(/-[0-9a-f]{16}/, '')} ${mode(join(bed.stateDir, name))}`,
    );
    const names = ['engine.id', 'engine.lock', 'engine.log', 'engine.sock', 'keeper'];
    assert.deepEqual(
      modes.toSorted(),
      names.map((name) => `${name} 600`),
    );
  });

  it('have no descriptor that a program run by the keeper inherits', async () => {
    const { engine } = await bed.keeper();
    const out = join(bed.dir, 'out');
    writeFileSync(out, '');
    const argv = ['/bin/sh', '-c', 'ls -l /proc/$$/fd', ''].join('\0');
    const map = Buffer.alloc(4);
    map.writeInt32LE(1);
    engine.send('SPAWN', { serial: 1, fields: ['ls', '/', argv, '', map], fds: [`w:${out}`] });
    await engine.next('EXITED');
    const targets = readFileSync(out, 'utf8')
      .split('\n')
      .flatMap((line) => line.split(' -> ')[1] ?? []);
    assert.deepEqual(targets.toSorted(), ['/dev/null', '/dev/null', out].toSorted());
  });

  it('serve nobody else, should their modes be changed', { skip: notRoot }, async () => {
    const log = join(bed.bundle, 'log');
    writeFileSync(log, '');
    const { socket, engine } = await bed.keeper();
    for (const path of [bed.dir, bed.socketDir]) chmodSync(path, 0o755);
    chmodSync(socket, 0o666);
    const fd = asNobody(() => binding().connectUnix(socket, 'stream'));
    await eventually('a line in the log', () => readFileSync(log, 'utf8').includes(`from uid ${NOBODY}`));
    assert.equal(binding().recvMessage(fd, 10)?.data.length, 0, 'end of file');
    await engine.settled();
    assert.equal(engine.pendingOf('ACCEPTED').length, 0);
  });

  it('are left when an engine of somebody else listens there', { skip: notRoot }, async () => {
    const { engine, hello } = await bed.keeper();
    const name = readdirSync(bed.stateDir).find((entry) => entry.endsWith('.sock')) ?? '';
    process.kill(hello.arg, 'SIGKILL');
    engine.kill();
    unlinkSync(join(bed.stateDir, name));
    chmodSync(bed.dir, 0o755);
    chmodSync(bed.stateDir, 0o777);
    const impostor = asNobody(() => binding().listenUnix(join(bed.stateDir, name), 'seqpacket', 8, 0o666));
    chmodSync(bed.stateDir, 0o700);
    const second = join(bed.dir, 'second');
    bed.config({}, second);
    const log = join(second, 'log');
    writeFileSync(log, '');
    await bed.start({ id: 'two', bundle: second });
    await eventually('a line in the log', () => readFileSync(log, 'utf8').includes('Operation not permitted'));
    const link = binding().acceptUnix(impostor);
    assert.ok(link !== null);
    assert.equal(binding().recvMessage(link, 4096)?.data.length, 0, 'end of file instead of HELLO');
    unlinkSync(join(bed.stateDir, name));
    await bed.replayed(await bed.engine());
  });

  it('are not behind a link', async () => {
    const elsewhere = join(bed.dir, 'elsewhere');
    mkdirSync(elsewhere, { mode: 0o700 });
    const log = join(bed.bundle, 'log');
    writeFileSync(log, '');
    const { engine } = await bed.keeper();
    renameSync(bed.stateDir, join(bed.dir, 'was'));
    symlinkSync(elsewhere, bed.stateDir);
    engine.kill();
    await eventually('a line in the log', () => readFileSync(log, 'utf8').includes('not ours alone'));
    assert.deepEqual(readdirSync(elsewhere), []);
    unlinkSync(bed.stateDir);
    await bed.replayed(await bed.engine());
    assert.equal(readdirSync(bed.stateDir).filter((name) => name.startsWith('keeper-')).length, 1);
  });

  it('have start fail at once where others can write: what is wrong with which directory, and what to do', async () => {
    const places: readonly (readonly [RegExp, () => void])[] = [
      [/has mode 0777, so others may write there: chmod 0700 /, () => mkdirSync(bed.stateDir)],
      [/is a file, not a directory: remove it, or let LAMINA_STATE_DIR/, () => writeFileSync(bed.stateDir, '')],
      [/is a symbolic link, not a directory: remove it/, () => symlinkSync(bed.dir, bed.stateDir)],
      [/belongs to uid 65534, not to uid 0: /, () => mkdirSync(bed.stateDir, { mode: 0o700 })],
    ];
    for (const [pattern, make] of places) {
      make();
      if (pattern.source.includes('0777')) chmodSync(bed.stateDir, 0o777);
      if (pattern.source.includes('65534')) chownSync(bed.stateDir, NOBODY, NOBODY);
      const { code, stdout, stderr } = await bed.verb('start', { input: bed.params() });
      assert.equal(code, 1);
      assert.equal(stdout.length, 0);
      assert.match(stderr, pattern);
      assert.ok(stderr.includes(`state directory ${bed.stateDir} `), stderr);
      assert.deepEqual(readdirSync(bed.bundle), ['config.json']);
      assert.ok(!existsSync(bed.socketDir));
      rmSync(bed.stateDir, { recursive: true });
    }
    const relative = await bed.verb('start', { input: bed.params(), env: { LAMINA_STATE_DIR: 'state' } });
    assert.match(relative.stderr, /state directory state is not absolute/);
  });
});

describe('the registration of a keeper', () => {
  let bed: Bed;
  beforeEach(() => {
    bed = new Bed();
  });
  afterEach(() => bed.close());
  const files = (): string[] => readdirSync(bed.stateDir).filter((name) => name.includes('keeper-'));

  it('says who it is, from its start to its end', async () => {
    const { socket, engine, pid } = await bed.keeper();
    const [name = '', ...more] = files();
    assert.deepEqual(more, []);
    const fields = readFileSync(join(bed.stateDir, name), 'utf8').split('\0');
    for (const field of [`pid=${pid}`, 'namespace=test', 'id=one', `socket=${socket}`, `library=${bed.dir}/lib`]) {
      assert.ok(fields.includes(field), `${field} in ${fields}`);
    }
    engine.send('EXIT');
    await eventually('the end', () => isGone(pid));
    assert.deepEqual(files(), []);
  });

  it('comes back after it was lost', async () => {
    const { engine } = await bed.keeper();
    const [name = ''] = files();
    unlinkSync(join(bed.stateDir, name));
    engine.kill();
    await bed.replayed(await bed.engine());
    assert.deepEqual(files(), [name]);
  });

  it('is removed by delete after a keeper that was killed, and never under one that lives', async () => {
    const { pid } = await bed.keeper();
    assert.equal((await bed.verb('delete')).code, 0);
    assert.equal(files().length, 1);
    process.kill(pid, 'SIGKILL');
    await eventually('the end', () => isGone(pid));
    assert.equal((await bed.verb('delete')).code, 0);
    assert.deepEqual(files(), []);
  });

  it('has the pid that the kernel names to those who connect', async () => {
    const { socket, pid } = await bed.keeper();
    const fd = binding().connectUnix(socket, 'stream');
    assert.equal(binding().peerCredentials(fd).pid, pid);
    closeSync(fd);
  });
});

describe('a hostile bundle', () => {
  let bed: Bed;
  let victim: string;
  beforeEach(() => {
    bed = new Bed();
    victim = join(bed.dir, 'victim');
    writeFileSync(victim, VICTIM);
  });
  afterEach(async () => {
    const kept = readFileSync(victim, 'utf8');
    await bed.close();
    assert.equal(kept, VICTIM);
  });
  const inBundle = (name: string): string => join(bed.bundle, name);

  it('cannot have its links written through by start', async () => {
    for (const name of ['address', '.address', 's', 'log']) symlinkSync(victim, inBundle(name));
    await bed.keeper();
    assert.equal(lstatSync(inBundle('address')).isFile(), true);
    assert.equal(existsSync(inBundle('.address')), false);
    assert.equal(readlinkSync(inBundle('s')), bed.socketDir);
  });

  it('cannot hold up start with a FIFO', async () => {
    for (const name of ['address', '.address', 's']) execFileSync('mkfifo', [inBundle(name)]);
    await bed.keeper();
  });

  it('makes start fail, and leave nothing, with directories in the way', async () => {
    mkdirSync(inBundle('.address'));
    const result = await bed.verb('start', { input: bed.params() });
    assert.equal(result.code, 1);
    assert.equal(existsSync(bed.socketDir), false);
    assert.deepEqual(readdirSync(bed.bundle).toSorted(), ['.address', 'config.json']);
  });

  it('cannot show a file of others through an error', async () => {
    unlinkSync(inBundle('config.json'));
    symlinkSync(victim, inBundle('config.json'));
    const { code, stdout, stderr } = await bed.verb('start', { input: bed.params() });
    assert.equal(code, 1);
    assert.equal(stdout.length, 0);
    assert.match(stderr, /config\.json: unexpected character at offset 0/);
    assert.ok(!stderr.includes('not ours'));
  });

  it('cannot hold up start with a config.json that never ends, or never comes', async () => {
    for (const make of [
      (path: string): unknown => execFileSync('mkfifo', [path]),
      (path: string): unknown => symlinkSync('/dev/zero', path),
      (path: string): unknown => mkdirSync(path),
    ]) {
      renameSync(inBundle('config.json'), join(bed.dir, `was-${Math.random()}`));
      make(inBundle('config.json'));
      const { code } = await bed.verb('start', { input: bed.params() });
      assert.equal(code, 1);
    }
  });

  it('cannot have delete unlink files, or sockets that live', async () => {
    writeFileSync(inBundle('address'), `unix://${victim}`);
    assert.equal((await bed.verb('delete')).code, 0);
    const link = join(bed.dir, 'link');
    symlinkSync(victim, link);
    writeFileSync(inBundle('address'), `unix://${link}`);
    assert.equal((await bed.verb('delete')).code, 0);
    assert.equal(lstatSync(link).isSymbolicLink(), true);
    const live = join(bed.dir, 'live');
    const server = createServer().listen(live);
    await eventually('the server', () => existsSync(live));
    writeFileSync(inBundle('address'), `unix://${live}`);
    assert.equal((await bed.verb('delete')).code, 0);
    assert.equal(existsSync(live), true);
    server.close();
  });

  it('cannot have delete unmount what its rootfs links to', { skip: notRoot }, async () => {
    const mounted = join(bed.dir, 'mounted');
    mkdirSync(mounted);
    execFileSync('mount', ['-t', 'tmpfs', 'lamina-test', mounted]);
    try {
      symlinkSync(mounted, inBundle('rootfs'));
      assert.equal((await bed.verb('delete')).code, 0);
      assert.equal(spawnSync('mountpoint', ['-q', mounted]).status, 0);
    } finally {
      execFileSync('umount', [mounted]);
    }
  });

  it('cannot have start take the place of a file', async () => {
    const path = join(bed.socketDir, createHash('sha256').update(join(bed.dir, 'grpc/test/one')).digest('hex'));
    mkdirSync(bed.socketDir, { mode: 0o700 });
    renameSync(victim, path);
    victim = path;
    const { code, stderr } = await bed.verb('start', { input: bed.params() });
    assert.equal(code, 1);
    assert.match(stderr, /bind .*: Socket operation on non-socket/);
  });

  it('cannot join the keeper of another namespace by its group', async () => {
    for (const group of ['..', '../other/group', 'a/../../other', 'a/..']) {
      bed.config({ annotations: { 'io.containerd.runc.v2.group': group } });
      const { code, stderr } = await bed.verb('start', { input: bed.params() });
      assert.equal(code, 1);
      assert.match(stderr, /not a usable group/);
    }
    assert.equal(existsSync(bed.socketDir), false);
  });

  it('does not matter when the id is one that leads elsewhere', async () => {
    for (const verb of ['start', 'delete']) {
      for (const id of ['..', '.', '../other', 'a/b', '/etc']) {
        const { code, stderr } = await bed.verb(verb, { id, input: bed.params(id) });
        assert.equal(code, 1, `${verb} ${id}`);
        assert.match(stderr, /not a usable id/);
      }
    }
    assert.deepEqual(readdirSync(bed.bundle), ['config.json']);
  });
});
