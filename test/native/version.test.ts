/** Keepers and engines of different age: "Versions" in native/README.md. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, it } from 'node:test';
import { Bed, type Engine, eventually, frame, isGone, lm } from './harness.js';

const EBADMSG = 74;
const EOPNOTSUPP = 95;
/** A flag that no version has. */
const UNKNOWN_FLAG = 2 ** 30;
const UNKNOWN_TYPE = 4242;

/** A header alone, as hex. */
function header(type: number, values: { version?: number; serial?: number; arg?: number } = {}): string {
  const bytes = Buffer.alloc(lm('HEADER_SIZE'));
  bytes[0] = lm('MAGIC');
  bytes[1] = values.version ?? lm('PROTOCOL');
  bytes.writeUInt16LE(type, 2);
  bytes.writeUInt32LE(values.serial ?? 0, 8);
  bytes.writeUInt32LE(values.arg ?? 0, 16);
  return bytes.toString('hex');
}

describe('a keeper with an engine that knows more', () => {
  let bed: Bed;
  afterEach(() => bed.close());

  it('obeys messages with fields and flags it does not know', async () => {
    bed = new Bed();
    const { engine, socket } = await bed.keeper();
    engine.send('PUT', { serial: 1, flags: UNKNOWN_FLAG, fields: ['name', 'bytes', 'later', 'still later'] });
    await engine.next('DONE', (message) => message.serial === 1);
    engine.send('WELCOME', { flags: UNKNOWN_FLAG, arg: engine.pid, fields: ['a', 'b'] });
    const daemon = await bed.connect(socket);
    daemon.write(frame(1, Buffer.from('call')));
    const { serial, arg } = await engine.next('FRAME');
    const reply = frame(1, Buffer.from('reply'));
    engine.send('SEND', { serial, arg, flags: UNKNOWN_FLAG, fields: [reply, 'a hint of later versions'] });
    const got: Buffer[] = [];
    daemon.on('data', (chunk: Buffer) => got.push(chunk));
    await eventually('the reply', () => Buffer.concat(got).equals(reply));
    engine.kill();
    const next = await bed.engine();
    await bed.replayed(next);
    // What it did not know it does not repeat.
    assert.deepEqual(
      next.pendingOf('ENTRY').map(({ fields }) => fields.map(String)),
      [['name', 'bytes']],
    );
    daemon.destroy();
  });

  it('refuses requests it does not know, by their number, and keeps nothing of them', async () => {
    bed = new Bed();
    const { engine, pid } = await bed.keeper();
    await engine.settled();
    const before = readdirSync(`/proc/${pid}/fd`).length;
    for (let serial = 1; serial <= 20; serial += 1) {
      engine.command(`raw 0 ${header(UNKNOWN_TYPE, { serial })} r:/dev/null,r:/dev/null`);
      const failed = await engine.next('FAILED', (message) => message.serial === serial);
      assert.equal(failed.arg, EOPNOTSUPP);
    }
    assert.equal(readdirSync(`/proc/${pid}/fd`).length, before);
  });

  it('refuses a message in another version once they have agreed', async () => {
    bed = new Bed();
    const { engine } = await bed.keeper();
    await engine.settled();
    for (const version of [0, lm('PROTOCOL') + 1, 255]) {
      engine.command(`raw 0 ${header(lm('MSG_EXIT'), { version, serial: version + 1 })}`);
      assert.equal((await engine.next('FAILED', ({ serial }) => serial === version + 1)).arg, EBADMSG);
    }
    await engine.settled();
  });
});

