import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Cgroup, CgroupNotFoundError, type V1Stats, type V2Stats } from '../../../src/cgroups/index.js';
import { U64_MAX } from '../../../src/cgroups/parse.js';
import { countFds, FakeHierarchy } from './fake.js';

const PSI = 'some avg10=0.00 avg60=1.25 avg300=0.50 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n';
const PSI_PARSED = {
  some: { avg10: 0, avg60: 1.25, avg300: 0.5, total: 77n },
  full: { avg10: 0, avg60: 0, avg300: 0, total: 7n },
};

describe('statistics of the root on v2', () => {
  it('are those of the machine, without limits', () => {
    using fake = new FakeHierarchy();
    fake.write({ 'cgroup.controllers': 'memory\n', 'memory.stat': 'anon 4096\nfile 8192\n' });
    using cgroup = Cgroup.load('/', { layout: fake.unified });
    const { memory } = cgroup.stats() as V2Stats;
    assert.deepEqual([memory.usage, memory.usageLimit, memory.swapLimit], [12288n, U64_MAX, U64_MAX]);
    assert.ok(memory.swapUsage >= 0n);
  });

  it('are nothing without the memory controller', () => {
    using fake = new FakeHierarchy();
    fake.write({ 'cgroup.controllers': '\n' });
    using cgroup = Cgroup.load('/', { layout: fake.unified });
    const { memory } = cgroup.stats() as V2Stats;
    assert.deepEqual([memory.usage, memory.usageLimit, memory.swapLimit], [0n, 0n, 0n]);
  });
});

