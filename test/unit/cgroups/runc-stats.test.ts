import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Cgroup, runcStats, runcStatsLine } from '../../../src/cgroups/index.js';
import { FakeHierarchy } from './fake.js';

describe('runc’s statistics', () => {
  it('have every u64 exactly, and swap as memory and swap together', () => {
    using fake = new FakeHierarchy();
    fake.write({
      'web/cgroup.controllers': 'cpu memory pids\n',
      'web/cpu.stat': 'usage_usec 3\nuser_usec 2\nsystem_usec 1\nnr_periods 4\nnr_throttled 5\nthrottled_usec 6\n',
      'web/cpu.pressure': 'some avg10=0.50 avg60=0.00 avg300=0.00 total=7\n',
      'web/memory.stat': 'file 8\nanon 9\n',
      'web/memory.current': 100,
      'web/memory.max': 'max\n',
      'web/memory.peak': 200,
      'web/memory.swap.current': 10,
      'web/memory.swap.max': 20,
      'web/pids.current': 2,
      'web/pids.max': 'max\n',
      'web/io.stat': '8:0 rbytes=1 wbytes=0 rios=3 wios=4\n',
    });
    using cgroup = Cgroup.load('/web', { layout: fake.unified });
    assert.throws(() => runcStats(cgroup.stats()), { code: 3 });
    const line = runcStatsLine('a"b', cgroup.stats({ raw: true }));
    assert.equal(
      line.replace(/"cpuset":\{[^}]*\},/, ''),
      '{"type":"stats","id":"a\\"b","data":{"cpu":{"usage":{"total":3000,"kernel":1000,"user":2000},' +
        '"throttling":{"periods":4,"throttledPeriods":5,"throttledTime":6000},' +
        '"psi":{"some":{"avg10":0.5,"avg60":0,"avg300":0,"total":7}}},' +
        '"memory":{"cache":8,"usage":{"limit":18446744073709551615,"usage":100,"max":200,"failcnt":0},' +
        '"swap":{"limit":18446744073709551615,"usage":110,"failcnt":0},' +
        '"kernel":{"limit":0,"failcnt":0},"kernelTCP":{"limit":0,"failcnt":0},"raw":{"anon":9,"file":8}},' +
        '"pids":{"current":2},"blkio":{' +
        '"ioServiceBytesRecursive":[{"major":8,"op":"Read","value":1},{"major":8,"op":"Write"}],' +
        '"ioServicedRecursive":[{"major":8,"op":"Read","value":3},{"major":8,"op":"Write","value":4}]},' +
        '"hugetlb":{},"intel_rdt":{},"network_interfaces":null}}',
    );
  });

  it('have on v1 what a group without a hierarchy lacks as zeros', () => {
    using fake = new FakeHierarchy();
    fake.write({ 'pids/web/pids.current': 1, 'pids/web/pids.max': 5, 'pids/web/cgroup.procs': '' });
    using cgroup = Cgroup.load('/web', { layout: fake.legacy('pids') });
    const { cpu, memory, pids, blkio } = JSON.parse(runcStatsLine('a', cgroup.stats({ raw: true }))).data;
    assert.deepEqual(cpu, { usage: { kernel: 0, user: 0 }, throttling: {} });
    const nothing = { limit: 0, failcnt: 0 };
    assert.deepEqual(memory, { usage: nothing, swap: nothing, kernel: nothing, kernelTCP: nothing });
    assert.deepEqual([pids, blkio], [{ current: 1, limit: 5 }, {}]);
  });

  it('list the CPUs of v1’s cpuset one by one', () => {
    using fake = new FakeHierarchy();
    fake.write({
      'cpuset/web/cpuset.cpus': '0-2,9\n',
      'cpuset/web/cpuset.mems': '0\n',
      'cpuset/web/cpuset.sched_relax_domain_level': '-1\n',
      'cpuset/web/cgroup.procs': '',
    });
    using cgroup = Cgroup.load('/web', { layout: fake.legacy('cpuset') });
    const { cpuset } = JSON.parse(runcStatsLine('a', cgroup.stats({ raw: true }))).data;
    assert.deepEqual([cpuset.cpus, cpuset.mems, cpuset.sched_relax_domain_level], [[0, 1, 2, 9], [0], -1]);
  });
});
