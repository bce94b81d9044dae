/** An event that the daemon takes from nobody does not keep the others from it. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { LAMINA } from '../../lib/box.js';
import { readLog } from '../../lib/limits.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon } from '../../lib/shim-client.js';
import { killAndDelete, shutdown } from '../../lib/task-steps.js';

const skip = requires({ root: true, runc: '1.1' }) || LAMINA.skip;

describe('an event that the daemon refuses', { skip }, () => {
  let daemon: FakeDaemon;
  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
  });
  after(() => daemon.stop());

  it('is dropped after five refusals, with a line in the log, and those behind it are delivered', async () => {
    daemon.refuses = ({ topic }) => topic === '/tasks/start';
    const shim = await daemon.launch({ args: ['/bin/sleep', '1000'] });
    await daemon.create(shim);
    await shim.task.start({ id: shim.id, execId: '' });
    await killAndDelete(shim);
    await daemon.waitForTopic(shim.id, 'delete');
    assert.deepEqual(daemon.topics(shim.id), ['create', 'exit', 'delete']);
    assert.equal(daemon.refused, 5);
    assert.match(
      readLog(shim.bundle),
      /level=error msg="the daemon refuses an event: it is dropped".* topic=\/tasks\/start/,
    );
    await shutdown(shim);
  });
});
