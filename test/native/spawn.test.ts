import assert from 'node:assert/strict';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Bed, type Engine, eventually, isGone, lm, type Message } from './harness.js';

const strings = (...list: string[]): string => list.map((text) => `${text}\0`).join('');
const numbers = (...list: number[]): Buffer => {
  const buffer = Buffer.alloc(4 * list.length);
  list.forEach((n, i) => {
    buffer.writeInt32LE(n, 4 * i);
  });
  return buffer;
};

describe('spawn', () => {
  let bed: Bed;
  let engine: Engine;
  let keeper: number;
  beforeEach(async () => {
    bed = new Bed({ NODE_OPTIONS: '--no-such', NOTIFY_SOCKET: 'x', GOMAXPROCS: '2', KEPT: 'yes' });
    ({ engine, pid: keeper } = await bed.keeper());
  });
  afterEach(() => bed.close());

  const spawn = (
    serial: number,
    argv: string[],
    more: { cwd?: string; env?: string; map?: Buffer; fds?: string[]; flags?: number } = {},
  ): void =>
    engine.send('SPAWN', {
      serial,
      flags: more.flags ?? 0,
      fields: [`child${serial}`, more.cwd ?? '/', strings(...argv), more.env ?? '', more.map ?? Buffer.alloc(0)],
      fds: more.fds ?? [],
    });

  const exited = async (serial: number): Promise<Message> => {
    const report = await engine.next('EXITED', (message) => message.fields[0]?.toString() === `child${serial}`);
    engine.send('ACK', { serial: report.serial });
    return report;
  };

  it('runs a program with the given descriptors, directory and environment, and no others', async () => {
    const out = join(bed.dir, 'out');
    const script =
      'pwd; tr "\\0" "\\n" < /proc/$$/environ | sort; ls -1 /proc/$$/fd; cat <&7; ps -o pgid= -p $$; exec cat /proc/$$/status';
    await import('node:fs').then((fs) => fs.writeFileSync(out, ''));
    spawn(1, ['sh', '-c', script], {
      cwd: bed.bundle,
      env: strings('ADDED=1', 'KEPT=changed', 'LAMINA_FAKE_CONTROL'),
      map: numbers(7, 1),
      fds: [`r:${join(bed.bundle, 'config.json')}`, `w:${out}`],
    });
    const started = await engine.next('SPAWNED');
    assert.equal(started.serial, 1);
    assert.match(readlinkSync(`/proc/${engine.pid}/fd/${started.fds[0]}`), /pidfd/);
    const report = await exited(1);
    assert.equal(report.arg, started.arg);
    assert.equal(report.fields[1]?.readInt32LE(), 0);
    const ms = Number((report.fields[2]?.readBigInt64LE() ?? 0n) / 1_000_000n);
    assert.ok(Math.abs(ms - Date.now()) < 60_000);
    const lines = readFileSync(out, 'utf8').split('\n');
    assert.equal(lines[0], bed.bundle);
    // The runtime gets what the stock shim would give it.
    for (const entry of ['ADDED=1', 'KEPT=changed', 'NODE_OPTIONS=--no-such']) assert.ok(lines.includes(entry), entry);
    for (const name of ['LAMINA_FAKE_CONTROL', 'NOTIFY_SOCKET', 'GOMAXPROCS']) {
      assert.ok(!lines.some((line) => line.startsWith(`${name}=`)), name);
    }
    const fds = lines.filter((line) => /^\d{1,2}$/.test(line));
    assert.deepEqual(fds, ['0', '1', '2', '7']);
    assert.ok(lines.includes('{}') || lines.some((line) => line.startsWith('{}')), 'descriptor 7 is the file');
    assert.ok(lines.some((line) => /SigIgn:\s0+$/.test(line)) && lines.some((line) => /SigBlk:\s0+$/.test(line)));
    assert.ok(
      lines.some((line) => line.trim().endsWith(String(started.arg))),
      'own process group',
    );
  });

  it('maps descriptors whose numbers collide', async () => {
    const [a, b, c] = ['a', 'b', 'c'].map((name) => join(bed.dir, name)) as [string, string, string];
    for (const path of [a, b, c]) (await import('node:fs')).writeFileSync(path, '');
    // Numbers around those the keeper itself uses for what it received.
    for (const map of [
      [3, 4, 5],
      [5, 4, 3],
      [12, 11, 10],
      [0, 2, 1],
      [255, 13, 14],
    ]) {
      spawn(2, ['sh', '-c', map.map((n, i) => `readlink /proc/self/fd/${n} > ${bed.dir}/n${i}`).join(';')], {
        map: numbers(...map),
        fds: [`w:${a}`, `w:${b}`, `w:${c}`],
      });
      assert.equal((await exited(2)).fields[1]?.readInt32LE(), 0);
      const found = [0, 1, 2].map((i) => readFileSync(join(bed.dir, `n${i}`), 'utf8').trim());
      // Where readlink's own stdout is redirected over the descriptor, it sees that file.
      assert.deepEqual(
        found,
        map.map((n, i) => (n === 1 ? join(bed.dir, `n${i}`) : [a, b, c][i])),
      );
    }
  });

  it('starts from an empty environment when asked', async () => {
    const out = join(bed.dir, 'out');
    spawn(3, ['/bin/sh', '-c', `cat /proc/self/environ > ${out}`], {
      flags: lm('F_CLEAR_ENV'),
      env: strings('ONLY=1', 'PATH=/bin:/usr/bin'),
    });
    await exited(3);
    const names = readFileSync(out, 'utf8')
      .split('\0')
      .map((pair) => pair.split('=')[0]);
    assert.deepEqual(
      names
        .filter((name) => name !== '' && name !== 'PWD' && name !== '_' && name !== 'OLDPWD' && name !== 'SHLVL')
        .sort(),
      ['ONLY', 'PATH'],
    );
  });

  it('says which step failed and why, and reports no exit for it', async () => {
    const cases: [string[], object, number, RegExp][] = [
      [['/no/such/program'], {}, 2, /^execve \/no\/such\/program: /],
      [['no-such-program'], {}, 2, /^execve no-such-program: /],
      [['/etc/passwd'], {}, 13, /^execve \/etc\/passwd: /],
      [['true'], { cwd: '/no/dir' }, 2, /^chdir \/no\/dir: /],
      [['true'], { map: numbers(3, 3), fds: ['r:/dev/null', 'r:/dev/null'] }, 22, /^descriptor map/],
      [['true'], { map: numbers(-1), fds: ['r:/dev/null'] }, 9, /^descriptor map/],
      [['true'], { map: numbers(1, 2) }, 74, /^spawn/],
      [[], {}, 74, /^spawn/],
    ];
    for (const [argv, more, errno, pattern] of cases) {
      spawn(4, argv, more);
      const failed = await engine.next('FAILED');
      assert.equal(failed.serial, 4);
      assert.equal(failed.arg, errno, failed.fields[0]?.toString());
      assert.match(failed.fields[0]?.toString() ?? '', pattern);
    }
    await engine.settled();
    assert.deepEqual(engine.pendingOf('EXITED'), []);
  });

  it('kills a child with itself when asked', async () => {
    spawn(5, ['sleep', '1000'], { flags: lm('F_DIE_WITH_KEEPER') });
    spawn(6, ['sleep', '1000']);
    const [bound, free] = [
      await engine.next('SPAWNED', (m) => m.serial === 5),
      await engine.next('SPAWNED', (m) => m.serial === 6),
    ];
    process.kill(keeper, 'SIGKILL');
    await eventually('child dies', () => isGone(bound.arg));
    assert.equal(isGone(free.arg), false);
    process.kill(free.arg, 'SIGKILL');
  });

  it('leaks no descriptor over many spawns', async () => {
    const count = (): number => readdirSync(`/proc/${keeper}/fd`).length;
    await engine.settled();
    const before = count();
    for (let i = 0; i < 50; i++) {
      spawn(7, [i % 2 === 0 ? 'true' : '/no/such'], { map: numbers(1, 9), fds: ['w:/dev/null', 'r:/dev/zero'] });
      if (i % 2 === 0) await exited(7);
      else await engine.next('FAILED');
    }
    await engine.settled();
    assert.equal(count(), before);
  });
});
