import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import {
  parseCgroups,
  parseMountInfo,
  parseProcessStat,
  readCgroups,
  readMountInfo,
  readOomScoreAdj,
  readPageSize,
  readProcessStat,
  writeOomScoreAdj,
} from '../../../src/sys/index.js';
import { expectNoLeaks } from './leaks.js';

describe('procfs', () => {
  expectNoLeaks();

  it('finds the fields of stat behind any name', () => {
    const rest = 'S 7 42 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 18446744073709551615 99 98';
    for (const comm of ['sh', 'a) R 1 2 (b', '', ')', 'line\nbreak']) {
      assert.deepEqual(parseProcessStat(`42 (${comm}) ${rest}\n`), {
        pid: 42,
        comm,
        state: 'S',
        ppid: 7,
        pgrp: 42,
        session: 40,
        startTimeTicks: 18446744073709551615n,
      });
    }
    for (const text of ['', '42 sh S 1', '42 (sh) S 1 2 3'])
      assert.throws(() => parseProcessStat(text), /^RangeError|parse stat/);
  });

  it('reads the stat of a real child', async () => {
    const child = spawn('/bin/cat', { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
    await once(child, 'spawn');
    const stat = readProcessStat(child.pid ?? 0);
    assert.equal(stat.ppid, process.pid);
    assert.equal(stat.pgrp, child.pid);
    assert.equal(stat.session, child.pid);
    assert.ok(stat.startTimeTicks >= readProcessStat(process.pid).startTimeTicks);
    child.stdin.end();
    await once(child, 'close');
    assert.throws(() => readProcessStat(child.pid ?? 0), { code: 'ENOENT' });
  });

  it('parses cgroup memberships of all three kinds', () => {
    const text = '12:cpu,cpuacct:/a b\n1:name=systemd:/x:y\n0::/user.slice\n';
    assert.deepEqual(parseCgroups(text), [
      { hierarchyId: 12, controllers: ['cpu', 'cpuacct'], path: '/a b' },
      { hierarchyId: 1, controllers: ['name=systemd'], path: '/x:y' },
      { hierarchyId: 0, controllers: [], path: '/user.slice' },
    ]);
    assert.throws(() => parseCgroups('nonsense\n'), /parse cgroup/);
    assert.ok(readCgroups('self').every((cgroup) => cgroup.path.startsWith('/')));
  });

  it('parses mountinfo with escapes, propagation and empty sources', () => {
    const text = [
      '36 35 98:0 /mnt1 /mnt\\0402\\011\\134\\043 rw,noatime master:1 shared:7 - ext3 /dev/r\\040t rw,errors=continue',
      '40 36 0:5 / /proc rw - proc  rw',
      '41 36 0:6 / /- rw unbindable - tmpfs - rw,size=1k',
      '',
    ].join('\n');
    const [first, second, third] = parseMountInfo(text);
    assert.deepEqual(first, {
      id: 36,
      parentId: 35,
      device: '98:0',
      root: '/mnt1',
      mountPoint: '/mnt 2\t\\#',
      options: ['rw', 'noatime'],
      propagation: ['master:1', 'shared:7'],
      type: 'ext3',
      source: '/dev/r t',
      superOptions: ['rw', 'errors=continue'],
    });
    assert.deepEqual([second?.source, second?.superOptions], ['', ['rw']]);
    assert.deepEqual([third?.mountPoint, third?.source, third?.propagation], ['/-', '-', ['unbindable']]);
    assert.throws(() => parseMountInfo('36 35 98:0 / /x rw\n'), /parse mountinfo/);
    assert.ok(readMountInfo().some((info) => info.mountPoint === '/proc'));
  });

  it('reads and raises oom_score_adj', async () => {
    const child = spawn('/bin/cat', { stdio: ['pipe', 'ignore', 'ignore'] });
    await once(child, 'spawn');
    const pid = child.pid ?? 0;
    const before = readOomScoreAdj(pid);
    writeOomScoreAdj(pid, Math.min(before + 10, 1000));
    assert.equal(readOomScoreAdj(pid), Math.min(before + 10, 1000));
    assert.throws(() => writeOomScoreAdj(pid, 2000), { code: 'EINVAL' });
    child.stdin.end();
    await once(child, 'close');
  });

  it('knows the page size', () => {
    assert.ok([4096, 16384, 65536].includes(readPageSize()));
  });
});
