import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Code } from '../../../../src/base/index.js';
import { CgroupFileError, CgroupNotFoundError } from '../../../../src/cgroups/index.js';
import { type Applied, LimitUnavailableError, setV1 } from '../../../../src/cgroups/resources/index.js';
import type { LinuxResources } from '../../../../src/oci/index.js';
import { assertFilesStay, type SetLimits } from './failing-writes.js';
import { DIR, FakeGroup, V1_FILES } from './fake-group.js';

const CONTROLLERS = ['pids', 'memory', 'blkio', 'cpu', 'cpuset', 'hugetlb', 'rdma', 'net_cls', 'net_prio', 'devices'];
const DIRS = new Map(CONTROLLERS.map((name) => [name, DIR]));

function set(group: FakeGroup, update: LinuxResources, saved: LinuxResources = {}, devices = false): Promise<Applied> {
  return setV1(DIRS, saved, update, { io: group, devices });
}

function fresh(files: Readonly<Record<string, string>> = {}, ...without: string[]): FakeGroup {
  return new FakeGroup({ ...V1_FILES, ...files }, ...without);
}

const SDA = { major: 8, minor: 0 };

const ROWS: readonly [what: string, update: LinuxResources, writes: string[], saved?: LinuxResources][] = [
  ['nothing for nothing', {}, []],
  [
    'nothing for what runc takes for absent',
    {
      memory: { limit: 0, swap: 0, kernel: 5, useHierarchy: true, disableOOMKiller: false },
      cpu: { quota: 0, period: 0, shares: 0, realtimePeriod: 0, realtimeRuntime: 0 },
      network: { classID: 0 },
    },
    [],
  ],
  [
    'memory',
    { memory: { limit: 4096, reservation: 1024, kernelTCP: 2048, swappiness: 0, disableOOMKiller: true } },
    [
      'memory.limit_in_bytes=4096',
      'memory.soft_limit_in_bytes=1024',
      'memory.kmem.tcp.limit_in_bytes=2048',
      'memory.oom_control=1',
      'memory.swappiness=0',
    ],
  ],
  [
    'the OOM killer back on',
    { memory: { disableOOMKiller: false } },
    ['memory.oom_control=0'],
    { memory: { disableOOMKiller: true } },
  ],
  [
    'swap last when it shrinks',
    { memory: { limit: 4096, swap: 8192 } },
    ['memory.limit_in_bytes=4096', 'memory.memsw.limit_in_bytes=8192'],
  ],
  ['unlimited swap first', { memory: { limit: -1 } }, ['memory.memsw.limit_in_bytes=-1', 'memory.limit_in_bytes=-1']],
  [
    'not the saved limits',
    { memory: { limit: 6144 } },
    ['memory.limit_in_bytes=6144'],
    { memory: { limit: 4096, swap: 8192 } },
  ],
  [
    'cpu',
    {
      cpu: {
        shares: 512,
        quota: 5000,
        period: 50_000,
        burst: 1000,
        idle: 0,
        realtimeRuntime: 300,
        realtimePeriod: 4000,
        cpus: '0-1',
        mems: '0',
      },
    },
    [
      'cpu.shares=512',
      'cpu.cfs_period_us=50000',
      'cpu.cfs_burst_us=1000',
      'cpu.cfs_quota_us=5000',
      'cpu.idle=0',
      'cpu.rt_period_us=4000',
      'cpu.rt_runtime_us=300',
      'cpuset.cpus=0-1',
      'cpuset.mems=0',
    ],
  ],
  ['a quota alone', { cpu: { quota: -1 } }, ['cpu.cfs_quota_us=-1'], { cpu: { period: 50_000 } }],
  ['pids', { pids: { limit: -1 } }, ['pids.max=max']],
  [
    'blkio',
    {
      blockIO: {
        weight: 300,
        leafWeight: 200,
        weightDevice: [{ ...SDA, weight: 100, leafWeight: 50 }],
        throttleReadBpsDevice: [{ ...SDA, rate: 1 }],
        throttleWriteBpsDevice: [{ ...SDA, rate: 2 }],
        throttleReadIOPSDevice: [{ ...SDA, rate: 3 }],
        throttleWriteIOPSDevice: [{ ...SDA, rate: 0 }],
      },
    },
    [
      'blkio.weight=300',
      'blkio.leaf_weight=200',
      'blkio.weight_device=8:0 100',
      'blkio.leaf_weight_device=8:0 50',
      'blkio.throttle.read_bps_device=8:0 1',
      'blkio.throttle.write_bps_device=8:0 2',
      'blkio.throttle.read_iops_device=8:0 3',
      'blkio.throttle.write_iops_device=8:0 0',
    ],
  ],
  [
    'the rest',
    {
      hugepageLimits: [{ pageSize: '2MB', limit: 4 }],
      rdma: { mlx5_0: { hcaObjects: 2 } },
      network: { classID: 1_048_577, priorities: [{ name: 'eth0', priority: 5 }] },
    },
    [
      'hugetlb.2MB.limit_in_bytes=4',
      'hugetlb.2MB.rsvd.limit_in_bytes=4',
      'rdma.max=mlx5_0 hca_object=2',
      'net_cls.classid=1048577',
      'net_prio.ifpriomap=eth0 5',
    ],
  ],
];

