import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Bed, type Engine, eventually, frame, isGone, KEEPER, lm } from './harness.js';

/**
 * Reads exactly n bytes. Never asks for more than there is: Node then says "readable" again and
 * again, and reads nothing more.
 */
async function bytes(socket: Socket, n: number): Promise<Buffer> {
  const got: Buffer[] = [];
  for (let missing = n; missing > 0; ) {
    const there = Math.min(socket.readableLength, missing);
    const chunk = there === 0 ? null : (socket.read(there) as Buffer | null);
    if (chunk === null) {
      await once(socket, 'readable');
    } else {
      got.push(chunk);
      missing -= chunk.length;
    }
  }
  return Buffer.concat(got);
}

describe('frames', () => {
  let bed: Bed;
  let engine: Engine;
  let socket: string;
  let keeper: number;
  beforeEach(async () => {
    bed = new Bed();
    ({ engine, socket, pid: keeper } = await bed.keeper());
  });
  afterEach(() => bed.close());

  it('cuts frames wherever the stream is split, and numbers connections from 1', async () => {
    const daemon = await bed.connect(socket);
    assert.equal((await engine.next('ACCEPTED')).arg, 1);
    const sent = [frame(1, Buffer.from('hello')), frame(3, Buffer.alloc(0)), frame(5, randomBytes(70))];
    const stream = Buffer.concat(sent);
    for (let at = 0; at < stream.length; at += 7) {
      daemon.write(stream.subarray(at, at + 7));
      await new Promise((done) => setImmediate(done));
    }
    for (const expected of sent) {
      const message = await engine.next('FRAME');
      assert.equal(message.arg, 1);
      assert.deepEqual(message.fields, [expected]);
    }
    (await bed.connect(socket)).destroy();
    assert.equal((await engine.next('ACCEPTED')).arg, 2);
    assert.equal((await engine.next('CLOSED')).arg, 2);
  });

  it('hands over the largest frame whole, and only the header of a larger one', async () => {
    const daemon = await bed.connect(socket);
    const largest = frame(1, randomBytes(4 << 20));
    daemon.write(largest);
    const message = await engine.next('FRAME');
    assert.ok(message.fields[0]?.equals(largest));
    assert.equal(message.flags, 0);
    daemon.write(frame(3, Buffer.alloc((4 << 20) + 1, 'z')));
    daemon.write(frame(5, Buffer.from('after')));
    const oversize = await engine.next('FRAME');
    assert.equal(oversize.flags, lm('F_OVERSIZE'));
    assert.deepEqual(oversize.fields, [frame(3, Buffer.alloc(0), (4 << 20) + 1)]);
    assert.deepEqual((await engine.next('FRAME')).fields, [frame(5, Buffer.from('after'))]);
  });

  it('replays what was neither answered nor released, and writes answers once', async () => {
    const daemon = await bed.connect(socket);
    for (const stream of [1, 3, 5, 7]) daemon.write(frame(stream, Buffer.from(`request ${stream}`)));
    const frames = [];
    for (let i = 0; i < 4; i++) frames.push(await engine.next('FRAME'));
    engine.send('SEND', { serial: frames[0]?.serial ?? 0, arg: 1, fields: ['answer 1'] });
    engine.send('RELEASE', { serial: frames[2]?.serial ?? 0, arg: 1 });
    engine.send('SEND', { arg: 1, fields: ['+'] });
    engine.send('SEND', { arg: 77, fields: ['to nobody'] });
    assert.equal((await bytes(daemon, 9)).toString(), 'answer 1+');
    await engine.settled();
    engine.kill();
    daemon.write(frame(9, Buffer.from('while away')));
    const next = await bed.engine();
    await bed.replayed(next);
    assert.deepEqual(
      next.pendingOf('ACCEPTED').map((m) => m.arg),
      [1],
    );
    const last = await next.next('FRAME', (m) => m.fields[0]?.subarray(10).toString() === 'while away');
    const replayed = next.pendingOf('FRAME');
    assert.deepEqual(
      replayed.map((m) => m.fields[0]?.subarray(10).toString()),
      ['request 3', 'request 7'],
    );
    assert.deepEqual(
      replayed.map((m) => m.serial),
      [frames[1]?.serial, frames[3]?.serial],
    );
    assert.ok(last.serial > (frames[3]?.serial ?? 0));
    next.send('SEND', { serial: last.serial, arg: 1, fields: ['still the same connection'] });
    assert.equal((await bytes(daemon, 25)).toString(), 'still the same connection');
  });

  it('drops the frames of a connection that is gone', async () => {
    const daemon = await bed.connect(socket);
    daemon.write(frame(1, Buffer.from('x')));
    await engine.next('FRAME');
    daemon.destroy();
    await engine.next('CLOSED');
    engine.kill();
    const next = await bed.engine();
    await bed.replayed(next);
    assert.deepEqual([next.pendingOf('ACCEPTED'), next.pendingOf('FRAME')], [[], []]);
  });

  it('closes after what was sent', async () => {
    const daemon = await bed.connect(socket);
    await engine.next('ACCEPTED');
    const large = randomBytes(3 << 20);
    engine.send('SEND', { arg: 1, fields: [large] });
    engine.send('SHUT', { arg: 1 });
    const got: Buffer[] = [];
    for await (const chunk of daemon) got.push(chunk as Buffer);
    assert.ok(Buffer.concat(got).equals(large));
    await engine.settled();
    assert.deepEqual(engine.pendingOf('CLOSED'), []);
  });

  it('stops reading a connection at 16 MiB of unanswered frames and goes on after they are released', async () => {
    const daemon = await bed.connect(socket);
    const one = frame(1, Buffer.alloc(1 << 20, 'q'));
    for (let i = 0; i < 24; i++) daemon.write(one);
    const taken = [];
    for (let i = 0; i < 16; i++) taken.push(await engine.next('FRAME'));
    await engine.settled();
    const early = engine.pendingOf('FRAME').length;
    assert.ok(early <= 1, `${early} more than allowed`);
    for (const { serial } of taken) engine.send('RELEASE', { serial, arg: 1 });
    for (let i = 0; i < 8; i++) await engine.next('FRAME');
  });

  const noSize = /asan/.test(KEEPER) && 'the sanitizer keeps what was freed';
  it('gives back the memory that a flood of small frames took', { skip: noSize }, async () => {
    // What is left over goes with the next PING; an engine that does not listen is replaced after
    // the fourth.
    await bed.close();
    bed = new Bed({ LAMINA_PING_MS: '3000' });
    ({ engine, socket, pid: keeper } = await bed.keeper());
    await engine.settled();
    const kib = (): number => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${keeper}/status`, 'utf8'))?.[1]);
    const before = kib();
    engine.command('hold 0');
    const daemon = await bed.connect(socket);
    const block = Buffer.concat(Array.from({ length: 5000 }, () => frame(1, Buffer.from('tiny'))));
    // Until the keeper reads no more of it.
    await eventually('20 MiB are held', () => {
      if (daemon.writableLength === 0) daemon.write(block);
      return kib() - before > 20 << 10;
    });
    // Behind all that, and it stays.
    engine.send('PUT', { fields: ['kept', 'bytes'] });
    daemon.destroy();
    engine.command('go 0');
    await eventually('as small as before', () => kib() - before < 1024);
  });

  it('stops reading a connection that does not take its answers', async () => {
    const daemon = await bed.connect(socket);
    daemon.pause();
    await engine.next('ACCEPTED');
    const answer = Buffer.alloc(4 << 20, 'a');
    for (let i = 0; i < 5; i++) engine.send('SEND', { arg: 1, fields: [answer] });
    await engine.settled();
    daemon.write(frame(1, Buffer.from('too early')));
    await engine.settled();
    assert.deepEqual(engine.pendingOf('FRAME'), []);
    let got = 0;
    daemon.on('data', (chunk: Buffer) => {
      got += chunk.length;
    });
    daemon.resume();
    await engine.next('FRAME');
    while (got < 5 * answer.length) await once(daemon, 'data');
    assert.equal(got, 5 * answer.length);
  });

  describe('of a connection that the engine has made', () => {
    let daemon: Socket;
    let server: Server;
    beforeEach(async () => {
      const path = join(bed.dir, 'events');
      server = createServer().listen(path);
      await once(server, 'listening');
      const accepted = once(server, 'connection') as Promise<[Socket]>;
      engine.send('ATTACH', { serial: 5, fds: [`unix:${path}`] });
      [daemon] = await accepted;
      const told = await engine.next('ACCEPTED');
      assert.deepEqual([told.arg, told.serial, told.flags], [1, 5, lm('F_ATTACHED')]);
    });
    afterEach(() => {
      daemon.destroy();
      server.close();
    });

    it('writes requests and keeps answers until they are released, for the next engine too', async () => {
      engine.send('SEND', { arg: 1, fields: ['request'] });
      assert.equal((await bytes(daemon, 7)).toString(), 'request');
      for (const stream of [1, 3]) daemon.write(frame(stream, Buffer.from(`answer ${stream}`)));
      const first = await engine.next('FRAME');
      const second = await engine.next('FRAME');
      engine.send('RELEASE', { serial: first.serial, arg: 1 });
      await engine.settled();
      engine.kill();
      const next = await bed.engine();
      await bed.replayed(next);
      const told = next.pendingOf('ACCEPTED').map(({ arg, serial, flags }) => ({ arg, serial, flags }));
      assert.deepEqual(told, [{ arg: 1, serial: 0, flags: lm('F_ATTACHED') }]);
      const [replayed, ...more] = next.pendingOf('FRAME');
      assert.deepEqual(more, []);
      assert.equal(replayed?.serial, second.serial);
      assert.equal(replayed?.fields[0]?.subarray(10).toString(), 'answer 3');
      next.send('SEND', { arg: 1, fields: ['still'] });
      assert.equal((await bytes(daemon, 5)).toString(), 'still');
    });

    it('is done with a message of an engine that died right after it', async () => {
      const note = Buffer.from('7');
      const part = (type: string, arg: number, fields: readonly Buffer[]): Buffer => {
        const head = Buffer.alloc(24);
        head.write('L');
        head[1] = lm('PROTOCOL');
        head.writeUInt16LE(lm(`MSG_${type}`), 2);
        head.writeUInt32LE(fields.length, 12);
        head.writeBigUInt64LE(BigInt(arg), 16);
        const size = (field: Buffer): Buffer => Buffer.from(Uint32Array.of(field.length).buffer);
        return Buffer.concat([head, ...fields.flatMap((field) => [size(field), field])]);
      };
      process.kill(keeper, 'SIGSTOP');
      engine.send('BATCH', {
        fields: [part('PUT', 0, [Buffer.from('sent'), note]), part('SEND', 1, [Buffer.from('event')])],
      });
      // answered by the fake engine itself, so the message is out
      await engine.pty();
      engine.kill();
      await eventually('the engine is gone', () => isGone(engine.pid));
      process.kill(keeper, 'SIGCONT');
      assert.equal((await bytes(daemon, 5)).toString(), 'event');
      const next = await bed.engine();
      await bed.replayed(next);
      assert.deepEqual(
        next.pendingOf('ENTRY').map((entry) => String(entry.fields[1])),
        ['7'],
      );
    });

    it('tells when the daemon closes it, and closes it when told', async () => {
      daemon.destroy();
      assert.equal((await engine.next('CLOSED')).arg, 1);
      const accepted = once(server, 'connection') as Promise<[Socket]>;
      engine.send('ATTACH', { fds: [`unix:${join(bed.dir, 'events')}`] });
      [daemon] = await accepted;
      assert.equal((await engine.next('ACCEPTED')).arg, 2);
      daemon.resume();
      const ended = once(daemon, 'end');
      engine.send('SHUT', { arg: 2 });
      await ended;
    });

    it('refuses what is no stream socket', async () => {
      engine.send('ATTACH', { serial: 6, fds: ['r:/dev/null'] });
      assert.deepEqual([(await engine.next('FAILED')).serial], [6]);
    });
  });
});
