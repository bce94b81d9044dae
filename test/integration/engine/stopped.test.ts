/**
 * Keeper or engine are stopped (SIGSTOP), and go on or are replaced. Who waits for them is answered
 * in the end, nobody else waits, and what was asked for is done once: an engine that was replaced
 * never goes on beside its successor.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Status } from '../../../src/api/index.js';
import { SIGKILL } from '../../../src/sys/index.js';
import { LAMINA } from '../../lib/box.js';
import { nothingLeft } from '../../lib/leftovers.js';
import { isAlive, readProcess } from '../../lib/proc.js';
import { engines, replaceEngine, theEngine } from '../../lib/processes.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { addExec, keeperPidOf, killAndDelete, runExec, shutdown, statusOf } from '../../lib/task-steps.js';
import { until } from '../../lib/wait.js';
import { FaultyRuntime } from './faulty-runtime.js';

const skip = requires({ root: true, runc: '1.1', programs: ['bash'] }) || LAMINA.skip;
const SLEEP = { args: ['/bin/sleep', '1000'] };
const HOLD = 'mkdir "$dir/held"; while [ ! -e "$dir/go" ]; do sleep 0.02; done';

async function stop(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  await until(`${pid} is stopped`, () => readProcess(pid)?.state === 'T');
}

describe('a stopped process', { skip }, () => {
  let daemon: FakeDaemon;
  let runtime: FaultyRuntime;
  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
    // A stopped engine is replaced after three to four of these. An honest one must be able to
    // start in that time, on a slow machine, too.
    daemon.env['LAMINA_PING_MS'] = '3000';
    runtime = new FaultyRuntime(daemon);
  });
  after(() => daemon.stop());

  const running = async (): Promise<ShimHandle> => {
    const shim = await daemon.launch(SLEEP);
    await daemon.create(shim, { options: runtime.options });
    await shim.task.start({ id: shim.id, execId: '' });
    return shim;
  };

  /** Ends it; everything it did was told once, in this order. */
  const assertEnds = async (shim: ShimHandle, told: readonly string[]): Promise<void> => {
    assert.equal(await killAndDelete(shim), 137);
    await daemon.waitForTopic(shim.id, 'delete');
    assert.deepEqual(daemon.topics(shim.id), ['create', 'start', ...told, 'exit', 'delete']);
    await nothingLeft(daemon, shim.id);
    await shutdown(shim);
  };

  const EXEC = ['exec-added', 'exec-started', 'exit'];

  it('keeper: others do not notice, and its own are answered when it goes on, by another engine if need be', async () => {
    const [shim, other] = [await running(), await running()];
    await addExec(shim, 'x', ['/bin/sh', '-c', 'exit 5']);
    // the keeper sends it
    await daemon.waitForTopic(shim.id, 'exec-added');
    const keeper = await keeperPidOf(shim);
    await stop(keeper);
    const started = shim.task.start({ id: shim.id, execId: 'x' });
    const waited = shim.task.wait({ id: shim.id, execId: 'x' });
    assert.equal(await runExec(other, 'y', ['/bin/sh', '-c', 'exit 4']), 4);
    await replaceEngine(daemon);
    assert.equal(await runExec(other, 'z', ['/bin/sh', '-c', 'exit 3']), 3);
    assert.deepEqual(daemon.topics(shim.id), ['create', 'start', 'exec-added']);
    process.kill(keeper, 'SIGCONT');
    await started;
    assert.equal((await waited).exitStatus, 5);
    assert.equal(await statusOf(shim), Status.RUNNING);
    await shim.task.delete({ id: shim.id, execId: 'x' });
    await assertEnds(shim, EXEC);
    await assertEnds(other, [...EXEC, ...EXEC]);
  });

  it('keeper: what its containers do meanwhile is told afterwards', async () => {
    const shim = await running();
    const { pid } = await shim.task.state({ id: shim.id, execId: '' });
    const keeper = await keeperPidOf(shim);
    await stop(keeper);
    process.kill(pid, 'SIGKILL');
    await until('init has ended', () => !isAlive(pid));
    process.kill(keeper, 'SIGCONT');
    assert.equal((await shim.task.wait({ id: shim.id, execId: '' })).exitStatus, 137);
    await shim.task.delete({ id: shim.id, execId: '' });
    await daemon.waitForTopic(shim.id, 'delete');
    assert.deepEqual(daemon.topics(shim.id), ['create', 'start', 'exit', 'delete']);
    await nothingLeft(daemon, shim.id);
    await shutdown(shim);
  });

  it('engine: when it goes on, it goes on', async () => {
    const shim = await running();
    await addExec(shim, 'x', ['/bin/sh', '-c', 'exit 5']);
    const engine = await theEngine(daemon);
    await stop(engine);
    const started = shim.task.start({ id: shim.id, execId: 'x' });
    process.kill(engine, 'SIGCONT');
    await started;
    assert.equal((await shim.task.wait({ id: shim.id, execId: 'x' })).exitStatus, 5);
    await shim.task.delete({ id: shim.id, execId: 'x' });
    await assertEnds(shim, EXEC);
  });

  it('engine: is killed and replaced, once for all keepers, and nothing is done twice', async () => {
    const [shim, other, third] = [await running(), await running(), await running()];
    await addExec(shim, 'x', ['/bin/sh', '-c', 'exit 5']);
    const { pid } = await other.task.state({ id: other.id, execId: '' });
    const engine = await theEngine(daemon);
    runtime.forgetCalls();
    runtime.on('exec', `${HOLD}; real`);
    const started = shim.task.start({ id: shim.id, execId: 'x' });
    const waited = other.task.wait({ id: other.id, execId: '' });
    await until('the runtime is held', () => runtime.has('held'));
    await stop(engine);
    // All of this it hears of, and does not come to act on it.
    process.kill(pid, 'SIGTERM');
    const paused = third.task.pause({ id: third.id });
    process.kill(pid, 'SIGKILL');
    runtime.touch('go');
    await until('the engine of before is gone', () => !isAlive(engine));
    await Promise.all([started, paused]);
    assert.equal((await waited).exitStatus, 137);
    assert.equal((await shim.task.wait({ id: shim.id, execId: 'x' })).exitStatus, 5);
    assert.equal(runtime.calls.filter((verb) => verb === 'exec').length, 1);
    runtime.on('exec', undefined);
    assert.equal(engines(daemon).length, 1);

    await shim.task.delete({ id: shim.id, execId: 'x' });
    await assertEnds(shim, EXEC);
    await other.task.delete({ id: other.id, execId: '' });
    await daemon.waitForTopic(other.id, 'delete');
    assert.deepEqual(daemon.topics(other.id), ['create', 'start', 'exit', 'delete']);
    await nothingLeft(daemon, other.id);
    await shutdown(other);
    await third.task.resume({ id: third.id });
    await third.task.kill({ id: third.id, execId: '', signal: SIGKILL, all: true });
    await third.task.wait({ id: third.id, execId: '' });
    await third.task.delete({ id: third.id, execId: '' });
    await daemon.waitForTopic(third.id, 'delete');
    assert.deepEqual(daemon.topics(third.id), ['create', 'start', 'paused', 'resumed', 'exit', 'delete']);
    await shutdown(third);
  });
});
