import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readlinkSync, readSync } from 'node:fs';
import { constants as os } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { encodeMessage } from '../../src/sys/index.js';
import { Bed, KEEPER, lm, run } from './harness.js';

describe('link', () => {
  let bed: Bed;
  beforeEach(() => {
    bed = new Bed();
  });
  afterEach(() => bed.close());

  it('introduces itself with everything it knows of the daemon', async () => {
    const { hello, socket } = await bed.keeper();
    const pairs = Object.fromEntries(hello.fields.map((field) => field.toString().split(/=(.*)/s).slice(0, 2)));
    assert.deepEqual(pairs, {
      namespace: 'test',
      id: 'one',
      group: 'one',
      bundle: bed.bundle,
      socket,
      grpc_address: join(bed.dir, 'grpc'),
      ttrpc_address: '/tt',
      publish_binary: '/bin/true',
      debug: '0',
      state_dir: bed.stateDir,
      daemon_version: 'v2.3.0',
      version: pairs.version,
      build: pairs.build,
      features: 'batch batch-fds attach reopen read-out relay-entry',
    });
  });

  it('names the build that the installed binary names too', async () => {
    const { hello } = await bed.keeper();
    const build = hello.fields.map(String).find((field) => field.startsWith('build='));
    assert.match(build ?? '', /^build=[0-9a-f]{16}$/);
    const { stdout } = await run(KEEPER, ['-v']);
    assert.equal(/^ {2}Build: +(\S+)$/m.exec(stdout.toString())?.[1], build?.slice('build='.length));
  });

  it('does the parts of a batch in order, or none of them', async () => {
    const { engine } = await bed.keeper();
    const part = (type: string, fields: readonly string[], serial = 0): Buffer =>
      encodeMessage({ type: lm(`MSG_${type}`), serial, fields: [...fields] }).data;
    engine.send('BATCH', {
      fields: [part('PUT', ['a', '1']), part('PUT', ['b', '2']), part('DEL', ['a']), part('PUT', ['c', '3'], 7)],
    });
    assert.equal((await engine.next('DONE')).serial, 7);
    const nested = encodeMessage({ type: lm('MSG_BATCH'), fields: [part('PUT', ['x', ''])] }).data;
    for (const bad of [part('PUT', ['x', '']).subarray(0, 30), nested, Buffer.from('x')]) {
      engine.send('BATCH', { serial: 8, fields: [part('PUT', ['d', '4']), bad, part('PUT', ['e', '5'])] });
      const failed = await engine.next('FAILED');
      assert.deepEqual([failed.serial, failed.arg], [8, os.errno.EBADMSG]);
    }
    engine.kill();
    const next = await bed.engine();
    await bed.replayed(next);
    assert.deepEqual(
      next.pendingOf('ENTRY').map((entry) => entry.fields.map(String)),
      [
        ['b', '2'],
        ['c', '3'],
      ],
    );
  });

  it('gives each part of a batch the descriptors that are counted for it', async () => {
    const { engine } = await bed.keeper();
    const part = (type: string, fields: readonly string[], serial = 0): Buffer =>
      encodeMessage({ type: lm(`MSG_${type}`), serial, fields: [...fields] }).data;
    const put = (name: string): Buffer => part('PUT', [name, '']);
    const flags = lm('F_COUNTED');
    const three = ['r:/dev/zero', 'r:/dev/null', 'r:/dev/full'];
    for (const counts of [
      [0, 1],
      [1, 1, 1],
      [2, 0],
      [0, 4],
      [255, 255],
    ]) {
      const fields = [Buffer.from(counts), put('x'), put('y')];
      engine.send('BATCH', { flags, serial: 8, fields, fds: three });
      const failed = await engine.next('FAILED');
      assert.deepEqual([failed.serial, failed.arg], [8, os.errno.EBADMSG]);
    }
    // Without counts no part can have any.
    engine.send('BATCH', { serial: 8, fields: [put('x')], fds: three.slice(0, 1) });
    assert.equal((await engine.next('FAILED')).serial, 8);
    engine.send('BATCH', { flags, serial: 8, fds: [] });
    assert.equal((await engine.next('FAILED')).serial, 8);
    // A part that takes fewer than are its own is refused alone, and its descriptors are closed.
    const parts = [put('a'), part('DEL', ['a'], 9), put('b'), put('none'), put('c')];
    const counts = Buffer.from([1, 1, 1, 0, 1]);
    engine.send('BATCH', { flags, fields: [counts, ...parts], fds: [...three, 'r:/dev/random'] });
    const failed = await engine.next('FAILED');
    assert.deepEqual([failed.serial, failed.arg], [9, os.errno.EBADMSG]);
    engine.kill();
    const next = await bed.engine();
    await bed.replayed(next);
    const entries = next
      .pendingOf('ENTRY')
      .map(({ fields, fds }) => [String(fields[0]), ...fds.map((fd) => readlinkSync(`/proc/${next.pid}/fd/${fd}`))]);
    assert.deepEqual(entries, [['a', '/dev/zero'], ['b', '/dev/full'], ['none'], ['c', '/dev/random']]);
  });

  it('keeps entries and their descriptors for the next engine', async () => {
    const { engine } = await bed.keeper();
    engine.send('PUT', { fields: ['a', 'bytes'] });
    engine.send('PUT', { fields: ['b', 'old'], fds: ['r:/dev/null'] });
    engine.send('PUT', { fields: ['b', 'new'], fds: ['r:/dev/zero'] });
    engine.send('PUT', { fields: ['c', ''] });
    engine.send('DEL', { fields: ['c'] });
    const large = Buffer.alloc(3 << 20, 'x');
    engine.send('PUT', { serial: 9, fields: ['large', large], fds: ['r:/dev/full'] });
    assert.equal((await engine.next('DONE')).serial, 9);
    engine.kill();

    const next = await bed.engine();
    await bed.replayed(next);
    const entries = next.pendingOf('ENTRY');
    assert.deepEqual(
      entries.map((entry) => entry.fields[0]?.toString()),
      ['a', 'b', 'large'],
    );
    assert.deepEqual(entries[1]?.fields[1], Buffer.from('new'));
    assert.ok(entries[2]?.fields[1]?.equals(large));
    const targets = entries.map((entry) => entry.fds.map((fd) => readlinkSync(`/proc/${next.pid}/fd/${fd}`)));
    assert.deepEqual(targets, [[], ['/dev/zero'], ['/dev/full']]);
  });

  it('opens a FIFO for itself when asked to, before it answers', async () => {
    const path = join(bed.dir, 'fifo');
    execFileSync('mkfifo', [path]);
    const { engine } = await bed.keeper();
    engine.send('PUT', { flags: lm('F_REOPEN'), serial: 3, fields: ['both', ''], fds: [`path:${path}`] });
    await engine.next('DONE', ({ serial }) => serial === 3);
    // With neither end in the keeper the one would fail, the other be at its end at once.
    const writer = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    closeSync(writer);
    assert.throws(() => readSync(reader, Buffer.alloc(1)), { code: 'EAGAIN' });
    engine.kill();
    const next = await bed.engine();
    await bed.replayed(next);
    assert.throws(() => readSync(reader, Buffer.alloc(1)), { code: 'EAGAIN' });
    assert.deepEqual(
      next.pendingOf('ENTRY').map((entry) => entry.fds.length),
      [1],
    );
    // what it replays is open here, too
    for (const { fds } of next.pendingOf('ENTRY')) for (const fd of fds) next.command(`shut ${fd}`);
    next.send('DEL', { fields: ['both'] });
    await next.settled();
    assert.equal(readSync(reader, Buffer.alloc(1)), 0);
    closeSync(reader);
  });

  it('opens nothing but a FIFO, and keeps what it had', async () => {
    const { engine } = await bed.keeper();
    engine.send('PUT', { fields: ['a', 'old'], fds: ['r:/dev/zero'] });
    for (const fds of [['r:/dev/null'], [`path:${bed.dir}`], []]) {
      engine.send('PUT', { flags: lm('F_REOPEN'), serial: 4, fields: ['a', 'new'], fds });
      assert.equal((await engine.next('FAILED')).serial, 4);
    }
    engine.kill();
    const next = await bed.engine();
    await bed.replayed(next);
    assert.deepEqual(
      next.pendingOf('ENTRY').map((entry) => String(entry.fields[1])),
      ['old'],
    );
  });
});
