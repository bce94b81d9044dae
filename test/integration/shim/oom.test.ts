import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { SIGKILL } from '../../../src/sys/index.js';
import { LAMINA } from '../../lib/box.js';
import { killEngine } from '../../lib/processes.js';
import { cgroupMode, requires } from '../../lib/requires.js';
import { FakeDaemon } from '../../lib/shim-client.js';
import { until } from '../../lib/wait.js';

const LIMIT = 16 * 1024 * 1024;

/** How many processes of a process's group an OOM killer has killed. */
function oomKills(pid: number): number {
  const isV2 = cgroupMode() === 'v2';
  const membership = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
  const path = (isV2 ? /^0::(.*)$/m : /^\d+:memory:(.*)$/m).exec(membership)?.[1] ?? '';
  const file = isV2 ? `/sys/fs/cgroup${path}/memory.events` : `/sys/fs/cgroup/memory${path}/memory.oom_control`;
  return Number(/^oom_kill (\d+)$/m.exec(readFileSync(file, 'utf8'))?.[1]);
}

describe('an OOM kill', { skip: requires({ root: true, runc: '1.1' }) || LAMINA.skip }, () => {
  let daemon: FakeDaemon;

  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
  });
  after(() => daemon.stop());

  it('that happens while there is no engine is told by the next one, once', async () => {
    // Each time there is a file, a child of init runs out of memory.
    const script = 'for n in 1 2; do while [ ! -e /go$n ]; do sleep 0.02; done; probe hog 67108864; done; sleep 1000';
    const shim = await daemon.launch({ args: ['/bin/sh', '-c', script], memoryLimitBytes: LIMIT });
    const init = { id: shim.id, execId: '' };
    const pid = await daemon.create(shim);
    await shim.task.start(init);
    const { shimPid: keeper } = await shim.task.connect({ id: shim.id });
    // One whose acknowledgement dies with the engine is sent again; it is the same one.
    const ooms = (): number =>
      new Set(
        daemon.events
          .filter(({ topic, event }) => topic === '/tasks/oom' && event['containerId'] === shim.id)
          .map(({ time }) => time),
      ).size;
    const run = (n: number): void => writeFileSync(join(shim.bundle, 'rootfs', `go${n}`), '');

    run(1);
    await until('the first is told', () => ooms() === 1);
    // A keeper that stands still starts no engine.
    process.kill(keeper, 'SIGSTOP');
    try {
      await killEngine(daemon);
      run(2);
      await until('the second has happened', () => oomKills(pid) === 2);
    } finally {
      process.kill(keeper, 'SIGCONT');
    }
    await until('the second is told', () => ooms() === 2);
    await killEngine(daemon);
    await shim.task.kill({ ...init, signal: SIGKILL, all: true });
    await shim.task.wait(init);
    await shim.task.delete(init);
    await daemon.waitForTopic(shim.id, 'delete');
    assert.equal(ooms(), 2);
    await shim.task.shutdown({ id: shim.id, now: false });
  });
});