describe('a keeper with an engine of another version', () => {
  let bed: Bed;
  let log: string;
  afterEach(() => bed.close());

  function begin(env: NodeJS.ProcessEnv): void {
    bed = new Bed(env);
    log = join(bed.bundle, 'log');
    writeFileSync(log, '');
  }

  /** The shared engine, and the one the keeper starts for itself. */
  async function both(): Promise<[Engine, Engine]> {
    await bed.start();
    const shared = await bed.engine();
    const own = await bed.engine();
    assert.ok(own.args.includes('--dedicated'));
    return [shared, own];
  }

  for (const [age, version] of [
    ['a newer', lm('PROTOCOL') + 1],
    ['an older', lm('PROTOCOL') - 1],
  ] as const) {
    it(`starts one of its own when ${age} one welcomes it in version ${version}`, async () => {
      begin({ LAMINA_FAKE_VERSION: String(version) });
      const [shared, own] = await both();
      const { arg: keeper } = await bed.replayed(own);
      await shared.lines.take((line) => line === 'close 0', 'the end of the first link');
      assert.match(
        readFileSync(log, 'utf8'),
        new RegExp(`the engine speaks version ${version}, not ${lm('PROTOCOL')}`),
      );
      own.send('PUT', { serial: 1, fields: ['served', ''] });
      await own.next('DONE');
      assert.equal(isGone(keeper), false);
    });
  }

  it('understands being declined in any version', async () => {
    begin({ LAMINA_FAKE_VERSION: '200', LAMINA_FAKE_DECLINE: '1' });
    const [, own] = await both();
    await bed.replayed(own);
  });

  for (const [what, env] of [
    ['declines', { LAMINA_FAKE_DECLINE: 'all' }],
    ['speaks another version', { LAMINA_FAKE_VERSION: '2', LAMINA_FAKE_OWN_VERSION: '3' }],
  ] as const) {
    it(`tries again, ever more slowly, when its own ${what}, too`, async () => {
      begin(env);
      const ends: number[] = [];
      // From before the first to after the last: however late either is noticed, this is never less
      // than what lies between them.
      const since = performance.now();
      await bed.start();
      for (let i = 0; i < 6; i += 1) {
        const engine = await bed.engine();
        const hello = await engine.next('HELLO');
        bed.owns(hello.arg);
        if (engine.args.includes('--dedicated')) ends.push(performance.now() - since);
      }
      assert.equal(ends.length, 5, `the shared one and five of its own: ${ends.join(' ')}`);
      // 20, 40, 80 ms and more lie between the rounds.
      assert.ok((ends.at(-1) ?? 0) > 100, `tried at ${ends.map(Math.round).join(', ')} ms`);
      assert.match(readFileSync(log, 'utf8'), /our own engine does not serve us/);
    });
  }

  it('does nothing that comes after DECLINE, not even in the same message', async () => {
    begin({});
    const { engine } = await bed.keeper();
    const put = Buffer.from(header(lm('MSG_PUT'), { serial: 9 }), 'hex');
    put.writeUInt32LE(2, 12);
    const fields = Buffer.from([4, 0, 0, 0, ...Buffer.from('name'), 0, 0, 0, 0]);
    const decline = Buffer.from(header(lm('MSG_DECLINE')), 'hex');
    engine.send('BATCH', { fields: [decline, Buffer.concat([put, fields])] });
    const own = await bed.engine();
    await bed.replayed(own);
    await own.settled();
    assert.equal(own.pendingOf('DONE').length, 0);
    own.kill();
    // The shared one still runs, and is asked first.
    await bed.replayed(engine);
    assert.equal(engine.pendingOf('ENTRY').length, 0);
  });

  it('does not take noise for a sign of life', async () => {
    begin({ LAMINA_PING_MS: '500', LAMINA_FAKE_MUTE: '1' });
    await bed.start();
    const engine = await bed.engine();
    const { arg: keeper } = await bed.replayed(engine);
    const noise = setInterval(() => engine.command(`raw 0 ${header(lm('MSG_PONG'), { version: 9 })}`), 10);
    try {
      await bed.replayed(await bed.engine());
    } finally {
      clearInterval(noise);
    }
    await eventually('the one that is mute is killed', () => isGone(engine.pid));
    assert.equal(isGone(keeper), false);
  });
});
