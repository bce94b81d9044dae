import assert from 'node:assert/strict';
import {
  chmodSync,
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, it } from 'node:test';
import { binding, LM_ENGINE_OPTIONS } from '../../src/sys/index.js';
import { Bed, eventually, frame, isGone } from './harness.js';

describe('engine', () => {
  let bed: Bed;
  afterEach(() => bed.close());

  it('is started once and shared by keepers', async () => {
    bed = new Bed();
    const { engine, hello } = await bed.keeper();
    assert.deepEqual(engine.args, [...LM_ENGINE_OPTIONS.split(' '), join(bed.dir, 'lib', 'engine.cjs')]);
    assert.equal(readlinkSync(`/proc/${engine.pid}/cwd`), '/');
    assert.equal(statSync(bed.stateDir).mode & 0o777, 0o700);
    assert.deepEqual(
      readdirSync(bed.stateDir)
        .map((name) => name.replace(/-[0-9a-f]{16}/, '-KEY'))
        .sort(),
      ['engine-KEY.id', 'engine-KEY.lock', 'engine-KEY.log', 'engine-KEY.sock', 'keeper-KEY'],
    );
    const second = join(bed.dir, 'second');
    bed.config({}, second);
    await bed.start({ id: 'two', bundle: second });
    const other = await bed.replayed(engine);
    assert.notEqual(other.arg, hello.arg);
    assert.equal(other.link, 1);

    // Both find the same successor.
    engine.kill();
    const next = await bed.engine();
    const found = [await bed.replayed(next), await bed.replayed(next)].map((message) => message.arg);
    assert.deepEqual(new Set(found), new Set([hello.arg, other.arg]));
  });

  it('is started anew for a keeper that the shared one declines', async () => {
    bed = new Bed({ LAMINA_FAKE_DECLINE: '1' });
    await bed.start();
    const shared = await bed.engine();
    const own = await bed.engine();
    assert.deepEqual(own.args.slice(-1), ['--dedicated']);
    await bed.replayed(own);
    await shared.lines.take((line) => line === 'close 0', 'close');
    own.send('PUT', { serial: 1, fields: ['x', 'y'] });
    await own.next('DONE');
    own.kill();
    const next = await bed.engine();
    assert.deepEqual(next.args.slice(-1), ['--dedicated']);
    await bed.replayed(next);
    assert.equal(next.pendingOf('ENTRY').length, 1);
    shared.kill();
  });

  it('is replaced when it no longer answers', async () => {
    bed = new Bed({ LAMINA_PING_MS: '500' });
    const { engine } = await bed.keeper();
    await engine.next('PING');
    await engine.next('PING'); // the first was answered
    process.kill(engine.pid, 'SIGSTOP');
    const next = await bed.engine();
    await bed.replayed(next);
    await eventually('the one that hung is killed', () => isGone(engine.pid));
  });

  it('is one of its own, for a keeper that waits too long for the lock', async () => {
    bed = new Bed({ LAMINA_PING_MS: '300' });
    const { engine } = await bed.keeper();
    // Whoever holds it has been stopped: a keeper that starts an engine, or an engine that ends.
    const name = readdirSync(bed.stateDir).find((file) => file.endsWith('.lock')) ?? '';
    const lock = openSync(join(bed.stateDir, name), 'r');
    assert.ok(binding().flock(lock, 'exclusive'));
    engine.kill();
    const own = await bed.engine();
    assert.deepEqual(own.args.slice(-1), ['--dedicated']);
    await bed.replayed(own);
    closeSync(lock);
    // The next one is everybody's again.
    own.kill();
    const next = await bed.engine();
    assert.deepEqual(next.args.slice(-1), [join(bed.dir, 'lib', 'engine.cjs')]);
    await bed.replayed(next);
  });

  it('may answer without a message, by the descriptor of PING, and then counts as alive', async () => {
    bed = new Bed({ LAMINA_PING_MS: '250', LAMINA_FAKE_PONG: '1' });
    const { engine } = await bed.keeper();
    // Without an answer it would be killed after the third.
    for (let serial = 1; serial <= 5; serial += 1) {
      const ping = await engine.next('PING');
      assert.deepEqual([ping.serial, ping.fds.length], [serial, 1]);
    }
    process.kill(engine.pid, 'SIGSTOP');
    const next = await bed.engine();
    await bed.replayed(next);
    assert.ok(isGone(engine.pid));
    assert.equal((await next.next('PING')).fds.length, 1);
  });

  it('is replaced even if it hung before it said who it is', async () => {
    bed = new Bed({ LAMINA_PING_MS: '500' });
    const { engine, pid } = await bed.keeper();
    process.kill(engine.pid, 'SIGSTOP');
    const second = join(bed.dir, 'second');
    bed.config({}, second);
    await bed.start({ id: 'two', bundle: second });
    process.kill(pid, 'SIGKILL'); // the only one that knows its pid
    const next = await bed.engine();
    await bed.replayed(next);
    await eventually('the one that hung is killed', () => isGone(engine.pid));
  });

  it('is tried again, ever more slowly, while it cannot be started', async () => {
    bed = new Bed();
    bed.env['LAMINA_NODE'] = join(bed.dir, 'node');
    writeFileSync(bed.env['LAMINA_NODE'], '#!/no/such/interpreter\n', { mode: 0o755 });
    const socket = await bed.start();
    const daemon = await bed.connect(socket);
    daemon.write(frame(1, Buffer.from('waiting')));
    const keeper = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .find((pid) => {
        try {
          return readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`LAMINA_STATE_DIR=${bed.stateDir}`);
        } catch {
          return false;
        }
      });
    assert.ok(keeper);
    assert.equal(existsSync(socket), true);
    process.kill(Number(keeper), 'SIGTERM');
    // No engine decides, so the keeper goes by itself after five seconds.
    await eventually('keeper exit', () => isGone(Number(keeper)));
    assert.equal(existsSync(socket), false);
  });

  it('is not looked for in a directory that others can write to', async () => {
    bed = new Bed();
    const log = join(bed.bundle, 'log');
    writeFileSync(log, '');
    const { engine } = await bed.keeper();
    chmodSync(bed.stateDir, 0o777);
    engine.kill();
    await eventually('a line in the log', () => readFileSync(log, 'utf8').includes('not ours alone'));
    chmodSync(bed.stateDir, 0o700);
    await bed.replayed(await bed.engine());
  });

  it('decides what a signal means', async () => {
    bed = new Bed();
    const { engine, pid } = await bed.keeper();
    process.kill(pid, 'SIGTERM');
    assert.equal((await engine.next('SIGNALED')).arg, 15);
    process.kill(pid, 'SIGINT');
    assert.equal((await engine.next('SIGNALED')).arg, 2);
    for (const signal of ['SIGHUP', 'SIGPIPE', 'SIGUSR1'] as const) process.kill(pid, signal);
    await engine.settled();
    assert.equal(isGone(pid), false);
  });

  it('ends the keeper, after what was sent, with its socket removed', async () => {
    bed = new Bed();
    const { engine, pid, socket } = await bed.keeper();
    const daemon = await bed.connect(socket);
    await engine.next('ACCEPTED');
    const reply = Buffer.alloc(2 << 20, 'r');
    engine.send('SEND', { arg: 1, fields: [reply] });
    engine.send('EXIT');
    await eventually('socket removed', () => !existsSync(socket));
    let got = 0;
    for await (const chunk of daemon) got += (chunk as Buffer).length;
    assert.equal(got, reply.length);
    await eventually('keeper exit', () => isGone(pid));
  });

  it('ends the keeper within a second though the daemon does not read', async () => {
    bed = new Bed();
    const { engine, pid, socket } = await bed.keeper();
    const daemon = await bed.connect(socket);
    daemon.pause();
    await engine.next('ACCEPTED');
    engine.send('SEND', { arg: 1, fields: [Buffer.alloc(4 << 20)] });
    engine.send('EXIT');
    await eventually('keeper exit', () => isGone(pid));
    daemon.destroy();
  });

  it('gets everything, however slowly it reads', async () => {
    bed = new Bed();
    const { engine, socket } = await bed.keeper();
    for (let i = 0; i < 300; i++)
      engine.send('PUT', { fields: [`entry ${i}`, Buffer.alloc(20_000, i)], fds: ['r:/dev/null'] });
    const daemon = await bed.connect(socket);
    for (let i = 0; i < 12; i++) daemon.write(frame(2 * i + 1, Buffer.alloc(1 << 20, i)));
    for (let i = 0; i < 12; i++) await engine.next('FRAME');
    await engine.settled();
    engine.kill();
    const next = await bed.engine();
    next.command('hold 0');
    // While it does not read, the keeper serves on.
    const other = await bed.connect(socket);
    other.write(frame(1, Buffer.from('late')));
    next.command('go 0');
    await bed.replayed(next);
    await next.next('FRAME', (m) => m.fields[0]?.subarray(10).toString() === 'late');
    assert.equal(next.pendingOf('ENTRY').length, 300);
    assert.ok(next.pendingOf('ENTRY').every((m) => m.fds.length === 1));
    assert.equal(next.pendingOf('FRAME').length, 12);
  });
});
