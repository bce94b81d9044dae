/**
 * The engine is killed while the OCI runtime works for it: once before, once after the runtime has
 * done what it was asked for.
 */
import assert from 'node:assert/strict';
import type { Box } from '../../lib/box.js';
import { WAIT_FOR_SIZE } from '../../lib/command.js';
import { shimSuite } from '../../lib/parity.js';
import { replaceEngine } from '../../lib/processes.js';
import { assertConnected, laminaOnly, plainStory, story } from '../../lib/survive.js';
import { HeldRuntime, type Look, type Moment, type Verb } from './held-runtime.js';

for (const look of ['script', 'named'] as const satisfies readonly Look[]) {
  shimSuite(`the engine dies while the runtime works (${look})`, (suite) => {
    const scenario = laminaOnly(suite);
    let runtime: HeldRuntime | undefined;

    const held = async (box: Box, kills = 1): Promise<void> => {
      assert.ok(runtime !== undefined);
      await runtime.waitUntilHeld();
      for (let n = 0; n < kills; n += 1) await replaceEngine(box.daemon);
      await runtime.releaseSoon();
    };
    const prepare = (box: Box, verb: Verb, moment: Moment): void => {
      runtime ??= new HeldRuntime(box.daemon, look);
      runtime.hold(verb, moment);
    };

    for (const moment of ['before', 'after'] as const) {
      for (const kills of [1, 2]) {
        const times = kills === 1 ? '' : ', twice';

        for (const verb of ['create', 'start'] as const) {
          scenario(`${moment} ${verb}${times}`, async (box) => {
            prepare(box, verb, moment);
            const { id, command } = box.spawnRun(['sh', '-c', 'echo out; echo err >&2; exit 21']);
            try {
              await held(box, kills);
              assert.deepEqual(await command.result(), { stdout: 'out\n', stderr: 'err\n', code: 21 });
            } finally {
              runtime?.release();
            }
            assert.deepEqual(await story(box, id), plainStory(21));
          });
        }

        scenario(`${moment} exec${times}`, async (box) => {
          prepare(box, 'exec', moment);
          const id = await box.start(['sleep', '1000']);
          const exec = box.spawn(box.execArgs(id, ['sh', '-c', 'echo out; echo err >&2; exit 22']));
          try {
            await held(box, kills);
            assert.deepEqual(await exec.result(), { stdout: 'out\n', stderr: 'err\n', code: 22 });
          } finally {
            runtime?.release();
          }
          assertConnected(box, id);
          assert.equal((await box.exec(id, ['echo', 'next'])).stdout, 'next\n');
          await box.remove(id);
          const told = (await story(box, id)).filter((word) => word.includes('exec')).slice(0, 3);
          assert.deepEqual(told, ['exec-added', 'exec-started', 'exit:exec=22']);
        });

        scenario(`${moment} delete${times}`, async (box) => {
          prepare(box, 'delete', moment);
          const { id, command } = box.spawnRun(['sh', '-c', 'echo out; exit 23']);
          try {
            await held(box, kills);
            assert.deepEqual(await command.result(), { stdout: 'out\n', stderr: '', code: 23 });
          } finally {
            runtime?.release();
          }
          assert.deepEqual(await story(box, id), plainStory(23));
        });
      }
    }

    scenario('before create, at a terminal', async (box) => {
      prepare(box, 'create', 'before');
      const { id, command } = box.runAtTerminal(['sh', '-c', `${WAIT_FOR_SIZE}; echo out; exit 24`]);
      try {
        await held(box);
        const result = await command.result();
        assert.match(result.stdout, /out\r\n/);
        assert.equal(result.code, 24);
      } finally {
        runtime?.release();
      }
      assert.deepEqual(await story(box, id), plainStory(24));
    });
  });
}
