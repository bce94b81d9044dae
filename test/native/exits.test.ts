import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Bed, type Engine, eventually, lm, type Message } from './harness.js';

describe('exits', () => {
  let bed: Bed;
  let engine: Engine;
  beforeEach(async () => {
    bed = new Bed();
    ({ engine } = await bed.keeper());
  });
  afterEach(() => bed.close());

  const shell = (name: string, script: string): void =>
    engine.send('SPAWN', { serial: 1, fields: [name, '/', `sh\0-c\0${script}\0`, '', ''] });

  it('reports codes and signals as wait(2) gives them', async () => {
    shell('seven', 'exit 7');
    assert.equal(
      (await engine.next('EXITED', (m) => m.fields[0]?.toString() === 'seven')).fields[1]?.readInt32LE(),
      7 << 8,
    );
    shell('killed', 'kill -KILL $$');
    assert.equal(
      (await engine.next('EXITED', (m) => m.fields[0]?.toString() === 'killed')).fields[1]?.readInt32LE(),
      9,
    );
  });

  it('reaps orphans as strangers', async () => {
    shell('parent', '(sleep 0.2; exit 3) & exec true');
    await engine.next('EXITED', (m) => m.fields[0]?.toString() === 'parent');
    const orphan = await engine.next('EXITED', (m) => m.fields[0]?.length === 0);
    assert.equal(orphan.fields[1]?.readInt32LE(), 3 << 8);
  });

  it('adopts an orphan, alive or zombie, under a name, but nobody else', async () => {
    const pidFile = join(bed.dir, 'pid');
    shell('parent', `sleep 1000 & echo $! > ${pidFile}`);
    await engine.next('EXITED', (m) => m.fields[0]?.toString() === 'parent');
    const pid = Number(readFileSync(pidFile, 'utf8'));
    engine.send('ADOPT', { serial: 5, arg: pid, fields: ['init'] });
    const adopted = await engine.next('ADOPTED');
    assert.deepEqual([adopted.serial, adopted.arg, adopted.fds.length], [5, pid, 1]);
    process.kill(pid, 'SIGTERM');
    const report = await engine.next('EXITED', (m) => m.arg === pid);
    assert.deepEqual([report.fields[0]?.toString(), report.fields[1]?.readInt32LE()], ['init', 15]);

    for (const other of [pid, 1, process.pid, 0, -1 >>> 0, 2 ** 40 + pid]) {
      engine.send('ADOPT', { serial: 6, arg: other, fields: ['x'] });
      const failed = await engine.next('FAILED');
      assert.deepEqual([failed.serial, failed.arg], [6, 3]); // ESRCH
    }
  });

  it('gives no child away that has a name, but says it again to whoever knows the name', async () => {
    engine.send('SPAWN', { serial: 8, fields: ['mine', '/', 'sleep\x001000\0', '', ''] });
    const pid = (await engine.next('SPAWNED')).arg;
    engine.send('ADOPT', { serial: 9, arg: pid, fields: ['yours'] });
    assert.deepEqual([(await engine.next('FAILED')).serial], [9]);
    engine.send('ADOPT', { serial: 10, arg: pid, fields: ['mine'] });
    assert.equal((await engine.next('ADOPTED')).serial, 10);
    engine.send('ADOPT', { serial: 11, arg: engine.pid, fields: ['yours'] });
    assert.equal((await engine.next('FAILED')).serial, 11);
    process.kill(pid, 'SIGKILL');
    await engine.next('EXITED', (m) => m.fields[0]?.toString() === 'mine');
  });

  it('keeps reports for the next engine until they are acknowledged, in order', async () => {
    for (const name of ['a', 'b', 'c']) shell(name, 'exit 0');
    const reports: Message[] = [];
    for (const name of ['a', 'b', 'c']) {
      reports.push(await engine.next('EXITED', (m) => m.fields[0]?.toString() === name));
    }
    engine.send('ACK', { serial: reports[1]?.serial ?? 0 });
    await engine.settled();
    engine.kill();
    const second = await bed.engine();
    await bed.replayed(second);
    const kept = second.pendingOf('EXITED');
    const expected = reports.filter((r) => r !== reports[1]).sort((x, y) => x.serial - y.serial);
    assert.deepEqual(
      kept.map((m) => [m.serial, m.arg, m.fields]),
      expected.map((m) => [m.serial, m.arg, m.fields]),
    );
    for (const report of kept) second.send('ACK', { arg: report.serial });
    await second.settled();
    second.kill();
    const third = await bed.engine();
    await bed.replayed(third);
    assert.deepEqual(third.pendingOf('EXITED'), []);
  });

  it('tells of the dead before the living, who may have their pids', async () => {
    engine.send('SPAWN', { serial: 1, fields: ['alive', '/', 'sleep\x001000\0', '', ''] });
    shell('dead', 'exit 0');
    await engine.next('EXITED', (m) => m.fields[0]?.toString() === 'dead');
    const { arg: pid } = await engine.next('SPAWNED', (m) => m.serial === 1);
    engine.kill();
    const second = await bed.engine();
    await bed.replayed(second);
    const told = second.messages.items.filter(({ type }) => [lm('MSG_CHILD'), lm('MSG_EXITED')].includes(type));
    assert.deepEqual(
      told.map(({ fields }) => String(fields[0])),
      ['dead', 'alive'],
    );
    process.kill(pid, 'SIGKILL');
    await second.next('EXITED', (m) => m.arg === pid);
  });

  it('sees what ends while there is no engine', async () => {
    const go = join(bed.dir, 'go');
    shell('waiter', `while [ ! -e ${go} ]; do sleep 0.05; done; exit 9`);
    await engine.next('SPAWNED');
    process.kill(engine.pid, 'SIGSTOP');
    (await import('node:fs')).writeFileSync(go, '');
    engine.kill();
    const second = await bed.engine();
    await bed.replayed(second);
    const report = await second.next('EXITED', (m) => m.fields[0]?.toString() === 'waiter');
    assert.equal(report.fields[1]?.readInt32LE(), 9 << 8);
  });

  it('never reports its engines', async () => {
    engine.kill();
    const second = await bed.engine();
    await bed.replayed(second);
    await second.settled();
    await eventually('the first engine is reaped', () => {
      try {
        return !readFileSync(`/proc/${engine.pid}/status`, 'utf8').includes('fake');
      } catch {
        return true;
      }
    });
    assert.deepEqual(second.pendingOf('EXITED'), []);
  });
});
