import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  createReadStream,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Bed, type Engine, eventually, lm, type Message, run } from './harness.js';

const TOTAL = 64 << 20;
const BLOCK = randomBytes(1 << 20);

interface Digest {
  readonly hash: string;
  readonly length: number;
}

/**
 * Digest of everything a stream gives, with a turn of the event loop after each chunk when slow.
 */
async function digest(stream: Readable, slow = false): Promise<Digest> {
  const hash = createHash('sha256');
  let length = 0;
  for await (const chunk of stream) {
    hash.update(chunk as Buffer);
    length += (chunk as Buffer).length;
    if (slow) await new Promise((done) => setImmediate(done));
  }
  return { hash: hash.digest('hex'), length };
}

/** Writes `total` bytes to a child's stdin and ends it. */
async function feed(child: ChildProcess, total: number): Promise<Digest> {
  const hash = createHash('sha256');
  assert.ok(child.stdin);
  for (let sent = 0; sent < total; sent += BLOCK.length) {
    hash.update(BLOCK);
    if (!child.stdin.write(BLOCK)) await once(child.stdin, 'drain');
  }
  child.stdin.end();
  await once(child, 'exit');
  return { hash: hash.digest('hex'), length: total };
}

describe('relay', () => {
  let bed: Bed;
  let engine: Engine;
  let keeper: number;
  const guards: number[] = [];
  beforeEach(async () => {
    bed = new Bed();
    ({ engine, pid: keeper } = await bed.keeper());
  });
  afterEach(async () => {
    for (const fd of guards.splice(0)) closeSync(fd);
    await bed.close();
  });

  const fifo = async (name: string): Promise<string> => {
    const path = join(bed.dir, name);
    assert.equal((await run('mkfifo', [path])).code, 0);
    return path;
  };
  /** Both ends of a FIFO, so that neither side sees an end of file yet. */
  const guard = (path: string): number => {
    const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    guards.push(fd);
    return fd;
  };
  const release = (fd: number): void => {
    guards.splice(guards.indexOf(fd), 1);
    closeSync(fd);
  };
  const relay = (name: string, src: number | string, dst: number | string, serial = 0): void =>
    engine.send('RELAY', { serial, fields: [name], fds: [src, dst] });
  const ended = (name: string): Promise<Message> => engine.next('RELAYED', (m) => m.fields[0]?.toString() === name);

  for (const [kind, slow] of [
    ['pipes', false],
    ['pipes', true],
    ['a pipe and a file', false],
  ] as const) {
    it(`copies byte for byte through ${kind}${slow ? ' with a slow reader' : ''}`, async () => {
      const source = await fifo('source');
      const held = guard(source);
      const target = kind === 'pipes' ? await fifo('target') : join(bed.dir, 'target');
      if (kind !== 'pipes') writeFileSync(target, '');
      const reading =
        kind === 'pipes' ? digest(createReadStream(target, { highWaterMark: slow ? 5000 : 65536 }), slow) : undefined;
      relay('out', `r:${source}`, `w:${target}`, 8);
      await engine.next('DONE');
      const writer = spawn('sh', ['-c', `exec cat > ${source}`], { stdio: ['pipe', 'ignore', 'inherit'] });
      const sent = await feed(writer, slow ? TOTAL / 8 : TOTAL);
      release(held);
      const end = await ended('out');
      assert.deepEqual([end.serial, end.arg], [0, sent.length]);
      assert.deepEqual(await (reading ?? digest(createReadStream(target))), sent);
    });
  }

  it('copies a terminal both ways, and takes its EIO for the end', async () => {
    const { master, slave } = await engine.pty();
    const raw = openSync(slave, constants.O_RDWR | constants.O_NOCTTY);
    assert.equal((await run('sh', ['-c', `stty raw -echo < ${slave}`])).code, 0);
    const [input, output] = [await fifo('in'), await fifo('out')];
    const heldIn = guard(input);
    const reading = digest(createReadStream(output, { highWaterMark: 3000 }), true);
    relay('tty-out', master, `w:${output}`, 1);
    relay('tty-in', `r:${input}`, master, 2);
    await engine.next('DONE', (m) => m.serial === 2);
    engine.command(`shut ${master}`);
    await engine.settled();

    const total = TOTAL / 8;
    const inside = spawn('sh', ['-c', `exec head -c ${total} < ${slave}`], { stdio: ['ignore', 'pipe', 'inherit'] });
    const typed = digest(inside.stdout, true);
    const typing = feed(spawn('sh', ['-c', `exec cat > ${input}`], { stdio: ['pipe', 'ignore', 'inherit'] }), total);
    const printing = feed(spawn('sh', ['-c', `exec cat > ${slave}`], { stdio: ['pipe', 'ignore', 'inherit'] }), total);
    assert.deepEqual(await typed, await typing);
    release(heldIn);
    assert.equal((await ended('tty-in')).serial, 0);
    const printed = await printing;
    closeSync(raw);
    const end = await ended('tty-out');
    assert.deepEqual([end.serial, end.arg], [0, total]);
    assert.deepEqual(await reading, printed);
  });

  it('uses the one descriptor of a terminal that is an entry both ways, until nothing uses it any more', async () => {
    const { master, slave } = await engine.pty();
    const inside = openSync(slave, constants.O_RDWR | constants.O_NOCTTY);
    guards.push(inside);
    assert.equal((await run('sh', ['-c', `stty raw -echo < ${slave}`])).code, 0);
    const [input, output] = [await fifo('in'), await fifo('out')];
    const [typing, printed] = [guard(input), guard(output)];
    const masters = (): number =>
      readdirSync(`/proc/${keeper}/fd`).filter((fd) => {
        const target = readlinkSync(`/proc/${keeper}/fd/${fd}`);
        return target.endsWith('ptmx');
      }).length;
    engine.send('PUT', { serial: 1, fields: ['tty', ''], fds: [master] });
    engine.send('RELAY', { serial: 2, fields: ['out', 'tty', ''], fds: [`w:${output}`] });
    engine.send('RELAY', { serial: 3, fields: ['in', '', 'tty'], fds: [`r:${input}`] });
    await engine.next('DONE', (m) => m.serial === 3);
    engine.command(`shut ${master}`);
    await engine.settled();
    assert.equal(masters(), 1);
    const arrives = (fd: number, text: string): Promise<void> => {
      let got = '';
      return eventually(text, () => {
        try {
          const bytes = Buffer.alloc(100);
          got += bytes.toString('utf8', 0, readSync(fd, bytes));
        } catch {
          // Nothing there right now.
        }
        return got === text;
      });
    };
    // A terminal that is read here must not make this process wait.
    const reading = guard(slave);
    for (const round of ['first', 'without its entry']) {
      writeSync(typing, `typed ${round}`);
      await arrives(reading, `typed ${round}`);
      writeSync(inside, `printed ${round}`);
      await arrives(printed, `printed ${round}`);
      engine.send('DEL', { fields: ['tty'] });
      await engine.settled();
      assert.equal(masters(), 1);
    }
    engine.send('UNRELAY', { fields: ['in'] });
    writeSync(inside, 'on');
    await arrives(printed, 'on');
    for (const fd of [reading, inside]) release(fd);
    assert.equal((await ended('out')).serial, 0);
    assert.equal(masters(), 0);
  });

  it('takes an entry only if it is a terminal that no other relay has this end of', async () => {
    const { master } = await engine.pty();
    engine.send('PUT', { serial: 1, fields: ['tty', ''], fds: [master] });
    engine.send('PUT', { serial: 1, fields: ['file', ''], fds: ['r:/dev/null'] });
    engine.send('PUT', { serial: 1, fields: ['bytes', ''] });
    await engine.settled();
    const before = readdirSync(`/proc/${keeper}/fd`).length;
    engine.send('RELAY', { serial: 2, fields: ['first', 'tty'], fds: ['w:/dev/null'] });
    await engine.next('DONE', (m) => m.serial === 2);
    for (const [fields, fds, errno] of [
      [['x', 'nothing'], ['w:/dev/null'], 2], // ENOENT
      [['x', 'bytes'], ['w:/dev/null'], 2],
      [['x', 'file'], ['w:/dev/null'], 25], // ENOTTY
      [['x', '', 'file'], ['r:/dev/null'], 25],
      [['x', 'tty'], ['w:/dev/null'], 16], // EBUSY
      [['x', 'tty'], ['w:/dev/null', 'w:/dev/null'], 74], // EBADMSG
      [['x', 'tty', 'tty'], ['w:/dev/null'], 74],
      [['x', '', ''], ['w:/dev/null'], 74],
      [['first', '', 'tty'], ['r:/dev/null'], 17], // EEXIST
    ] as const) {
      engine.send('RELAY', { serial: 3, fields: [...fields], fds: [...fds] });
      assert.equal((await engine.next('FAILED', (m) => m.serial === 3)).arg, errno, JSON.stringify(fields));
    }
    engine.send('UNRELAY', { fields: ['first'] });
    // Both its ends at once: what comes out goes in again.
    engine.send('RELAY', { serial: 4, fields: ['loop', 'tty', 'tty'] });
    await engine.next('DONE', (m) => m.serial === 4);
    engine.send('UNRELAY', { fields: ['loop'] });
    await engine.settled();
    assert.equal(readdirSync(`/proc/${keeper}/fd`).length, before);
  });

  it('finishes with what the source holds now, though its writer stays', async () => {
    const [source, target] = [await fifo('source'), await fifo('target')];
    const [from, to] = [guard(source), guard(target)];
    for (const [kind, dst] of [
      ['splice', `w:${target}`],
      ['copy', 'w:/dev/null'],
    ] as const) {
      writeSync(from, Buffer.alloc(5000, kind));
      relay(kind, `r:${source}`, dst, 3);
      await engine.next('DONE');
      engine.send('UNRELAY', { flags: lm('F_FINISH'), fields: [kind] });
      const end = await ended(kind);
      assert.deepEqual([end.serial, end.arg], [0, 5000], kind);
    }
    assert.equal(readSync(to, Buffer.alloc(10_000)), 5000);
    // The name is kept until it is dropped without the flag.
    relay('splice', `r:${source}`, `w:${target}`, 4);
    assert.equal((await engine.next('FAILED')).arg, 17); // EEXIST
    engine.send('UNRELAY', { fields: ['splice'] });
    relay('splice', `r:${source}`, `w:${target}`, 5);
    assert.equal((await engine.next('DONE')).serial, 5);
    engine.send('UNRELAY', { flags: lm('F_FINISH'), fields: ['nobody'] });
    assert.equal((await ended('nobody')).serial, 2); // ENOENT
  });

  it('finishes a relay whose destination is full only after the rest was taken', async () => {
    const [source, target] = [await fifo('source'), await fifo('target')];
    const [from, to] = [guard(source), guard(target)];
    relay('out', `r:${source}`, `w:${target}`, 3);
    await engine.next('DONE');
    const chunk = Buffer.alloc(4096, 'x');
    let written = 0;
    await eventually('both pipes full', () => {
      for (;;) {
        try {
          written += writeSync(from, chunk);
        } catch {
          return written >= 120_000;
        }
      }
    });
    engine.send('UNRELAY', { flags: lm('F_FINISH'), fields: ['out'] });
    await engine.settled();
    assert.deepEqual(engine.pendingOf('RELAYED'), []);
    let got = 0;
    await eventually('all read', () => {
      try {
        got += readSync(to, Buffer.alloc(65536));
      } catch {
        // Nothing there right now.
      }
      return got === written;
    });
    assert.equal((await ended('out')).arg, written);
  });

  it('ends with EPIPE when nobody reads any more', async () => {
    const [source, target] = [await fifo('source'), await fifo('target')];
    const [from, to] = [guard(source), guard(target)];
    relay('out', `r:${source}`, `w:${target}`, 1);
    await engine.next('DONE');
    release(to);
    writeSync(from, 'x');
    const end = await ended('out');
    assert.deepEqual([end.serial, end.arg], [32, 0]);
  });

  it('goes on without an engine and tells the next one', async () => {
    const [source, target] = [await fifo('source'), await fifo('target')];
    const [from, to] = [guard(source), guard(target)];
    relay('live', `r:${source}`, `w:${target}`);
    relay('over', 'r:/dev/null', 'w:/dev/null');
    await ended('over');
    engine.kill();
    writeSync(from, 'unattended');
    const buffer = Buffer.alloc(100);
    let got = 0;
    await eventually('bytes come through', () => {
      try {
        got += readSync(to, buffer, got, 100 - got, null);
      } catch {
        // Nothing there right now.
      }
      return got === 10;
    });
    assert.equal(buffer.toString('utf8', 0, got), 'unattended');
    const next = await bed.engine();
    await bed.replayed(next);
    const states = next.pendingOf('RELAY_STATE').map((m) => [m.fields[0]?.toString(), m.flags, m.serial]);
    assert.deepEqual(states, [
      ['live', 0, 0],
      ['over', lm('F_ENDED'), 0],
    ]);
  });

  it('does not spin on a source that hung up while its destination is full', async () => {
    const [source, target] = [await fifo('source'), await fifo('target')];
    const [from, to] = [guard(source), guard(target)];
    writeSync(to, Buffer.alloc(65536));
    writeSync(from, 'x');
    relay('out', `r:${source}`, `w:${target}`, 1);
    await engine.next('DONE');
    release(from);
    const ticks = (): number => {
      const fields = readFileSync(`/proc/${keeper}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
      return Number(fields[11]) + Number(fields[12]);
    };
    for (let i = 0; i < 20; i++) await engine.settled();
    const before = ticks();
    await new Promise((done) => setTimeout(done, 300));
    assert.ok(ticks() - before <= 5, 'idle');
    readSync(to, Buffer.alloc(65536));
    assert.equal((await ended('out')).arg, 1);
  });

  it('refuses what is no pair of descriptors and leaks none', async () => {
    await engine.settled();
    const before = readdirSync(`/proc/${keeper}/fd`).length;
    engine.send('RELAY', { serial: 1, fields: ['one'], fds: ['r:/dev/null'] });
    engine.send('RELAY', { serial: 2, fields: ['three'], fds: ['r:/dev/null', 'r:/dev/null', 'r:/dev/null'] });
    engine.send('RELAY', { serial: 3, fields: [''], fds: ['r:/dev/null', 'r:/dev/null'] });
    for (let i = 0; i < 3; i++) assert.equal((await engine.next('FAILED')).arg, 74); // EBADMSG
    relay('bad', 'r:/dev/zero', 'r:/dev/null');
    assert.equal((await ended('bad')).serial, 9); // EBADF
    assert.equal(readdirSync(`/proc/${keeper}/fd`).length, before);
  });
});