describe('statistics on v2', () => {
  let fake: FakeHierarchy;

  beforeEach(() => {
    fake = new FakeHierarchy();
    fake.write({ 'web/cgroup.controllers': 'cpu memory pids\n' });
  });

  afterEach(() => fake[Symbol.dispose]());

  const read = (): V2Stats => {
    using cgroup = Cgroup.load('/web', { layout: fake.unified });
    return cgroup.stats() as V2Stats;
  };

  it('takes every part from its file', () => {
    fake.write({
      'web/pids.current': 3,
      'web/pids.max': 'max\n',
      'web/cpu.stat':
        'usage_usec 30\nuser_usec 20\nsystem_usec 10\nnice_usec 1\nnr_periods 5\nnr_throttled 2\nthrottled_usec 9\nnr_bursts 4\nburst_usec 8\n',
      'web/cpu.pressure': PSI,
      'web/memory.stat':
        'anon 1\nfile 2\nkernel 99\nkernel_stack 3\npgfault 4\nworkingset_refault_anon 5\nthp_collapse_alloc 6\nzswap 7\n',
      'web/memory.current': 4096,
      'web/memory.max': 'max\n',
      'web/memory.peak': 8192,
      'web/memory.swap.current': 11,
      'web/memory.swap.max': 12,
      'web/memory.swap.peak': 13,
      'web/memory.pressure': PSI,
      'web/memory.events': 'low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n',
      'web/io.stat': '8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n8:16\n',
      'web/io.pressure': PSI,
      'web/rdma.current': 'mlx hca_handle=1 hca_object=2\n',
      'web/rdma.max': 'mlx hca_handle=max hca_object=max\n',
    });
    const stats = read();
    assert.deepEqual(stats.pids, { current: 3n, limit: U64_MAX });
    assert.deepEqual(stats.cpu, {
      usageUsec: 30n,
      userUsec: 20n,
      systemUsec: 10n,
      nrPeriods: 5n,
      nrThrottled: 2n,
      throttledUsec: 9n,
      nrBursts: 4n,
      burstUsec: 8n,
      psi: PSI_PARSED,
    });
    const { anon, file, kernelStack, pgfault, workingsetRefaultAnon, thpCollapseAlloc, slab } = stats.memory;
    assert.deepEqual(
      [anon, file, kernelStack, pgfault, workingsetRefaultAnon, thpCollapseAlloc, slab],
      [1n, 2n, 3n, 4n, 5n, 6n, 0n],
    );
    const { usage, usageLimit, maxUsage, swapUsage, swapLimit, swapMaxUsage, psi } = stats.memory;
    assert.deepEqual(
      [usage, usageLimit, maxUsage, swapUsage, swapLimit, swapMaxUsage],
      [4096n, U64_MAX, 8192n, 11n, 12n, 13n],
    );
    assert.deepEqual(psi, PSI_PARSED);
    assert.deepEqual(stats.memoryEvents, { low: 1n, high: 2n, max: 3n, oom: 4n, oomKill: 5n, oomGroupKill: 6n });
    assert.deepEqual(stats.io, {
      usage: [{ major: 8n, minor: 0n, rbytes: 1n, wbytes: 2n, rios: 3n, wios: 4n }],
      psi: PSI_PARSED,
    });
    assert.deepEqual(stats.rdma, {
      current: [{ device: 'mlx', hcaHandles: 1, hcaObjects: 2 }],
      limit: [{ device: 'mlx', hcaHandles: 0xffffffff, hcaObjects: 0xffffffff }],
    });
  });

  it('says 0, empty or absent for files that are missing', () => {
    const stats = read();
    assert.deepEqual(stats.pids, { current: 0n, limit: 0n });
    assert.equal(stats.cpu.usageUsec, 0n);
    assert.equal(stats.cpu.psi, undefined);
    assert.equal(stats.memory.usage, 0n);
    assert.equal(stats.memoryEvents, undefined);
    assert.deepEqual(stats.io, { usage: [], psi: undefined });
    assert.deepEqual(stats.rdma, { current: [], limit: [] });
  });

  it('leaves memory events out if the file is empty', () => {
    fake.write({ 'web/memory.events': '' });
    assert.equal(read().memoryEvents, undefined);
  });

  it('reads anew each time, through the same descriptors, and releases them', () => {
    const before = countFds();
    const cgroup = Cgroup.load('/web', { layout: fake.unified });
    fake.write({ 'web/pids.current': 1, 'web/cpu.stat': 'usage_usec 1\n' });
    const first = cgroup.stats() as V2Stats;
    const opened = countFds();
    fake.write({ 'web/pids.current': 22, 'web/cpu.stat': 'usage_usec 5\nuser_usec 3\n' });
    const second = cgroup.stats() as V2Stats;
    assert.deepEqual([first.pids.current, first.cpu.usageUsec], [1n, 1n]);
    assert.deepEqual([second.pids.current, second.cpu.usageUsec, second.cpu.userUsec], [22n, 5n, 3n]);
    assert.equal(countFds(), opened);
    assert.ok(opened > before);
    cgroup.close();
    assert.equal(countFds(), before);
  });

  it('finds the files of a controller that is enabled later', () => {
    using cgroup = Cgroup.load('/web', { layout: fake.unified });
    assert.deepEqual((cgroup.stats() as V2Stats).io.usage, []);
    fake.write({ 'web/io.stat': '8:0 rbytes=1\n', 'web/cgroup.controllers': 'cpu io memory pids\n' });
    assert.equal((cgroup.stats() as V2Stats).io.usage.length, 1);
  });

  it('takes contents larger than its buffer', () => {
    const lines = Array.from({ length: 9000 }, (_, minor) => `8:${minor} rbytes=${minor}\n`);
    fake.write({ 'web/io.stat': lines.join('') });
    assert.equal(read().io.usage.at(-1)?.rbytes, 8999n);
  });

  it('says NotFound once the group is gone', () => {
    using cgroup = Cgroup.load('/web', { layout: fake.unified });
    fake.remove('web');
    assert.throws(() => cgroup.stats(), CgroupNotFoundError);
    assert.throws(() => Cgroup.load('/web', { layout: fake.unified }), CgroupNotFoundError);
  });
});

