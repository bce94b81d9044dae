import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Bed, type Engine, lm } from './harness.js';

describe('an engine gone mad', () => {
  let bed: Bed;
  let engine: Engine;
  let keeper: number;
  beforeEach(async () => {
    bed = new Bed();
    ({ engine, pid: keeper } = await bed.keeper());
  });
  afterEach(() => bed.close());

  /** Header with these values, as hex. */
  const header = (type: number, flags: number, count: number, magic = 76, version = 1): string => {
    const bytes = Buffer.alloc(24);
    bytes[0] = magic;
    bytes[1] = version;
    bytes.writeUInt16LE(type, 2);
    bytes.writeUInt32LE(flags, 4);
    bytes.writeUInt32LE(42, 8);
    bytes.writeUInt32LE(count, 12);
    return bytes.toString('hex');
  };

  it('is told about each ill-formed message, and nothing else happens', async () => {
    const put = lm('MSG_PUT');
    const cases = [
      '00',
      header(put, 0, 0).slice(0, 40),
      header(put, 0, 0, 75),
      header(put, 0, 0, 76, 2),
      header(put, 0, 0xffffffff),
      `${header(put, 0, 1)}ffffffff`,
      `${header(put, 0, 1)}0500000061`,
      `${header(put, 0, 2)}0100000061`,
      `${header(put, 0, 1)}010000006161`,
      header(put, lm('F_BODY_FD'), 2),
      `${header(put, lm('F_BODY_FD'), 2)}00000000`,
      `${header(put, lm('F_BODY_FD'), 2)} r:/dev/zero`,
      `${header(put, lm('F_BODY_FD'), 2)} r:/proc/self/exe`,
      `${header(put, 0, 2)}0000000000000000`,
      `${header(put, 0, 2)}010000006100000000 ${Array(17).fill('r:/dev/null').join(',')}`,
      `${header(put, 0, 2)}010000006100000000 r:/dev/null,r:/dev/null`,
      header(lm('MSG_SEND'), 0, 0),
      header(lm('MSG_SPAWN'), 0, 4),
    ];
    await engine.settled();
    const before = readdirSync(`/proc/${keeper}/fd`).length;
    for (const bytes of cases) {
      engine.command(`raw 0 ${bytes}`);
      assert.equal((await engine.next('FAILED')).arg, 74, bytes); // EBADMSG
    }
    engine.command(`raw 0 ${header(9999, 0, 0)}`);
    const unknown = await engine.next('FAILED');
    assert.deepEqual([unknown.arg, unknown.serial], [95, 42]); // EOPNOTSUPP
    assert.equal(readdirSync(`/proc/${keeper}/fd`).length, before);
  });

  it('cannot kill the keeper with noise', async (t) => {
    for (let round = 0; round < 5; round++) {
      const seed = randomInt(1, 2 ** 31);
      t.diagnostic(`seed ${seed}`);
      engine.command(`fuzz 0 ${seed} 4000`);
      await engine.lines.take((line) => line === 'fuzzed 0', 'fuzzing');
    }
    await engine.settled();
    engine.send('PUT', { serial: 1, fields: ['still', 'here'] });
    assert.equal((await engine.next('DONE', (m) => m.serial === 1)).serial, 1);
    // It still serves, and a sane engine takes over.
    engine.kill();
    const next = await bed.engine();
    await bed.replayed(next);
    assert.ok(next.pendingOf('ENTRY').some((entry) => entry.fields[0]?.toString() === 'still'));
  });

  it('is not read while it does not take its answers, and is replaced in the end', async () => {
    const other = new Bed({ LAMINA_PING_MS: '300' });
    try {
      const { engine: deaf, pid } = await other.keeper();
      deaf.command('hold 0');
      // Each is answered; the fake engine ends up blocked on sending, because nobody reads the
      // answers.
      for (let i = 0; i < 30_000; i++) deaf.send('ADOPT', { serial: i + 1, arg: 1, fields: ['x'] });
      const next = await other.engine();
      await other.replayed(next);
      const rss = Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
      assert.ok(rss < 100_000, `peak of ${rss} kB`);
    } finally {
      await other.close();
    }
  });
});
