import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Box } from '../../lib/box.js';
import { shimSuite } from '../../lib/parity.js';
import { readProcess } from '../../lib/proc.js';

const GROUP = 'io.containerd.runc.v2.group';
const SANDBOX = 'io.kubernetes.cri.sandbox-id';

/**
 * The address containerd reaches a container's shim at: the bundle's file, or the daemon's own note
 * of it (2.x).
 */
function addressOf(box: Box, id: string): string {
  return readFileSync(join(box.daemon.bundle(box.namespace, id), 'address'), 'utf8').trim();
}

async function parentOf(box: Box, id: string): Promise<number> {
  return readProcess(await box.pidOf(id))?.ppid ?? 0;
}

shimSuite('grouping', ({ scenario }) => {
  for (const annotation of [GROUP, SANDBOX]) {
    scenario(`puts containers with one ${annotation} below one shim`, async (box) => {
      const group = `pod-${annotation.length}-${box.daemon.marker}`;
      box.daemon.track(box.namespace, group);
      const flags = ['--annotation', `${annotation}=${group}`];
      const first = await box.start(['sleep', '1000'], { flags });
      const second = await box.start(['sleep', '1000'], { flags });
      const alone = await box.start(['sleep', '1000']);
      assert.equal(addressOf(box, first), addressOf(box, second));
      assert.equal(addressOf(box, first), `unix://${box.daemon.socketPath(box.namespace, group)}`);
      assert.notEqual(addressOf(box, first), addressOf(box, alone));
      assert.equal(await parentOf(box, first), await parentOf(box, second));
      assert.notEqual(await parentOf(box, first), await parentOf(box, alone));
      // the first goes, the rest of the group stays and works
      await box.remove(first);
      const exec = await box.exec(second, ['sh', '-c', 'echo works; exit 5']);
      assert.deepEqual(exec, { stdout: 'works\n', stderr: '', code: 5 });
      // and takes new members
      const third = await box.start(['sleep', '1000'], { flags });
      assert.equal(await parentOf(box, third), await parentOf(box, second));
      for (const id of [second, third, alone]) await box.remove(id);
      return exec;
    });
  }

  scenario('keeps ids of one group apart', async (box) => {
    const group = `apart-${box.daemon.marker}`;
    box.daemon.track(box.namespace, group);
    const flags = ['--annotation', `${GROUP}=${group}`];
    const first = await box.start(['sh', '-c', 'trap "exit 1" TERM; while :; do sleep 0.05; done'], { flags });
    const second = await box.start(['sh', '-c', 'trap "exit 2" TERM; while :; do sleep 0.05; done'], { flags });
    await box.terminate(first);
    assert.equal(await box.status(second), 'RUNNING');
    await box.terminate(second);
    const codes = [await box.exitStatusOf(first), await box.exitStatusOf(second)];
    for (const id of [first, second]) await box.remove(id);
    assert.deepEqual(codes, [1, 2]);
    return codes;
  });
});
