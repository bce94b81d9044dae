import assert from 'node:assert/strict';
import type { Box } from '../../lib/box.js';
import { shimSuite } from '../../lib/parity.js';
import { isAlive, terminate } from '../../lib/proc.js';

/** Kills the daemon, does something, starts it again. */
async function whileDown(box: Box, work: () => Promise<void> | void): Promise<void> {
  await box.daemon.killHard();
  await work();
  await box.daemon.restart();
  await box.events.resubscribe();
}

/**
 * Removes a task and tells the exit status the daemon gives for it: `ctr tasks start` reports it,
 * `tasks rm` does not.
 */
async function statusAtDelete(box: Box, id: string): Promise<number> {
  await box.must(['tasks', 'rm', id]);
  const events = await box.events.waitFor({ namespace: box.namespace, id }, '/tasks/delete');
  const last = events.findLast((event) => event.topic === '/tasks/delete');
  await box.ctr(['containers', 'rm', id]);
  return Number(last?.fields['exit_status'] ?? 0);
}

const WAIT_FOR_TERM = ['sh', '-c', 'trap "exit 7" TERM; while :; do sleep 0.05; done'];

shimSuite('containerd killed and started again', ({ scenario }) => {
  scenario('finds running containers, and their exit status later', async (box) => {
    const id = await box.start(WAIT_FOR_TERM);
    const pid = await box.pidOf(id);
    await whileDown(box, () => assert.ok(isAlive(pid)));
    assert.equal(await box.status(id), 'RUNNING');
    assert.equal(await box.pidOf(id), pid);
    const exec = await box.exec(id, ['sh', '-c', 'echo still here']);
    assert.equal(exec.stdout, 'still here\n');
    await box.terminate(id);
    const status = await statusAtDelete(box, id);
    assert.equal(status, 7);
    return { exec, status };
  });

  scenario('finds the true exit status of a container that ended meanwhile', async (box) => {
    const id = await box.start(WAIT_FOR_TERM);
    const pid = await box.pidOf(id);
    await whileDown(box, async () => {
      await terminate(pid);
    });
    await box.waitForStatus(id, 'STOPPED');
    const status = await statusAtDelete(box, id);
    assert.equal(status, 7);
    return status;
  });

  scenario('finds paused containers paused', async (box) => {
    const id = await box.start(['sleep', '1000']);
    await box.must(['tasks', 'pause', id]);
    await whileDown(box, () => undefined);
    assert.equal(await box.status(id), 'PAUSED');
    await box.must(['tasks', 'resume', id]);
    assert.equal(await box.status(id), 'RUNNING');
    await box.remove(id);
  });

  scenario('survives several restarts with several containers', async (box) => {
    const ids = [];
    for (let n = 0; n < 4; n += 1)
      ids.push(await box.start(['sh', '-c', `trap "exit ${n}" TERM; while :; do sleep 0.05; done`]));
    for (let round = 0; round < 3; round += 1) await whileDown(box, () => undefined);
    const codes = [];
    for (const id of ids) {
      assert.equal(await box.status(id), 'RUNNING');
      await box.terminate(id);
      codes.push(await statusAtDelete(box, id));
    }
    assert.deepEqual(codes, [0, 1, 2, 3]);
    return codes;
  });

  scenario(
    'is killed while containers are being created: each either runs or is gone',
    async (box) => {
      const ids = Array.from({ length: 4 }, () => box.id());
      const runs = ids.map((id) => box.ctr(box.runArgs(id, ['sleep', '1000'], { flags: ['-d', '--null-io'] })));
      await box.events.waitForTopic(box.namespace, '/tasks/create', ids);
      await whileDown(box, async () => {
        await Promise.all(runs);
      });
      for (const id of ids) {
        const status = await box.status(id);
        // a task the daemon never heard the end of is either whole or cleaned up by it
        assert.ok(status === undefined || ['RUNNING', 'CREATED', 'STOPPED'].includes(status), `${id} is ${status}`);
        await box.remove(id);
        assert.equal(await box.status(id), undefined);
      }
    },
    // The stock shim of 1.6 leaves shims and half-made containers behind when its daemon dies
    // during Create.
    { only: 'lamina' },
  );
});
