import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Code } from '../../../../src/base/index.js';
import { type Applied, LimitUnavailableError, ResourceError, setV2 } from '../../../../src/cgroups/resources/index.js';
import type { LinuxResources } from '../../../../src/oci/index.js';
import { DIR, FakeGroup, V2_FILES } from './fake-group.js';

function set(group: FakeGroup, update: LinuxResources, saved: LinuxResources = {}): Promise<Applied> {
  return setV2(DIR, saved, update, group);
}

/** What is written for an update to a fresh group. */
async function written(update: LinuxResources, saved: LinuxResources = {}, group = new FakeGroup()): Promise<string[]> {
  await set(group, update, saved);
  return group.log;
}

const SDA = { major: 8, minor: 0 };
const SDB = { major: 8, minor: 16 };

const ROWS: readonly [what: string, update: LinuxResources, writes: string[], saved?: LinuxResources][] = [
  ['nothing for nothing', {}, []],
  ['nothing for empty sections', { memory: {}, cpu: {}, pids: {}, blockIO: {}, rdma: {}, unified: {} }, []],
  [
    'nothing for what runc takes for absent',
    {
      memory: { limit: 0, swap: 0, reservation: 0 },
      cpu: { shares: 0, quota: 0, period: 0, cpus: '' },
      blockIO: { weight: 0 },
    },
    [],
  ],
  [
    'nothing for the fields of v1',
    {
      memory: { kernel: 5, kernelTCP: 5, swappiness: 5, disableOOMKiller: true },
      cpu: { realtimeRuntime: 5, realtimePeriod: 5 },
      blockIO: { leafWeight: 500 },
      network: { classID: 5 },
    },
    [],
  ],
  [
    'swap before memory',
    { memory: { limit: 4096, swap: 8192, reservation: 1024 } },
    ['memory.swap.max=4096', 'memory.max=4096', 'memory.low=1024'],
  ],
  ['no swap if it equals memory', { memory: { limit: 4096, swap: 4096 } }, ['memory.swap.max=0', 'memory.max=4096']],
  ['unlimited swap with unlimited memory', { memory: { limit: -1 } }, ['memory.swap.max=max', 'memory.max=max']],
  ['swap of the saved limit', { memory: { swap: 8192 } }, ['memory.swap.max=4096'], { memory: { limit: 4096 } }],
  [
    'swap again when the limit below it moves',
    { memory: { limit: 6144 } },
    ['memory.swap.max=2048', 'memory.max=6144'],
    { memory: { limit: 4096, swap: 8192 } },
  ],
  ['not the saved limit', { memory: { reservation: -1 } }, ['memory.low=max'], { memory: { limit: 4096, swap: 8192 } }],
  ['pids', { pids: { limit: 0 } }, ['pids.max=1']],
  ['a quota with its default period', { cpu: { quota: 5000 } }, ['cpu.max=5000 100000']],
  ['a quota with the saved period', { cpu: { quota: 5000 } }, ['cpu.max=5000 50000'], { cpu: { period: 50_000 } }],
  ['a period with the saved quota', { cpu: { period: 50_000 } }, ['cpu.max=5000 50000'], { cpu: { quota: 5000 } }],
  ['a period alone', { cpu: { period: 50_000 } }, ['cpu.max=max 50000']],
  ['a lifted quota', { cpu: { quota: -1 } }, ['cpu.max=max 50000'], { cpu: { quota: 5000, period: 50_000 } }],
  ['burst before quota', { cpu: { quota: 5000, burst: 1000 } }, ['cpu.max.burst=1000', 'cpu.max=5000 100000']],
  ['idle before weight', { cpu: { idle: 0, shares: 512 } }, ['cpu.idle=0', 'cpu.weight=59']],
  ['cpuset', { cpu: { cpus: '0-1', mems: '0' } }, ['cpuset.cpus=0-1', 'cpuset.mems=0']],
  [
    'one line of io.max per entry, 0 as "max"',
    {
      blockIO: {
        throttleReadBpsDevice: [
          { ...SDA, rate: 5 },
          { ...SDB, rate: 0 },
        ],
        throttleWriteIOPSDevice: [{ ...SDA, rate: 7 }],
      },
    },
    ['io.max=8:0 rbps=5', 'io.max=8:16 rbps=max', 'io.max=8:0 wiops=7'],
  ],
  [
    'the other keys of io.max',
    { blockIO: { throttleWriteBpsDevice: [{ ...SDA, rate: 5 }], throttleReadIOPSDevice: [{ ...SDA, rate: 6 }] } },
    ['io.max=8:0 wbps=5', 'io.max=8:0 riops=6'],
  ],
  [
    'io.weight, no weights per device, without BFQ',
    { blockIO: { weight: 750, weightDevice: [{ ...SDA, weight: 100 }] } },
    ['io.weight=7475'],
  ],
  [
    'huge pages and their reservations',
    {
      hugepageLimits: [
        { pageSize: '2MB', limit: 4 },
        { pageSize: '1GB', limit: 0 },
      ],
    },
    ['hugetlb.2MB.max=4', 'hugetlb.2MB.rsvd.max=4', 'hugetlb.1GB.max=0', 'hugetlb.1GB.rsvd.max=0'],
  ],
  [
    'the given parts of an rdma device',
    { rdma: { mlx5_0: { hcaHandles: 3 }, mlx5_1: { hcaHandles: 1, hcaObjects: 2 }, none: {} } },
    ['rdma.max=mlx5_0 hca_handle=3', 'rdma.max=mlx5_1 hca_handle=1 hca_object=2'],
  ],
  [
    'unified line by line',
    { unified: { 'io.max': '8:0 rbps=1\n8:16 rbps=2\n', 'cpuset.cpus': '' } },
    ['io.max=8:0 rbps=1', 'io.max=8:16 rbps=2', 'cpuset.cpus='],
  ],
  [
    'unified in the safe order',
    {
      unified: {
        'misc.max': 'res_a 5',
        'cgroup.freeze': '0',
        'cpu.max': '5000 100000',
        'rdma.max': 'mlx5_0 hca_handle=1',
        'cpu.max.burst': '10',
        'cpuset.mems': '0',
        'memory.max': '9',
        'cpu.weight': '5',
        'cpu.idle': '0',
        'memory.high': '8',
        'io.weight': '7',
        'memory.swap.max': '6',
        'pids.max': '5',
        'hugetlb.2MB.max': '1',
      },
    },
    [
      'pids.max=5',
      'memory.swap.max=6',
      'memory.max=9',
      'memory.high=8',
      'io.weight=7',
      'cpu.idle=0',
      'cpu.weight=5',
      'cpu.max.burst=10',
      'cpu.max=5000 100000',
      'cpuset.mems=0',
      'hugetlb.2MB.max=1',
      'rdma.max=mlx5_0 hca_handle=1',
      'misc.max=res_a 5',
      'cgroup.freeze=0',
    ],
  ],
  [
    'the controllers in order, unified last',
    {
      unified: { 'memory.high': '5' },
      rdma: { mlx5_0: { hcaHandles: 1 } },
      hugepageLimits: [{ pageSize: '2MB', limit: 4 }],
      cpu: { cpus: '0', shares: 1024 },
      blockIO: { weight: 10 },
      memory: { limit: 9 },
      pids: { limit: 8 },
    },
    [
      'pids.max=8',
      'memory.max=9',
      'io.weight=1',
      'cpu.weight=100',
      'cpuset.cpus=0',
      'hugetlb.2MB.max=4',
      'hugetlb.2MB.rsvd.max=4',
      'rdma.max=mlx5_0 hca_handle=1',
      'memory.high=5',
    ],
  ],
];

