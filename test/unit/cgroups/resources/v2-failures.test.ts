import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Code } from '../../../../src/base/index.js';
import { CgroupFileError, CgroupNotFoundError } from '../../../../src/cgroups/index.js';
import { type Applied, LimitUnavailableError, RestoreError, setV2 } from '../../../../src/cgroups/resources/index.js';
import type { LinuxResources } from '../../../../src/oci/index.js';
import { anyResources } from './arbitrary.js';
import { assertFilesStay, attempt } from './failing-writes.js';
import { DIR, FakeGroup, V2_FILES } from './fake-group.js';

function set(group: FakeGroup, update: LinuxResources, saved: LinuxResources = {}): Promise<Applied> {
  return setV2(DIR, saved, update, group);
}

describe('setV2 failing', () => {
  it('names file, value and errno, and puts back what it had written', async () => {
    const group = new FakeGroup();
    const before = group.snapshot();
    group.refuse = (file) => (file === 'cpu.max' ? 'EINVAL' : undefined);
    await assert.rejects(
      set(group, { pids: { limit: 5 }, memory: { limit: 4096 }, cpu: { quota: 5000 } }),
      (error) =>
        error instanceof CgroupFileError &&
        error.path === `${DIR}/cpu.max` &&
        error.data === '5000 100000' &&
        error.errno === 'EINVAL' &&
        error.message.includes('cpu.max "5000 100000"'),
    );
    assert.deepEqual(group.snapshot(), before);
    assert.deepEqual(group.log, [
      'pids.max=5',
      'memory.max=4096',
      'cpu.max=5000 100000 !EINVAL',
      'memory.max=max',
      'pids.max=max',
    ]);
  });

  it('does not retry a burst that no quota follows', async () => {
    const group = new FakeGroup({ ...V2_FILES, 'cpu.max': '5000 100000\n' });
    await assert.rejects(set(group, { cpu: { burst: 6000 } }), { errno: 'EINVAL' });
    assert.deepEqual(group.log, ['cpu.max.burst=6000 !EINVAL']);
  });

  it('restores the weight an idle group has lost, and quotas in an order the kernel takes', async () => {
    const files = { ...V2_FILES, 'cpu.weight': '59\n', 'cpu.max': '50000 100000\n', 'cpu.max.burst': '40000\n' };
    const group = new FakeGroup(files);
    await (await set(group, { cpu: { idle: 1, quota: 5000, burst: 1000 } })).undo();
    assert.deepEqual(group.snapshot(), files);
    const idle = new FakeGroup({ ...files, 'cpu.idle': '1\n', 'cpu.weight': '0\n' });
    await (await set(idle, { cpu: { idle: 0, shares: 2 } })).undo();
    assert.equal(idle.files.get('cpu.idle'), '1\n');
  });

  it('says that a controller is not there, and which there are', async () => {
    const group = new FakeGroup({ 'cgroup.controllers': 'cpu pids\n', 'pids.max': 'max\n' });
    for (const update of [{ memory: { limit: 5 } }, { unified: { 'memory.high': '5' } }]) {
      await assert.rejects(
        set(group, { ...update, pids: { limit: 5 } }),
        (error) =>
          error instanceof LimitUnavailableError &&
          error.controller === 'memory' &&
          error.errno === 'ENOENT' &&
          error.code === Code.FailedPrecondition &&
          /controller memory not available in this group, which has cpu pids/.test(error.message),
      );
      assert.equal(group.files.get('pids.max'), 'max\n');
    }
  });

  it('says that the kernel has no such file where the controller is there', async () => {
    for (const file of ['memory.zswap.max', 'cgroup.nonsense']) {
      await assert.rejects(
        set(new FakeGroup(), { unified: { [file]: '5' } }),
        (error) => error instanceof LimitUnavailableError && /no such file/.test(error.message),
      );
    }
  });

  it('says that there is no such device', async () => {
    await assert.rejects(
      set(new FakeGroup(), { rdma: { other: { hcaHandles: 5 } } }),
      (error) =>
        error instanceof LimitUnavailableError && error.errno === 'ENODEV' && /no such device/.test(error.message),
    );
  });

  it('leaves other refusals as they are', async () => {
    const group = new FakeGroup();
    group.refuse = (file) => (file === 'memory.max' ? 'EPERM' : undefined);
    await assert.rejects(
      set(group, { memory: { limit: 5 } }),
      (error) =>
        error instanceof CgroupFileError &&
        !(error instanceof LimitUnavailableError) &&
        error.code === Code.PermissionDenied,
    );
  });

  it('knows a group that is gone', async () => {
    const group = new FakeGroup({});
    await assert.rejects(set(group, { pids: { limit: 5 } }), CgroupNotFoundError);
    // Removed while limits are set.
    const removed = new FakeGroup();
    removed.refuse = (file) => {
      if (file !== 'memory.max') return undefined;
      removed.files.clear();
      return 'ENODEV';
    };
    await assert.rejects(set(removed, { pids: { limit: 5 }, memory: { limit: 5 } }), CgroupNotFoundError);
  });

  it('tells what it could not put back', async () => {
    const group = new FakeGroup();
    group.refuse = (file, data) =>
      file === 'cpu.max' || (file === 'memory.max' && data === 'max') ? 'EINVAL' : undefined;
    await assert.rejects(
      set(group, { pids: { limit: 5 }, memory: { limit: 4096 }, cpu: { quota: 5000 } }),
      (error) =>
        error instanceof RestoreError &&
        error.failures.length === 1 &&
        error.failures[0]?.path === `${DIR}/memory.max` &&
        error.cause instanceof CgroupFileError &&
        error.cause.path === `${DIR}/cpu.max` &&
        /cpu\.max.*not restored.*memory\.max/.test(error.message),
    );
    assert.equal(group.files.get('pids.max'), 'max\n');
  });

  it('throws nothing but what is promised, whatever the JSON', async () => {
    await fc.assert(
      fc.asyncProperty(anyResources, async (json) => {
        const group = new FakeGroup();
        const before = group.sorted();
        if ((await attempt(set, group, {}, json as LinuxResources)) === undefined)
          assert.deepEqual(group.sorted(), before);
      }),
      { numRuns: 2000 },
    );
  });

  it('leaves every file as it was, whichever write fails', async () => {
    const fresh = (): FakeGroup => new FakeGroup({ ...V2_FILES, 'io.bfq.weight': 'default 100\n' });
    await assertFilesStay(set, fresh, ['EINVAL', 'EBUSY', 'ENOENT', 'EPERM', 'ERANGE']);
  });
});
