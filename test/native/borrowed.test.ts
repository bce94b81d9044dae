import assert from 'node:assert/strict';
import { closeSync, constants, existsSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { isErrno } from '../../src/base/index.js';
import { encodeMessage, LM_HEADER_SIZE } from '../../src/sys/index.js';
import { Bed, type Engine, eventually, lm, run } from './harness.js';

/** A message as a part of a batch. */
function part(
  type: string,
  fields: readonly (string | Buffer)[],
  head: { serial?: number; arg?: number } = {},
): Buffer {
  return encodeMessage({ type: lm(`MSG_${type}`), ...head, fields: [...fields] }).data;
}

/** A well-formed SPAWN that makes a file. */
function spawnOf(file: string): Buffer {
  const argv = Buffer.from(`/usr/bin/touch\0${file}\0`);
  return part('SPAWN', ['run touch', '/', argv, '', ''], { serial: 66 });
}

/** Where the bytes of a message's field begin in its packet. */
function fieldAt(fields: readonly Buffer[], index: number): number {
  return fields.slice(0, index).reduce((at, field) => at + 4 + field.length, LM_HEADER_SIZE) + 4;
}

/** Text that has a message at this place, and spaces up to there. */
function textWith(message: Buffer, at: number): Buffer {
  return Buffer.concat([Buffer.alloc(at, ' '), message]);
}

describe('what a message says', () => {
  let bed: Bed;
  let engine: Engine;
  let keeper: number;
  let marker: string;
  const opened: number[] = [];

  beforeEach(async () => {
    bed = new Bed();
    ({ engine, pid: keeper } = await bed.keeper());
    marker = join(bed.dir, 'made by a container');
  });
  afterEach(async () => {
    for (const fd of opened.splice(0)) closeSync(fd);
    await bed.close();
  });

  const open = (path: string): number => {
    const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK | constants.O_NOCTTY);
    opened.push(fd);
    return fd;
  };
  /** A FIFO with both its ends open here. */
  const fifo = async (name: string): Promise<{ readonly path: string; readonly fd: number }> => {
    const path = join(bed.dir, name);
    assert.equal((await run('mkfifo', [path])).code, 0);
    return { path, fd: open(path) };
  };
  const received = async (fd: number, expected: Buffer): Promise<void> => {
    const bytes = Buffer.alloc(expected.length + 1);
    let got = 0;
    await eventually('the bytes come through', () => {
      try {
        got += readSync(fd, bytes, got, bytes.length - got, null);
      } catch (error) {
        if (!isErrno(error, 'EAGAIN')) throw error;
      }
      return got >= expected.length;
    });
    assert.ok(bytes.subarray(0, got).equals(expected), 'as they were written');
  };
  /** What the keeper has of entries, told to the next engine. */
  const entries = async (): Promise<string[][]> => {
    engine.kill();
    const next = await bed.engine();
    await bed.replayed(next);
    return next.pendingOf('ENTRY').map(({ fields }) => fields.map(String));
  };
  const nothingRan = async (): Promise<void> => {
    await engine.settled();
    assert.deepEqual(engine.pendingOf('SPAWNED'), []);
    assert.equal(existsSync(marker), false);
  };
  /** A batch that begins a relay, of a source that holds a SPAWN where the PUT after it lies. */
  const begin = (name: string): { readonly fields: Buffer[]; readonly text: Buffer; readonly value: string } => {
    const spawn = spawnOf(marker);
    const overhead = part('PUT', ['kept', '']).length;
    const value = 'v'.repeat(spawn.length - overhead);
    const fields = [
      Buffer.of(2, 0, 0),
      part('RELAY', [name], { serial: 5 }),
      part('PUT', ['kept', value]),
      part('PUT', ['last', '1']),
    ];
    return { fields, text: textWith(spawn, fieldAt(fields, 2)), value };
  };

  it('holds while a relay begins whose source has a message waiting', async () => {
    const [source, target] = [await fifo('source'), await fifo('target')];
    const { fields, text, value } = begin('out');
    writeSync(source.fd, text);
    engine.send('BATCH', { flags: lm('F_COUNTED'), fields, fds: [`r:${source.path}`, `w:${target.path}`] });
    assert.equal((await engine.next('DONE')).arg, 1);
    await nothingRan();
    await received(target.fd, text);
    assert.deepEqual(await entries(), [
      ['kept', value],
      ['last', '1'],
    ]);
  });

  it('holds while a terminal whose output waits is connected', async () => {
    const { master, slave } = await engine.pty();
    const inside = open(slave);
    assert.equal((await run('sh', ['-c', `stty raw -echo < ${slave}`])).code, 0);
    const target = await fifo('target');
    const { fields, text, value } = begin('out');
    writeSync(inside, text);
    engine.send('BATCH', { flags: lm('F_COUNTED'), fields, fds: [master, `w:${target.path}`] });
    await engine.next('DONE');
    await nothingRan();
    await received(target.fd, text);
    assert.deepEqual((await entries())[0], ['kept', value]);
  });

  for (const size of [1, 8, 40, 200, 4000, 15_000, 16_384, 40_000]) {
    it(`holds while a relay begins whose source has ${size} bytes waiting`, async () => {
      const [source, target] = [await fifo('source'), await fifo('target')];
      const text = Buffer.alloc(size, 'x');
      writeSync(source.fd, text);
      const puts = Array.from({ length: 20 }, (_, i) => part('PUT', [`entry ${i}`, 'y'.repeat(200)]));
      engine.send('BATCH', {
        flags: lm('F_COUNTED'),
        fields: [Buffer.of(2, ...puts.map(() => 0)), part('RELAY', ['in']), ...puts],
        fds: [`r:${source.path}`, `w:${target.path}`],
      });
      await engine.settled();
      await received(target.fd, text);
      assert.deepEqual(
        await entries(),
        puts.map((_, i) => [`entry ${i}`, 'y'.repeat(200)]),
      );
    });
  }

  it('holds while output is moved on because it is asked whether it was read', async () => {
    const [source, target] = [await fifo('source'), await fifo('target')];
    engine.send('PUT', { serial: 1, fields: ['io/a/hold', ''], fds: [`r:${target.path}`] });
    engine.send('RELAY', { serial: 2, fields: ['io/a/out'], fds: [`r:${source.path}`, `w:${target.path}`] });
    await engine.next('DONE', (m) => m.serial === 2);
    const spawn = spawnOf(marker);
    const overhead = part('PUT', ['kept', '']).length;
    const value = 'v'.repeat(spawn.length - overhead);
    const fields = [part('READ_OUT', ['io/a/'], { serial: 3, arg: 86_400_000 }), part('PUT', ['kept', value])];
    const text = textWith(spawn, fieldAt(fields, 1));
    // The batch is ahead of the output in what the keeper then finds.
    process.kill(keeper, 'SIGSTOP');
    engine.send('BATCH', { fields });
    engine.command('pty');
    await engine.lines.take((line) => line.startsWith('pty '), 'all before it was sent');
    writeSync(source.fd, text);
    process.kill(keeper, 'SIGCONT');
    await nothingRan();
    await received(target.fd, text);
    await engine.next('DONE', (m) => m.serial === 3);
    assert.deepEqual((await entries()).slice(1), [['kept', value]]);
  });

  it('and which descriptors are its own: they go with the part they were counted for', async () => {
    const [source, target] = [await fifo('source'), await fifo('target')];
    const many = Array.from({ length: 14 }, () => 'r:/dev/null');
    for (const [counts, fds] of [
      [
        [2, 14],
        [`r:${source.path}`, `w:${target.path}`, ...many],
      ],
      [
        [2, 15],
        [`r:${source.path}`, `w:${target.path}`, ...many],
      ],
      [[255, 255], [`r:${source.path}`]],
      [
        [16, 0],
        [`r:${source.path}`, `w:${target.path}`],
      ],
    ] as const) {
      writeSync(source.fd, 'waiting');
      const map = Buffer.alloc(4 * 14);
      for (let i = 0; i < 14; i += 1) map.writeInt32LE(i + 3, 4 * i);
      engine.send('BATCH', {
        serial: 9,
        flags: lm('F_COUNTED'),
        fields: [
          Buffer.from(counts),
          part('RELAY', ['many'], { serial: 7 }),
          part('SPAWN', ['run true', '/', '/bin/true\0', '', map], { serial: 8 }),
        ],
        fds,
      });
      const [first, second] = counts;
      if (first === 2 && second === 14) {
        assert.equal((await engine.next('SPAWNED')).serial, 8);
        await engine.next('EXITED');
        engine.send('UNRELAY', { fields: ['many'] });
      } else {
        const failed = await engine.next('FAILED');
        assert.deepEqual([failed.serial, failed.arg], [9, 74]); // EBADMSG
      }
      await engine.settled();
      readSync(target.fd, Buffer.alloc(4096));
      if (second !== 14) readSync(source.fd, Buffer.alloc(4096));
      writeSync(target.fd, 'x');
    }
    assert.deepEqual(engine.pendingOf('SPAWNED'), []);
  });
});
