/**
 * The daemon is away for long, and another comes back: events wait, in order, and each comes once.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import * as api from '../../../src/api/index.js';
import { SIGKILL } from '../../../src/sys/index.js';
import { createClient } from '../../../src/ttrpc/index.js';
import { LAMINA } from '../../lib/box.js';
import { nothingLeft } from '../../lib/leftovers.js';
import { replaceEngine } from '../../lib/processes.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { addExec, runExec, shutdown } from '../../lib/task-steps.js';
import { until } from '../../lib/wait.js';

const skip = requires({ root: true, runc: '1.1' }) || LAMINA.skip;
const SLEEP = { args: ['/bin/sleep', '1000'] };

describe('while the daemon is away', { skip }, () => {
  let daemon: FakeDaemon;
  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
  });
  after(() => daemon.stop());

  const running = async (): Promise<ShimHandle> => {
    const shim = await daemon.launch(SLEEP);
    await daemon.create(shim);
    await shim.task.start({ id: shim.id, execId: '' });
    return shim;
  };

  it('every event waits, and comes once and in its turn, however often the engine dies', async () => {
    const shim = await running();
    await daemon.waitForTopic(shim.id, 'start');
    daemon.leave();
    const expected = ['create', 'start'];
    for (let n = 0; n < 12; n += 1) {
      await shim.task.pause({ id: shim.id });
      await shim.task.resume({ id: shim.id });
      expected.push('paused', 'resumed');
      if (n % 4 === 1) await replaceEngine(daemon);
      if (n % 4 !== 3) continue;
      assert.equal(await runExec(shim, `x${n}`, ['/bin/true']), 0);
      expected.push('exec-added', 'exec-started', 'exit');
    }
    // Even what ends without anybody asking.
    await addExec(shim, 'last', ['/bin/sleep', '2000']);
    await shim.task.start({ id: shim.id, execId: 'last' });
    await shim.task.kill({ id: shim.id, execId: '', signal: SIGKILL, all: true });
    await shim.task.wait({ id: shim.id, execId: '' });
    await shim.task.delete({ id: shim.id, execId: '' });
    expected.push('exec-added', 'exec-started', 'exit', 'exit', 'delete');
    await replaceEngine(daemon);
    assert.deepEqual(daemon.topics(shim.id), ['create', 'start']);
    await daemon.comeBack();
    await daemon.waitForTopic(shim.id, 'delete');
    assert.deepEqual(daemon.topics(shim.id), expected);
    const times = daemon.events.filter(({ event }) => event['containerId'] === shim.id).map(({ time }) => time);
    assert.deepEqual(
      [...times].sort((a, b) => Number(a.split('.')[0]) - Number(b.split('.')[0])),
      times,
    );
    await nothingLeft(daemon, shim.id);
    await shutdown(shim);
  });

  it('it may be replaced by one that speaks the next version of the protocol, and back', async () => {
    const shim = await running();
    daemon.leave();
    shim.connection.close();
    await daemon.comeBack();
    const connection = await daemon.connect(shim.address);
    const task = createClient(api.taskV3.TaskDefinition, connection);
    const { pid } = await task.state({ id: shim.id, execId: '' });
    assert.equal((await task.connect({ id: shim.id })).taskPid, pid);
    await task.pause({ id: shim.id });
    connection.close();

    const older = { ...shim, connection: await daemon.connect(shim.address) };
    const later = { ...older, task: createClient(api.taskV2.TaskDefinition, older.connection) };
    assert.equal((await later.task.state({ id: shim.id, execId: '' })).status, api.Status.PAUSED);
    await later.task.resume({ id: shim.id });
    assert.equal(await runExec(later, 'x', ['/bin/sh', '-c', 'exit 6']), 6);
    await later.task.kill({ id: shim.id, execId: '', signal: SIGKILL, all: true });
    assert.equal((await later.task.wait({ id: shim.id, execId: '' })).exitStatus, 137);
    await later.task.delete({ id: shim.id, execId: '' });
    await daemon.waitForTopic(shim.id, 'delete');
    const told = ['create', 'start', 'paused', 'resumed', 'exec-added', 'exec-started', 'exit', 'exit', 'delete'];
    assert.deepEqual(daemon.topics(shim.id), told);
    await nothingLeft(daemon, shim.id);
    await shutdown(later);
  });

  it('a shim without containers does not wait for it for ever', async () => {
    const shim = await running();
    const { shimPid } = await shim.task.connect({ id: shim.id });
    daemon.leave();
    await shim.task.kill({ id: shim.id, execId: '', signal: SIGKILL, all: true });
    await shim.task.wait({ id: shim.id, execId: '' });
    await shim.task.delete({ id: shim.id, execId: '' });
    await shutdown(shim);
    await until('the keeper has ended', () => {
      try {
        process.kill(shimPid, 0);
        return false;
      } catch {
        return true;
      }
    });
    await daemon.comeBack();
  });
});