describe('setV1 writes', () => {
  for (const [what, update, writes, saved] of ROWS) {
    it(what, async () => {
      const group = fresh();
      await set(group, update, saved);
      assert.deepEqual(group.log, writes);
    });
  }

  it('swap first when it grows', async () => {
    const group = fresh({ 'memory.limit_in_bytes': '4096\n', 'memory.memsw.limit_in_bytes': '8192\n' });
    await set(group, { memory: { limit: 16_384, swap: 20_480 } });
    assert.deepEqual(group.log, ['memory.memsw.limit_in_bytes=20480', 'memory.limit_in_bytes=16384']);
    await set(group, { memory: { limit: 4096, swap: 8192 } });
    assert.deepEqual(group.log.slice(2), ['memory.limit_in_bytes=4096', 'memory.memsw.limit_in_bytes=8192']);
  });

  it('no implied swap where it is not counted', async () => {
    const group = fresh({}, 'memory.memsw.limit_in_bytes');
    await set(group, { memory: { limit: -1 } });
    assert.deepEqual(group.log, ['memory.limit_in_bytes=-1']);
    await assert.rejects(set(group, { memory: { limit: 4096, swap: 8192 } }), LimitUnavailableError);
  });

  it('period and burst again after the quota if they are refused before', async () => {
    const group = fresh({ 'cpu.cfs_quota_us': '5000\n' });
    let refused = false;
    group.refuse = (file) => {
      if (file !== 'cpu.cfs_period_us' || refused) return undefined;
      refused = true;
      return 'EINVAL';
    };
    await set(group, { cpu: { quota: 50_000, period: 60_000, burst: 20_000 } });
    assert.deepEqual(group.log, [
      'cpu.cfs_period_us=60000 !EINVAL',
      'cpu.cfs_burst_us=20000 !EINVAL',
      'cpu.cfs_quota_us=50000',
      'cpu.cfs_period_us=60000',
      'cpu.cfs_burst_us=20000',
    ]);
  });

  it('no burst where the kernel has none', async () => {
    const group = fresh({}, 'cpu.cfs_burst_us');
    await set(group, { cpu: { burst: 5 } });
    assert.deepEqual(group.log, []);
  });

  it("BFQ's weights where there are no others", async () => {
    const group = fresh(
      { 'blkio.bfq.weight': '100\n', 'blkio.bfq.weight_device': '' },
      'blkio.weight',
      'blkio.weight_device',
    );
    await set(group, { blockIO: { weight: 300, weightDevice: [{ ...SDA, weight: 100 }] } });
    assert.deepEqual(group.log, ['blkio.bfq.weight=300', 'blkio.bfq.weight_device=8:0 100']);
  });

  it('devices only when asked to', async () => {
    const devices = [
      { allow: false },
      { allow: true, type: 'c', major: 1, minor: 3, access: 'rw' },
      { allow: true, type: 'b', major: 8 },
      { allow: true, type: 'c', minor: -1 },
    ];
    const group = fresh();
    assert.equal((await set(group, { devices })).resources.devices, undefined);
    assert.deepEqual(group.log, []);
    assert.deepEqual((await set(group, { devices }, {}, true)).resources.devices, devices);
    assert.deepEqual(group.log, [
      'devices.deny=a *:* rwm',
      'devices.allow=c 1:3 rw',
      'devices.allow=b 8:* rwm',
      'devices.allow=c *:* rwm',
    ]);
  });
});

describe('setV1 failing', () => {
  it('says what is in use when a limit is below', async () => {
    const group = fresh();
    group.refuse = (file) => (file === 'memory.limit_in_bytes' ? 'EBUSY' : undefined);
    await assert.rejects(
      set(group, { pids: { limit: 5 }, memory: { limit: 4096 } }),
      (error) =>
        error instanceof CgroupFileError && error.errno === 'EBUSY' && /usage 65536, peak 81920/.test(error.message),
    );
    assert.equal(group.files.get('pids.max'), 'max\n');
  });

  it('names the hierarchy that is not there', async () => {
    await assert.rejects(
      setV1(new Map([['pids', DIR]]), {}, { memory: { limit: 5 } }, { io: fresh() }),
      (error) =>
        error instanceof LimitUnavailableError &&
        error.controller === 'memory' &&
        error.code === Code.FailedPrecondition,
    );
  });

  it('tells a missing file from a missing group', async () => {
    await assert.rejects(set(fresh({}, 'pids.max'), { pids: { limit: 5 } }), LimitUnavailableError);
    await assert.rejects(set(new FakeGroup({}), { pids: { limit: 5 } }), CgroupNotFoundError);
  });

  it('restores the device list without denying what was allowed', async () => {
    const rules = [
      { allow: true, type: 'c', major: 5, access: 'm' },
      { allow: false, type: 'c', major: 1, minor: 3, access: 'w' },
      { allow: true, type: 'b', major: 8, minor: 0 },
    ];
    const group = fresh();
    await (await set(group, { devices: rules }, {}, true)).undo();
    assert.equal(group.files.get('devices.list'), V1_FILES['devices.list']);
    assert.deepEqual(group.log.slice(3), ['devices.deny=b 8:0 rwm', 'devices.allow=c 1:3 w', 'devices.deny=c 5:* m']);
  });

  it('restores the device list from and to "all"', async () => {
    for (const list of ['a *:* rwm\n', V1_FILES['devices.list'] as string, '']) {
      for (const devices of [[{ allow: true }], [{ allow: false }], [{ allow: false }, { allow: true, type: 'c' }]]) {
        const group = fresh({ 'devices.list': list });
        await (await set(group, { devices }, {}, true)).undo();
        assert.equal(group.files.get('devices.list'), list);
      }
    }
  });

  it('leaves every file as it was, whichever write fails', async () => {
    // All but `unified`.
    const setTyped: SetLimits = (group, { unified: _, ...typed }, saved) => set(group, typed, saved);
    await assertFilesStay(setTyped, fresh, ['EINVAL', 'EBUSY', 'ENOENT', 'EPERM']);
  });
});