describe('statistics on v1', () => {
  let fake: FakeHierarchy;

  beforeEach(() => {
    fake = new FakeHierarchy();
  });

  afterEach(() => fake[Symbol.dispose]());

  const CONTROLLERS = ['cpu', 'cpuacct', 'memory', 'pids', 'blkio', 'hugetlb', 'rdma', 'freezer'];

  const read = (): V1Stats => {
    using cgroup = Cgroup.load('web', { layout: fake.legacy(...CONTROLLERS) });
    return cgroup.stats() as V1Stats;
  };

  it('takes every part from its hierarchy', () => {
    fake.write({
      'cpu/web/cpu.stat': 'nr_periods 1\nnr_throttled 2\nthrottled_time 3\nnr_bursts 0\n',
      'cpuacct/web/cpuacct.stat': 'user 5\nsystem 7\n',
      'cpuacct/web/cpuacct.usage': 123456789,
      'cpuacct/web/cpuacct.usage_percpu': '10 20 \n',
      'memory/web/memory.stat': 'cache 1\nrss 2\npgpgin 3\nhierarchical_memsw_limit 4\ntotal_unevictable 5\n',
      'memory/web/memory.usage_in_bytes': 10,
      'memory/web/memory.limit_in_bytes': '9223372036854771712\n',
      'memory/web/memory.kmem.tcp.failcnt': 6,
      'memory/web/memory.oom_control': 'oom_kill_disable 0\nunder_oom 1\noom_kill 2\n',
      'pids/web/pids.current': 4,
      'pids/web/pids.max': 'max\n',
      'blkio/web/blkio.bfq.io_serviced_recursive': 'Total 0\n',
      'blkio/web/blkio.throttle.io_serviced': '8:0 Read 1\nTotal 1\n',
      'blkio/web/blkio.throttle.io_serviced_recursive': '8:0 Read 5\n8:0 Total 5\nTotal 5\n',
      'rdma/web/rdma.current': 'mlx hca_handle=1 hca_object=2\n',
    });
    const stats = read();
    assert.deepEqual(stats.cpu, {
      usage: { total: 123456789n, kernel: 70_000_000n, user: 50_000_000n, perCpu: [10n, 20n] },
      throttling: { periods: 1n, throttledPeriods: 2n, throttledTime: 3n },
    });
    const { cache, rss, pgPgIn, hierarchicalSwapLimit, totalUnevictable } = stats.memory ?? {};
    assert.deepEqual([cache, rss, pgPgIn, hierarchicalSwapLimit, totalUnevictable], [1n, 2n, 3n, 4n, 5n]);
    assert.deepEqual(stats.memory?.usage, { limit: 9223372036854771712n, usage: 10n, max: 0n, failcnt: 0n });
    assert.deepEqual(stats.memory?.kernelTcp, { limit: 0n, usage: 0n, max: 0n, failcnt: 6n });
    assert.deepEqual(stats.memoryOomControl, { oomKillDisable: 0n, underOom: 1n, oomKill: 2n });
    assert.deepEqual(stats.pids, { current: 4n, limit: 0n });
    const values = stats.blkio?.ioServicedRecursive.map((entry) => [entry.op, entry.value]);
    assert.deepEqual(values, [
      ['Read', 5n],
      ['Total', 5n],
    ]);
    assert.equal(stats.rdma?.current[0]?.hcaObjects, 2);
  });

  it('leaves out what has no hierarchy, or in whose hierarchy the container has no group', () => {
    fake.write({ 'cpuacct/web/cpuacct.usage': 5, 'memory/other/memory.stat': '' });
    const stats = read();
    assert.equal(stats.cpu.usage.total, 5n);
    assert.deepEqual(stats.cpu.throttling, { periods: 0n, throttledPeriods: 0n, throttledTime: 0n });
    assert.deepEqual(
      [stats.memory, stats.memoryOomControl, stats.pids, stats.blkio, stats.rdma],
      Array(5).fill(undefined),
    );
    assert.deepEqual(stats.hugetlb, []);
  });

  it('says NotFound if a group has gone, even when others are left', () => {
    fake.write({ 'memory/web/memory.stat': '', 'pids/web/pids.current': 1 });
    using cgroup = Cgroup.load('/web', { layout: fake.legacy(...CONTROLLERS) });
    fake.remove('memory/web');
    assert.throws(() => cgroup.stats(), CgroupNotFoundError);
  });
});

describe('load', () => {
  it('keeps to the mount, whatever the path says', () => {
    using fake = new FakeHierarchy();
    fake.write({ 'web/cgroup.procs': '5\n' });
    for (const path of ['/web', 'web', '//web/', '/../../web', '/x/../web']) {
      const cgroup = Cgroup.load(path, { layout: fake.unified });
      assert.deepEqual([cgroup.path, cgroup.pids()], ['/web', [5]]);
    }
    assert.throws(() => Cgroup.load('/', { layout: fake.legacy('pids') }), CgroupNotFoundError);
  });
});
