import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Box } from '../../lib/box.js';
import { shimSuite } from '../../lib/parity.js';
import { isAlive } from '../../lib/proc.js';
import { killEngine, theEngine } from '../../lib/processes.js';
import { until } from '../../lib/wait.js';
import { HeldRuntime } from './held-runtime.js';

/**
 * Runs a container that is out of memory before the runtime has said that it was started; returns
 * the topics of its events.
 */
async function story(box: Box, meanwhile: () => Promise<unknown>): Promise<string[]> {
  const runtime = new HeldRuntime(box.daemon, 'script');
  runtime.hold('start', 'after');
  const id = box.id();
  const command = box.spawn(
    box.runArgs(id, ['probe', 'hog', '67108864'], { flags: ['--rm', '--memory-limit', '16777216'] }),
  );
  await runtime.waitUntilHeld();
  const init = Number(readFileSync(join(box.daemon.bundle(box.namespace, id), 'init.pid'), 'utf8'));
  await until('init was killed', () => !isAlive(init));
  await meanwhile();
  runtime.release();
  assert.equal((await command.result()).code, 137);
  const events = await box.events.waitFor({ namespace: box.namespace, id }, '/tasks/delete');
  return events.map(({ topic }) => topic.replace('/tasks/', ''));
}

shimSuite('memory runs out while init is being started', ({ scenario }) => {
  const expected = ['create', 'start', 'oom', 'exit', 'delete'];

  scenario(
    'its start is told first',
    async (box) => {
      assert.deepEqual(await story(box, () => Promise.resolve()), expected);
    },
    { only: 'lamina' },
  );

  scenario(
    'its start is told first, by a new engine too',
    async (box) => {
      const seen = await story(box, async () => {
        await killEngine(box.daemon);
        await theEngine(box.daemon);
      });
      assert.deepEqual(seen, expected);
    },
    { only: 'lamina' },
  );
});