describe('setV2 writes', () => {
  for (const [what, update, writes, saved] of ROWS) {
    it(what, async () => assert.deepEqual(await written(update, saved), writes));
  }

  it('burst after the new quota if the old one does not allow it', async () => {
    const group = new FakeGroup({ ...V2_FILES, 'cpu.max': '5000 100000\n' });
    const writes = await written({ cpu: { quota: 50_000, burst: 20_000 } }, {}, group);
    assert.deepEqual(writes, ['cpu.max.burst=20000 !EINVAL', 'cpu.max=50000 100000', 'cpu.max.burst=20000']);
  });

  it('the same in unified', async () => {
    const group = new FakeGroup({ ...V2_FILES, 'cpu.max': '5000 100000\n' });
    const writes = await written({ unified: { 'cpu.max.burst': '20000', 'cpu.max': '50000 100000' } }, {}, group);
    assert.deepEqual(writes, ['cpu.max.burst=20000 !EINVAL', 'cpu.max=50000 100000', 'cpu.max.burst=20000']);
  });

  it('the burst again on a kernel that divides it when the quota is written', async () => {
    const group = new FakeGroup({ ...V2_FILES, 'cpu.max': '50000 100000\n', 'cpu.max.burst': '20000\n' });
    group.refuse = (file) => {
      if (file === 'cpu.max') group.files.set('cpu.max.burst', '20\n');
      return undefined;
    };
    const applied = await set(group, { cpu: { quota: 60_000 } });
    assert.deepEqual(group.log, ['cpu.max=60000 100000', 'cpu.max.burst=20000']);
    await applied.undo();
    assert.equal(group.files.get('cpu.max'), '50000 100000\n');
    assert.equal(group.files.get('cpu.max.burst'), '20000\n');
  });

  it('raw weights to BFQ, per device if it shows a default', async () => {
    const update = {
      blockIO: {
        weight: 750,
        weightDevice: [
          { ...SDA, weight: 100 },
          { ...SDB, weight: 0 },
        ],
      },
    };
    const now = new FakeGroup({ ...V2_FILES, 'io.bfq.weight': 'default 100\n' });
    assert.deepEqual(await written(update, {}, now), ['io.bfq.weight=750', 'io.bfq.weight=8:0 100']);
    const before54 = new FakeGroup({ ...V2_FILES, 'io.bfq.weight': '100\n' });
    assert.deepEqual(await written(update, {}, before54), ['io.bfq.weight=750']);
  });

  it('no reservations of huge pages where the first has no such file', async () => {
    const group = new FakeGroup(V2_FILES, 'hugetlb.2MB.rsvd.max', 'hugetlb.1GB.rsvd.max');
    const hugepageLimits = [
      { pageSize: '2MB', limit: 4 },
      { pageSize: '1GB', limit: 0 },
    ];
    assert.deepEqual(await written({ hugepageLimits }, {}, group), [
      'hugetlb.2MB.max=4',
      'hugetlb.2MB.rsvd.max=4 !ENOENT',
      'hugetlb.1GB.max=0',
    ]);
  });

  it('no swap where it is not counted, if no limit is asked for', async () => {
    for (const memory of [{ limit: -1 }, { limit: 4096, swap: 4096 }, { limit: 4096, swap: -1 }]) {
      const group = new FakeGroup(V2_FILES, 'memory.swap.max');
      await set(group, { memory });
      assert.equal(group.log.length, 2);
    }
    const group = new FakeGroup(V2_FILES, 'memory.swap.max');
    await assert.rejects(set(group, { memory: { limit: 4096, swap: 8192 } }), LimitUnavailableError);
  });

  it('gives the limits in force, devices left out', async () => {
    const applied = await set(
      new FakeGroup(),
      { pids: { limit: 5 }, devices: [{ allow: true }] },
      { cpu: { shares: 7 } },
    );
    assert.deepEqual(applied.resources, { pids: { limit: 5 }, cpu: { shares: 7 } });
  });
});

