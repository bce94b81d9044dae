import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import * as api from '../../../src/api/index.js';
import { SIGKILL } from '../../../src/sys/index.js';
import { LAMINA } from '../../lib/box.js';
import { cgroupMode, requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';

/** Where a process is, in every hierarchy that has the controllers of containers. */
function placesOf(pid: number): Set<string> {
  const lines = readFileSync(`/proc/${pid}/cgroup`, 'utf8').split('\n').filter(Boolean);
  const isAsked = (line: string): boolean => (cgroupMode() === 'v2' ? line.startsWith('0:') : !line.startsWith('0:'));
  return new Set(lines.filter(isAsked).map((line) => line.replace(/^\d+:[^:]*:/, '')));
}

describe('ShimCgroup', { skip: requires({ root: true, runc: '1.1' }) || LAMINA.skip }, () => {
  let daemon: FakeDaemon;

  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
  });
  after(() => daemon.stop());

  const start = async (shimCgroup: string): Promise<{ shim: ShimHandle; keeper: number }> => {
    const shim = await daemon.launch({ args: ['/bin/sleep', '1000'] });
    const options = api.runc.Options.fromPartial({ shimCgroup });
    await daemon.create(shim, { options: api.packMessage(api.runc.Options, options) });
    await shim.task.start({ id: shim.id, execId: '' });
    return { shim, keeper: (await shim.task.connect({ id: shim.id })).shimPid };
  };

  const finish = async (shim: ShimHandle): Promise<void> => {
    const init = { id: shim.id, execId: '' };
    await shim.task.kill({ ...init, signal: SIGKILL, all: true });
    await shim.task.wait(init);
    await shim.task.delete(init);
    await shim.task.shutdown({ id: shim.id, now: false });
    shim.connection.close();
  };

  it('makes the group, and takes a second shim into it', async () => {
    const group = `/${daemon.marker}-shims/pool`;
    const started = [await start(group), await start(group.slice(1))];
    for (const { keeper } of started) assert.deepEqual(placesOf(keeper), new Set([group]));
    for (const { shim } of started) await finish(shim);
  });

  it('leaves the shim where it is when the group cannot be made', async () => {
    const { shim, keeper } = await start(`/cgroup.procs/${daemon.marker}`);
    assert.deepEqual(placesOf(keeper), placesOf(process.pid));
    await finish(shim);
  });
});
