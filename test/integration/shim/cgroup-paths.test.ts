/**
 * A container whose cgroup has a path beyond ASCII, or whose processes stand still for want of
 * memory.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import * as api from '../../../src/api/index.js';
import { SIGKILL, SIGTERM } from '../../../src/sys/index.js';
import { LAMINA } from '../../lib/box.js';
import { nestGroups, plainHierarchy } from '../../lib/deep-groups.js';
import { childrenOf, isAlive } from '../../lib/proc.js';
import { killEngine } from '../../lib/processes.js';
import { cgroupMode, requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { runExec } from '../../lib/task-steps.js';
import { until } from '../../lib/wait.js';

const LIMIT = 16 * 1024 * 1024;
const isV2 = cgroupMode() === 'v2';

/** Where a process is in the hierarchy that limits memory. */
function memoryGroup(pid: number): string {
  const membership = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
  const path = (isV2 ? /^0::(.*)$/m : /^\d+:memory:(.*)$/m).exec(membership)?.[1] ?? '';
  return `/sys/fs/cgroup${isV2 ? '' : '/memory'}${path}`;
}

describe('a container', { skip: requires({ root: true, runc: '1.1' }) || LAMINA.skip }, () => {
  let daemon: FakeDaemon;
  const beyondAscii = (id: string): string => `/${daemon.namespace}/ünï 盒 ${id}`;

  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
  });
  after(() => daemon.stop());

  async function launch(options: Parameters<FakeDaemon['launch']>[0]): Promise<{ shim: ShimHandle; pid: number }> {
    const shim = await daemon.launch(options);
    const pid = await daemon.create(shim);
    await shim.task.start({ id: shim.id, execId: '' });
    return { shim, pid };
  }

  async function end(shim: ShimHandle): Promise<void> {
    await shim.task.delete({ id: shim.id, execId: '' });
    await shim.task.shutdown({ id: shim.id, now: false });
  }

  it('has statistics, limits, a pause and its processes by a path beyond ASCII, also with the next engine', async () => {
    const { shim, pid } = await launch({
      args: ['/bin/sh', '-c', 'sleep 1000 & wait'],
      cgroupsPath: beyondAscii,
      memoryLimitBytes: LIMIT,
    });
    const init = { id: shim.id, execId: '' };
    const dir = memoryGroup(pid);
    assert.match(dir, /ünï 盒/);
    const limitFile = isV2 ? 'memory.max' : 'memory.limit_in_bytes';
    for (const round of [1, 2]) {
      await until('init and its child are listed', async () => {
        const { processes } = await shim.task.pids({ id: shim.id });
        return processes.length === 2;
      });
      const { stats } = await shim.task.stats({ id: shim.id });
      assert.ok(stats !== undefined && stats.value.length > 0);
      const limit = LIMIT * (round + 1);
      const resources = api.packJson(api.OCI_TYPE_URL.linuxResources, { memory: { limit } });
      await shim.task.update({ id: shim.id, resources, annotations: {} });
      assert.equal(readFileSync(`${dir}/${limitFile}`, 'utf8'), `${limit}\n`);
      await shim.task.pause({ id: shim.id });
      await shim.task.resume({ id: shim.id });
      if (round === 1) await killEngine(daemon);
    }
    await shim.task.kill({ ...init, signal: SIGKILL, all: true });
    await shim.task.wait(init);
    await end(shim);
    assert.equal(existsSync(dir), false);
  });

  for (const how of ['all', 'exit'] as const) {
    const title = how === 'all' ? 'is ended by a signal to all' : 'leaves nobody behind when init ends';
    it(`${title}, with a path beyond ASCII in the host’s pid namespace`, async () => {
      const { shim, pid } = await launch({
        args: ['/bin/sh', '-c', 'sleep 1000 & sleep 1000 & wait'],
        cgroupsPath: beyondAscii,
        hostPid: true,
      });
      const init = { id: shim.id, execId: '' };
      const children = await until('both children', () => {
        const pids = childrenOf(pid).map((info) => info.pid);
        return pids.length === 2 ? pids : undefined;
      });
      if (how === 'all') await shim.task.kill({ ...init, signal: SIGTERM, all: true });
      else await shim.task.kill({ ...init, signal: SIGKILL, all: false });
      await shim.task.wait(init);
      for (const child of children) await until('its end', () => !isAlive(child));
      await end(shim);
    });
  }

  it('leaves no group behind, however deep it has nested some', async () => {
    const { shim, pid } = await launch({ args: ['/bin/sleep', '1000'] });
    const init = { id: shim.id, execId: '' };
    const dir = memoryGroup(pid).replace('/memory/', `${plainHierarchy().slice('/sys/fs/cgroup'.length)}/`);
    nestGroups(dir, 700, 'nesting');
    await shim.task.kill({ ...init, signal: SIGKILL, all: false });
    await shim.task.wait(init);
    await end(shim);
    assert.equal(existsSync(dir), false);
  });

  it('is told of once as out of memory with the OOM killer off, also by the next engine, and can be killed', {
    skip: isV2 && 'v2 has no OOM killer that can be off',
  }, async () => {
    const { shim, pid } = await launch({
      args: ['/bin/sh', '-c', 'while [ ! -e /go ]; do sleep 0.02; done; exec probe hog 67108864'],
      resources: { memory: { limit: LIMIT, disableOOMKiller: true } },
    });
    const init = { id: shim.id, execId: '' };
    const ooms = (): number =>
      new Set(
        daemon.events
          .filter(({ topic, event }) => topic === '/tasks/oom' && event['containerId'] === shim.id)
          .map(({ time }) => time),
      ).size;
    assert.equal(await runExec(shim, 'go', ['/bin/touch', '/go']), 0);
    const control = `${memoryGroup(pid)}/memory.oom_control`;
    await until('it stands still', () => readFileSync(control, 'utf8').includes('under_oom 1'));
    await until('it is told', () => ooms() === 1);
    await killEngine(daemon);
    const { stats } = await shim.task.stats({ id: shim.id });
    assert.ok(stats !== undefined);
    await shim.task.kill({ ...init, signal: SIGKILL, all: false });
    assert.equal((await shim.task.wait(init)).exitStatus, 128 + SIGKILL);
    await end(shim);
    assert.equal(ooms(), 1);
  });
});