describe('checkBeforeUpdate', () => {
  const usage = 64 * 1024;

  it('refuses a limit that is not above the usage, and writes nothing', async () => {
    for (const [memory, field] of [
      [{ limit: usage, checkBeforeUpdate: true }, 'resources.memory.limit'],
      [{ limit: 4096, swap: usage, checkBeforeUpdate: true }, 'resources.memory.swap'],
    ] as const) {
      const group = new FakeGroup();
      await assert.rejects(set(group, { pids: { limit: 5 }, memory }), {
        name: 'ResourceError',
        field,
        code: Code.FailedPrecondition,
      });
      assert.deepEqual(group.log, []);
    }
  });

  it('allows what is above, unlimited, or not about memory', async () => {
    for (const memory of [{ limit: usage + 1 }, { limit: -1 }, { reservation: 5 }]) {
      await set(new FakeGroup(), { memory: { ...memory, checkBeforeUpdate: true } });
    }
    await set(new FakeGroup(), { memory: { limit: 5 } });
  });

  it('stays asked for, and is passed over where the usage cannot be read', async () => {
    const saved = { memory: { checkBeforeUpdate: true } };
    await assert.rejects(set(new FakeGroup(), { memory: { limit: 5 } }, saved), ResourceError);
    await set(new FakeGroup(V2_FILES, 'memory.current'), { memory: { limit: 5 } }, saved);
  });
});
