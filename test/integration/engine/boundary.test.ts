/**
 * What one keeper's engine throws, or cannot read, is that keeper's affair: the others go on with
 * the same engine.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { SIGKILL } from '../../../src/sys/index.js';
import { FaultyAddon, type Point } from '../../faults/faulty-addon.js';
import { LAMINA } from '../../lib/box.js';
import { nothingLeft } from '../../lib/leftovers.js';
import { readLog } from '../../lib/limits.js';
import { engineLog, engines, replaceEngine, theEngine } from '../../lib/processes.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { failureOf, killAndDelete, runExec, shutdown, statusOf } from '../../lib/task-steps.js';
import { until } from '../../lib/wait.js';

const skip = requires({ root: true, runc: '1.1' }) || LAMINA.skip;
const RUNNING = 2;
const STOPPED = 3;

describe('the boundary around a keeper', { skip }, () => {
  const addon = new FaultyAddon();
  let daemon: FakeDaemon;
  let neighbour: ShimHandle;
  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
    daemon.env['LAMINA_ADDON'] = addon.path;
    neighbour = await running();
  });
  after(async () => {
    await killAndDelete(neighbour);
    await shutdown(neighbour);
    await daemon.stop();
    addon.remove();
  });

  const running = async (): Promise<ShimHandle> => {
    const shim = await daemon.launch({ args: ['/bin/sleep', '1000'] });
    await daemon.create(shim);
    await shim.task.start({ id: shim.id, execId: '' });
    return shim;
  };

  const passed = async (point: Point): Promise<void> => {
    await until(`${point} was met`, () => addon.isSpent);
  };

  it('an error that nobody has caught costs a container its engine, not its calls, and others nothing', async () => {
    const shim = await running();
    const before = await theEngine(daemon);
    addon.armAt(`throw c/${shim.id}`);
    await shim.task.pause({ id: shim.id });
    await passed(`throw c/${shim.id}`);
    await until('it has an engine of its own', () => engines(daemon).length === 2);
    assert.ok(engines(daemon).includes(before), engineLog(daemon));
    assert.match(engineLog(daemon), /^engine: keeper \d+: Error: thrown by a test\n/m);
    assert.match(readLog(shim.bundle), /level=error msg="this engine cannot go on with the keeper: another does"/);
    await shim.task.resume({ id: shim.id });
    assert.equal(await runExec(shim, 'x', ['/bin/true']), 0);
    assert.equal(await statusOf(neighbour), RUNNING);
    assert.equal(await killAndDelete(shim), 128 + SIGKILL);
    await daemon.waitForTopic(shim.id, 'delete');
    await nothingLeft(daemon, shim.id);
    await shutdown(shim);
    assert.equal(await theEngine(daemon), before);
  });

  it('a container whose record cannot be read is asked for, waited for, killed and deleted', async () => {
    const shim = await running();
    addon.armAt(`spoil c/${shim.id}`);
    await shim.task.pause({ id: shim.id });
    await passed(`spoil c/${shim.id}`);
    // The pause's second record was as it should be.
    addon.armAt(`spoil c/${shim.id}`);
    await shim.task.resume({ id: shim.id });
    await passed(`spoil c/${shim.id}`);
    const pid = await replaceEngine(daemon);
    assert.equal(await statusOf(shim), RUNNING);
    const refused = await failureOf(shim.task.pause({ id: shim.id }));
    assert.equal(refused.code, Code.DataLoss);
    assert.match(refused.message, /what was recorded of it cannot be read .*: it can only be killed and deleted/);
    assert.match(readLog(shim.bundle), /level=error msg="what is recorded of a container cannot be read"/);
    const waiting = shim.task.wait({ id: shim.id, execId: '' });
    await shim.task.kill({ id: shim.id, execId: '', signal: SIGKILL, all: false });
    assert.equal((await waiting).exitStatus, 128 + SIGKILL);
    assert.equal(await statusOf(shim), STOPPED);
    const deleted = await shim.task.delete({ id: shim.id, execId: '' });
    assert.equal(deleted.exitStatus, 128 + SIGKILL);
    await daemon.waitForTopic(shim.id, 'delete');
    assert.deepEqual(daemon.topics(shim.id).slice(-2), ['exit', 'delete']);
    await nothingLeft(daemon, shim.id);
    assert.equal(await statusOf(neighbour), RUNNING);
    assert.equal(await theEngine(daemon), pid);
    await shutdown(shim);
  });

  it('an answer and an event that cannot be read are dropped, with a line in the log', async () => {
    const shim = await running();
    addon.armAt(`spoil t/${shim.id}/x`);
    assert.equal(await runExec(shim, 'x', ['/bin/true']), 0);
    await passed(`spoil t/${shim.id}/x`);
    daemon.leave();
    addon.armAt('spoil ev/');
    await shim.task.pause({ id: shim.id });
    await passed('spoil ev/');
    const pid = await replaceEngine(daemon);
    await shim.task.resume({ id: shim.id });
    let log = '';
    await until('both lines', () => {
      log += readLog(shim.bundle);
      return log.split('it is dropped').length > 2;
    });
    assert.match(log, /level=error msg="what a Delete has answered cannot be read: it is dropped"/);
    assert.match(log, /level=error msg="an event cannot be read: it is dropped"/);
    await daemon.comeBack();
    assert.equal(await killAndDelete(shim), 128 + SIGKILL);
    await daemon.waitForTopic(shim.id, 'delete');
    assert.deepEqual(daemon.topics(shim.id).slice(-3), ['resumed', 'exit', 'delete']);
    assert.equal(await theEngine(daemon), pid);
    await shutdown(shim);
  });
});
