import assert from 'node:assert/strict';
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { isErrno } from '../../src/base/index.js';
import { Bed, type Engine, lm, type Message, run } from './harness.js';

/** Never, as far as a test can tell. */
const FOR_EVER_MS = 86_400_000;
const UNREAD = lm('F_UNREAD');

describe('output that was not read yet', () => {
  let bed: Bed;
  let engine: Engine;
  let keeper: number;
  const opened: number[] = [];

  beforeEach(async () => {
    bed = new Bed();
    ({ engine, pid: keeper } = await bed.keeper());
  });
  afterEach(async () => {
    for (const fd of opened.splice(0)) closeSync(fd);
    await bed.close();
  });

  const open = (path: string, mode: number): number => {
    const fd = openSync(path, mode | constants.O_NONBLOCK);
    opened.push(fd);
    return fd;
  };
  const close = (fd: number): void => {
    opened.splice(opened.indexOf(fd), 1);
    closeSync(fd);
  };
  /** A FIFO whose reading end the keeper holds under this name, and a writer. */
  const held = async (name: string): Promise<{ readonly path: string; readonly writer: number }> => {
    const path = join(bed.dir, name.replaceAll('/', '-'));
    assert.equal((await run('mkfifo', [path])).code, 0);
    const both = open(path, constants.O_RDWR);
    engine.send('PUT', { serial: 1, fields: [name, ''], fds: [`r:${path}`] });
    await engine.next('DONE');
    const writer = open(path, constants.O_WRONLY);
    close(both);
    return { path, writer };
  };
  const readOut = (prefix: string, serial: number, ms = FOR_EVER_MS): void =>
    engine.send('READ_OUT', { serial, arg: ms, fields: [prefix] });
  const answered = (serial: number): Promise<Message> => engine.next('DONE', (m) => m.serial === serial);
  const isAnswered = async (serial: number): Promise<boolean> => {
    await engine.settled();
    return engine.pendingOf('DONE').some((m) => m.serial === serial);
  };

  it('is waited for, that of this name and no other', async () => {
    const [mine, other] = [await held('io/a/out'), await held('io/b/out')];
    const readers = [mine, other].map(({ path }) => open(path, constants.O_RDONLY));
    readOut('io/a/', 5);
    await answered(5);
    writeSync(mine.writer, 'output');
    readOut('io/a/', 6);
    readOut('io/b/', 7);
    await answered(7);
    assert.equal(await isAnswered(6), false);
    readSync(readers[0] ?? -1, Buffer.alloc(3));
    assert.equal(await isAnswered(6), false);
    readSync(readers[0] ?? -1, Buffer.alloc(100));
    await answered(6);
  });

  it('is not waited for when nobody else has the FIFO open, and stays there', async () => {
    const { path, writer } = await held('io/a/out');
    writeSync(writer, 'output');
    readOut('io/a/', 5);
    await answered(5);
    const reader = open(path, constants.O_RDONLY);
    readOut('io/a/', 6);
    assert.equal(await isAnswered(6), false);
    close(reader);
    await answered(6);
    // Also with nobody left but the keeper.
    close(writer);
    const late = open(path, constants.O_RDONLY);
    const bytes = Buffer.alloc(100);
    assert.equal(bytes.toString('utf8', 0, readSync(late, bytes)), 'output');
  });

  it('is waited for so long only, and by an engine that lives', async () => {
    const { path, writer } = await held('io/a/out');
    open(path, constants.O_RDONLY);
    writeSync(writer, 'output');
    readOut('io/a/', 5, 20);
    await answered(5);
    readOut('io/a/', 6);
    await engine.settled();
    engine.kill();
    engine = await bed.engine();
    await bed.replayed(engine);
    readOut('io/a/', 7, 20);
    await answered(7);
    assert.deepEqual(engine.pendingOf('DONE'), []);
  });

  it('may be on its way: a relay has more than the FIFO takes', async () => {
    const { path, writer } = await held('io/a/out');
    const reader = open(path, constants.O_RDONLY);
    const source = await held('source');
    // More than a FIFO holds, in two.
    writeSync(source.writer, Buffer.alloc(60_000));
    writeSync(writer, Buffer.alloc(60_000));
    engine.send('RELAY', { serial: 4, fields: ['io/a/relay'], fds: [`r:${source.path}`, `w:${path}`] });
    assert.equal((await answered(4)).arg, 1);
    // The keeper gets to the question before it sees that there is room in the FIFO, which is empty
    // for a moment.
    process.kill(keeper, 'SIGSTOP');
    readOut('io/a/', 5);
    await engine.pty();
    let left = 120_000;
    const read = (): boolean => {
      try {
        left -= readSync(reader, Buffer.alloc(120_000));
        return true;
      } catch (error) {
        assert.ok(isErrno(error, 'EAGAIN'));
        return false;
      }
    };
    while (read());
    process.kill(keeper, 'SIGCONT');
    while (left > 0) {
      assert.equal(await isAnswered(5), false);
      read();
    }
    await answered(5);
    // What was begun with nothing in it says so.
    const empty = await held('empty');
    engine.send('RELAY', { serial: 6, fields: ['other'], fds: [`r:${empty.path}`, `w:${path}`] });
    assert.equal((await answered(6)).arg, 0);
  });

  it('is told of with an exit', async () => {
    const { path, writer } = await held('io/a/out');
    const reader = open(path, constants.O_RDONLY);
    const exit = async (name: string): Promise<number> => {
      engine.send('SPAWN', { serial: 9, fields: [name, '/', 'true\0', '', ''] });
      return (await engine.next('EXITED', (m) => m.fields[0]?.toString() === name)).flags;
    };
    assert.equal(await exit('first'), 0);
    writeSync(writer, 'output');
    assert.equal(await exit('second'), UNREAD);
    readSync(reader, Buffer.alloc(100));
    assert.equal(await exit('third'), 0);
    // Whoever gets reports again has to ask.
    engine.kill();
    engine = await bed.engine();
    await bed.replayed(engine);
    assert.deepEqual(
      engine.pendingOf('EXITED').map((m) => m.flags),
      [UNREAD, UNREAD, UNREAD],
    );
  });
});
