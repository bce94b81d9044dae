/** Delete is answered while somebody still waits for it, and the same when it is asked again. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { taskV2 } from '../../../src/api/index.js';
import { Code } from '../../../src/base/index.js';
import { SIGKILL } from '../../../src/sys/index.js';
import { LAMINA } from '../../lib/box.js';
import { FifoReader, makeFifo, waitingIn } from '../../lib/fifo-reader.js';
import { nothingLeft } from '../../lib/leftovers.js';
import { replaceEngine } from '../../lib/processes.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { addExec, failureOf, killAndDelete, runExec, shutdown } from '../../lib/task-steps.js';
import { until } from '../../lib/wait.js';

const skip = requires({ root: true, runc: '1.1' }) || LAMINA.skip;
/** Half of what CRI waits for a Delete. */
const PATIENCE_MS = 5_000;
const LOUD = ['/bin/sh', '-c', 'head -c 400000 /dev/zero >&2'];

describe('Delete', { skip }, () => {
  let daemon: FakeDaemon;
  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
  });
  after(() => daemon.stop());

  const deletion = async (shim: ShimHandle, execId = ''): Promise<taskV2.DeleteResponse> =>
    await shim.task.delete({ id: shim.id, execId }, { timeoutMs: PATIENCE_MS });

  const running = async (streams: { stdout?: string; stderr?: string } = {}, args = ['/bin/sleep', '1000']) => {
    const shim = await daemon.launch({ args });
    await daemon.create(shim, streams);
    await shim.task.start({ id: shim.id, execId: '' });
    return shim;
  };

  /** FIFOs whose reader has stopped, and the writer of which has more to say than they hold. */
  const unread = async (name: string): Promise<{ stdout: string; stderr: string; reader: FifoReader }> => {
    const stdout = await makeFifo(join(daemon.dir, `${name}-out`));
    const stderr = await makeFifo(join(daemon.dir, `${name}-err`));
    return { stdout, stderr, reader: new FifoReader(stderr) };
  };

  it('is answered within five seconds when nobody reads the output, and everything is gone then', async () => {
    const { reader, ...streams } = await unread('init');
    const shim = await running(streams, LOUD);
    await until('the FIFO is full', () => waitingIn(streams.stderr) >= 65_536);
    await shim.task.kill({ id: shim.id, execId: '', signal: SIGKILL, all: true });
    await shim.task.wait({ id: shim.id, execId: '' });
    assert.equal((await deletion(shim)).exitStatus, 128 + SIGKILL);
    await nothingLeft(daemon, shim.id);
    reader.close();
    await shutdown(shim);
  });

  it('of an exec is as fast', async () => {
    const { reader, ...streams } = await unread('exec');
    const shim = await running();
    await addExec(shim, 'x', LOUD, streams);
    await shim.task.start({ id: shim.id, execId: 'x' });
    await until('the FIFO is full', () => waitingIn(streams.stderr) >= 65_536);
    await shim.task.kill({ id: shim.id, execId: 'x', signal: SIGKILL, all: false });
    await shim.task.wait({ id: shim.id, execId: 'x' });
    assert.equal((await deletion(shim, 'x')).exitStatus, 128 + SIGKILL);
    reader.close();
    await killAndDelete(shim);
    await shutdown(shim);
  });

  it('is answered the same again: at once, later, by another engine, and for an exec', async () => {
    const shim = await running();
    await addExec(shim, 'x', ['/bin/sh', '-c', 'exit 7']);
    await shim.task.start({ id: shim.id, execId: 'x' });
    await shim.task.wait({ id: shim.id, execId: 'x' });
    await shim.task.kill({ id: shim.id, execId: '', signal: SIGKILL, all: true });
    await shim.task.wait({ id: shim.id, execId: '' });
    const [exec, execAgain] = await Promise.all([deletion(shim, 'x'), deletion(shim, 'x')]);
    const [init, initAgain] = await Promise.all([deletion(shim), deletion(shim)]);
    assert.equal(exec.exitStatus, 7);
    assert.equal(init.exitStatus, 128 + SIGKILL);
    const all = async (): Promise<unknown[]> => [await deletion(shim, 'x'), await deletion(shim)];
    assert.deepEqual([execAgain, initAgain], [exec, init]);
    assert.deepEqual(await all(), [exec, init]);
    await replaceEngine(daemon);
    assert.deepEqual(await all(), [exec, init]);
    await daemon.waitForTopic(shim.id, 'delete');
    assert.equal(daemon.topics(shim.id).filter((topic) => topic === 'delete').length, 1);
    assert.equal((await failureOf(shim.task.state({ id: shim.id, execId: '' }))).code, Code.NotFound);
    await shutdown(shim);
  });

  it('means the new one where an id is in use again', async () => {
    const shim = await running();
    assert.equal(await runExec(shim, 'x', ['/bin/sh', '-c', 'exit 7']), 7);
    await addExec(shim, 'x', ['/bin/sleep', '1000']);
    await shim.task.start({ id: shim.id, execId: 'x' });
    assert.match((await failureOf(deletion(shim, 'x'))).message, /cannot delete a running process/);
    await killAndDelete(shim);
    await daemon.create(shim);
    await shim.task.start({ id: shim.id, execId: '' });
    assert.match((await failureOf(deletion(shim))).message, /cannot delete a running process/);
    assert.equal((await failureOf(deletion(shim, 'x'))).code, Code.NotFound);
    assert.equal(await runExec(shim, 'y', ['/bin/true']), 0);
    await killAndDelete(shim);
    await shutdown(shim);
  });
});
