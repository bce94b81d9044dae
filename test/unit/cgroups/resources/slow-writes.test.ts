import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { mayTakeLong, setV1, setV2 } from '../../../../src/cgroups/resources/index.js';
import type { LinuxResources } from '../../../../src/oci/index.js';
import { DIR, FakeGroup, V1_FILES, V2_FILES } from './fake-group.js';

const V2 = { ...V2_FILES, 'memory.current': '4096\n', 'memory.high': 'max\n' };
const V1_DIRS = { get: () => DIR } as unknown as ReadonlyMap<string, string>;

describe('writes that may take long', () => {
  const ROWS: readonly [file: string, data: string, files: Readonly<Record<string, string>>, slow: boolean][] = [
    ['memory.max', '8192', { 'memory.max': '4096\n', 'memory.current': '4096\n' }, false],
    ['memory.max', '8192', { 'memory.max': '8192\n', 'memory.current': '8192\n' }, false],
    ['memory.max', 'max', { 'memory.max': '4096\n', 'memory.current': '4096\n' }, false],
    ['memory.max', '4096', { 'memory.max': '8192\n', 'memory.current': '0\n' }, true],
    ['memory.max', '4096', { 'memory.max': 'max\n', 'memory.current': '0\n' }, true],
    // A group may be above its limit.
    ['memory.max', '8192', { 'memory.max': '4096\n', 'memory.current': '12288\n' }, true],
    ['memory.max', '64M', { 'memory.max': '4096\n', 'memory.current': '0\n' }, true],
    ['memory.max', '8192', { 'memory.max': '4096\n' }, true],
    ['memory.max', '8192', {}, true],
    ['memory.limit_in_bytes', '-1', { 'memory.limit_in_bytes': '1\n', 'memory.usage_in_bytes': '1\n' }, false],
    ['memory.limit_in_bytes', '1', { 'memory.limit_in_bytes': '2\n', 'memory.usage_in_bytes': '1\n' }, true],
    ['memory.memsw.limit_in_bytes', '1', { 'memory.memsw.limit_in_bytes': '2\n' }, true],
    ['memory.high', 'max', {}, false],
    ['memory.high', '8192', { 'memory.high': '4096\n' }, true],
  ];
  for (const [file, data, files, slow] of ROWS) {
    it(`${file}=${data} with ${JSON.stringify(files)}: ${slow ? 'may' : 'does not'}`, () => {
      assert.equal(
        mayTakeLong(file, data, (name) => files[name]),
        slow,
      );
    });
  }

  const QUICK = ['pids.max', 'cpu.max', 'cpu.shares', 'memory.low', 'memory.swap.max', 'hugetlb.2MB.max', 'rdma.max'];
  const SLOW = ['cpuset.mems', 'cpuset.cpus', 'io.max', 'blkio.throttle.read_bps_device', 'memory.reclaim'];
  const UNKNOWN = ['memory.force_empty', 'net_prio.ifpriomap', 'cgroup.kill', 'nonsense.max'];
  it('are all that are not known to be quick', () => {
    assert.deepEqual(
      [...QUICK, ...SLOW, ...UNKNOWN].filter((file) => !mayTakeLong(file, '1', () => undefined)),
      QUICK,
    );
  });
});

describe('limits with writes that may take long', () => {
  it('have those written where nobody waits, in the same order', async () => {
    const group = new FakeGroup(V2);
    const update: LinuxResources = { pids: { limit: 5 }, memory: { limit: 8192 }, cpu: { shares: 512, cpus: '0' } };
    await setV2(DIR, {}, update, group);
    assert.deepEqual(group.slow, ['memory.max', 'cpuset.cpus']);
    assert.deepEqual(group.log, ['pids.max=5', 'memory.max=8192', 'cpu.weight=59', 'cpuset.cpus=0']);
  });

  it('have none in what is usual: a limit raised, a weight, a quota', async () => {
    const group = new FakeGroup({ ...V2, 'memory.max': '4096\n' });
    await setV2(DIR, {}, { memory: { limit: 8192 }, cpu: { shares: 512, quota: 5000 } }, group);
    assert.deepEqual(group.slow, []);
    const v1 = new FakeGroup({ ...V1_FILES, 'memory.limit_in_bytes': '4096\n', 'memory.usage_in_bytes': '1\n' });
    await setV1(V1_DIRS, {}, { memory: { limit: 8192 }, cpu: { shares: 512, quota: 5000 } }, { io: v1 });
    assert.deepEqual(v1.slow, []);
  });

  it('are put back the same way: what was raised is lowered again', async () => {
    const group = new FakeGroup({ ...V2, 'memory.max': '4096\n' });
    const applied = await setV2(DIR, {}, { memory: { limit: 8192 } }, group);
    assert.deepEqual(group.slow, []);
    await applied.undo();
    assert.deepEqual(group.slow, ['memory.max']);
    assert.equal(group.files.get('memory.max'), '4096\n');
  });

  it('are put back when a slow write is refused', async () => {
    const group = new FakeGroup(V2);
    group.refuse = (file) => (file === 'memory.max' ? 'EBUSY' : undefined);
    const before = group.snapshot();
    await assert.rejects(setV2(DIR, {}, { pids: { limit: 5 }, memory: { limit: 8192 } }, group), { errno: 'EBUSY' });
    assert.deepEqual(group.snapshot(), before);
  });
});
