import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import fc from 'fast-check';
import { pathFromBytes, pathToBytes } from '../../../src/base/index.js';
import type { InitExit } from '../../../src/cgroups/index.js';
import { KernelLog, parseOomRecord } from '../../../src/cgroups/kmsg.js';
import { OomCounter, type OomReading } from '../../../src/cgroups/oom.js';
import { FakeKernel } from './fake.js';

const KILLED = (pid: number): string =>
  `3,4147,3033748527,-;Memory cgroup out of memory: Killed process ${pid} (tail) total-vm:10940kB, anon-rss:8064kB\n`;
/** As the kernel escapes what cannot be printed, and the backslash. */
const escaped = (path: string): string =>
  pathToBytes(path)
    .toString('latin1')
    .replace(/[^ -[\]-~]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
const CHOSEN = (group: string, pid: number, task = 'tail'): string =>
  `6,4146,3033748499,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/pod,` +
  `task_memcg=${escaped(group)},task=${task},pid=${pid},uid=0\n`;
const KILLED_INIT: InitExit = { pid: 77, wasKilled: true, wasKillAsked: false };

describe('parseOomRecord', () => {
  it('reads both lines of a kill, of a limit and of the machine', () => {
    assert.deepEqual(parseOomRecord(KILLED(14949)), { pid: 14949, group: undefined });
    assert.deepEqual(parseOomRecord('3,1,2,-;Out of memory: Killed process 5 (a) total-vm:1kB'), {
      pid: 5,
      group: undefined,
    });
    const other = '3,1,2,-,caller=T1;Out of memory (oom_kill_allocating_task): Killed process 6 (a) x\n SUBSYSTEM=y\n';
    assert.deepEqual(parseOomRecord(other), { pid: 6, group: undefined });
    assert.deepEqual(parseOomRecord(CHOSEN('/system.slice/docker-1.scope', 9)), {
      pid: 9,
      group: '/system.slice/docker-1.scope',
    });
    const global =
      '6,1,2,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),global_oom,task_memcg=/a,task=b,pid=3,uid=0';
    assert.deepEqual(parseOomRecord(global), { pid: 3, group: '/a' });
  });

  it('believes the kernel only, and no name that imitates it', () => {
    assert.equal(parseOomRecord(KILLED(1).replace('3,', '11,')), undefined);
    assert.equal(parseOomRecord(CHOSEN('/evil,task_memcg=/good', 1)), undefined);
    assert.deepEqual(parseOomRecord(CHOSEN('/good', 1, ',pid=7,uid=0')), { pid: 1, group: '/good' });
    assert.equal(parseOomRecord('6,1,2,-;task : Killed process 1 (x)'), undefined);
  });

  it('reads every group and every pid', () => {
    const bytes = fc.array(fc.integer({ min: 1, max: 255 }));
    const group = bytes.map((codes) => pathFromBytes(Buffer.from([0x2f, ...codes])));
    fc.assert(
      fc.property(group, fc.integer({ min: 1, max: 2 ** 22 }), (path, pid) => {
        fc.pre(!path.includes(',task_memcg='));
        assert.deepEqual(parseOomRecord(CHOSEN(path, pid)), { pid, group: path });
      }),
    );
  });

  it('never throws', () => {
    const piece = fc.constantFrom(
      '6,1,2,-;',
      'oom-kill:',
      ',task_memcg=/',
      ',task=',
      ',pid=',
      '1',
      ',uid=',
      'Killed process ',
      '(',
    );
    const text = fc.oneof(
      fc.string(),
      fc.array(fc.oneof(piece, fc.string())).map((parts) => parts.join('')),
    );
    fc.assert(
      fc.property(text, (record) => void parseOomRecord(record)),
      { numRuns: 1000 },
    );
  });
});

describe('KernelLog', () => {
  let kernel: FakeKernel;
  let log: KernelLog;

  beforeEach(() => {
    kernel = new FakeKernel();
    kernel.log = [];
    log = new KernelLog(kernel);
  });

  afterEach(() => assert.equal(kernel.openLogs, 0));

  it('counts those that were in the group or below, and the one asked for, once each', () => {
    using watch = log.watch();
    kernel.log?.push(CHOSEN('/web', 1), KILLED(1), CHOSEN('/web/sub', 2), CHOSEN('/web2', 3), KILLED(3), KILLED(4));
    assert.equal(watch?.oomKills('/web', 99), 2);
    assert.equal(watch?.oomKills('/web', 4), 3);
    assert.equal(watch?.oomKills('/other', 98), 0);
  });

  it('does not count what was before its begin, however much another watch has read', () => {
    using first = log.watch();
    kernel.log?.push(KILLED(1));
    using second = log.watch();
    kernel.log?.push(KILLED(2));
    assert.deepEqual(
      [1, 2].map((pid) => first?.oomKills('/x', pid)),
      [1, 1],
    );
    assert.deepEqual(
      [1, 2].map((pid) => second?.oomKills('/x', pid)),
      [0, 1],
    );
  });

  it('does not say that there was no kill when records were lost', () => {
    using watch = log.watch();
    kernel.log?.push('lost', KILLED(1));
    assert.equal(watch?.oomKills('/x', 1), 1);
    kernel.log?.push('lost');
    assert.equal(watch?.oomKills('/x', 2), undefined);
    assert.equal(watch?.oomKills('/x', 2), 0);
  });

  it('forgets old kills and still finds the last', () => {
    using watch = log.watch();
    for (let pid = 1; pid <= 1000; pid += 1) kernel.log?.push(KILLED(pid));
    assert.equal(watch?.oomKills('/x', 1000), 1);
    assert.equal(watch?.oomKills('/x', 1), 0);
  });

  it('is no witness where it may not be read', () => {
    kernel.log = undefined;
    assert.equal(log.watch(), undefined);
    kernel.openLog = () => undefined;
    assert.equal(log.watch(), undefined);
  });

  it('is open while there is a watch', () => {
    const [first, second] = [log.watch(), log.watch()];
    first?.[Symbol.dispose]();
    assert.equal(kernel.openLogs, 1);
    second?.[Symbol.dispose]();
    second?.[Symbol.dispose]();
    assert.equal(kernel.openLogs, 0);
  });
});

describe('OomCounter', () => {
  let now: OomReading | undefined;
  let seen: bigint[];
  /** What the kernel log says; undefined: it cannot tell. */
  let logged: number | undefined;

  const counter = (from?: bigint): OomCounter =>
    new OomCounter({
      from,
      read: () => now,
      onOom: (rise) => seen.push(rise),
      path: '/web',
      log: { oomKills: () => logged, [Symbol.dispose]: () => undefined },
    });

  beforeEach(() => {
    now = { kills: 3n, shortages: 0n };
    seen = [];
    logged = undefined;
  });

  it('reports each rise once, from the value at its begin', () => {
    const oom = counter();
    oom.check();
    now = { kills: 5n, shortages: 0n };
    assert.equal(oom.check(), true);
    assert.equal(oom.check(), false);
    now = undefined;
    oom.check();
    now = { kills: 6n, shortages: 0n };
    oom.check();
    assert.deepEqual(seen, [2n, 1n]);
    oom.end();
    now = { kills: 9n, shortages: 0n };
    assert.equal(oom.check(), false);
  });

  it('goes on where an earlier one has ended', () => {
    const earlier = counter();
    now = { kills: 5n, shortages: 0n };
    earlier.check();
    earlier.end();
    now = { kills: 7n, shortages: 0n };
    const oom = counter(earlier.counted);
    assert.equal(oom.check(), true);
    assert.deepEqual(seen, [2n, 2n]);
    assert.equal(oom.counted, 7n);
  });

  it('believes its counter more than the log', () => {
    const oom = counter();
    logged = 7;
    oom.drain(KILLED_INIT);
    assert.deepEqual(seen, []);
    now = { kills: 4n, shortages: 9n };
    oom.drain(KILLED_INIT);
    assert.deepEqual(seen, [1n]);
  });

  it('takes from the log what was not reported when the group has gone', () => {
    const oom = counter();
    now = { kills: 5n, shortages: 0n };
    oom.check();
    now = undefined;
    logged = 2;
    oom.drain(KILLED_INIT);
    assert.deepEqual(seen, [2n]);
    logged = 3;
    oom.drain({ ...KILLED_INIT, wasKilled: false });
    oom.drain(KILLED_INIT);
    assert.deepEqual(seen, [2n, 1n]);
  });

  it('tells of no kill that the log does not know, whatever else looks like one', () => {
    const oom = counter();
    now = { kills: 3n, shortages: 50n };
    oom.check();
    now = undefined;
    oom.check();
    logged = 0;
    oom.drain(KILLED_INIT);
    assert.deepEqual(seen, []);
  });

  describe('without a log', () => {
    /** Memory ran short so often, then the group went, with a notification or without. */
    const reports = (shortages: bigint, isNotified: boolean, exit: InitExit | undefined): number => {
      const oom = counter();
      now = { kills: 3n, shortages };
      oom.check();
      now = undefined;
      if (isNotified) oom.check();
      oom.drain(exit);
      oom.drain(exit);
      return seen.length;
    };

    it('takes an unexplained SIGKILL after a shortage for a kill', () =>
      assert.equal(reports(1n, false, KILLED_INIT), 1));
    it('takes one with a missed notification for a kill', () => assert.equal(reports(0n, true, KILLED_INIT), 1));
    it('does not without a hint', () => assert.equal(reports(0n, false, KILLED_INIT), 0));
    it('does not when the kill was asked for', () =>
      assert.equal(reports(1n, true, { ...KILLED_INIT, wasKillAsked: true }), 0));
    it('does not when init has exited', () => assert.equal(reports(1n, true, { ...KILLED_INIT, wasKilled: false }), 0));
    it('does not without knowing of an exit', () => assert.equal(reports(1n, true, undefined), 0));

    it('does not take a shortage twice', () => {
      const oom = counter();
      now = { kills: 4n, shortages: 8n };
      oom.check();
      now = undefined;
      oom.drain(KILLED_INIT);
      assert.deepEqual(seen, [1n]);
    });
  });
});
