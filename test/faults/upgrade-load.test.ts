/**
 * Many lives and execs while the engine is replaced again and again by `lamina engine upgrade`:
 * nobody may notice.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { messageOf } from '../../src/base/index.js';
import { runCommand } from '../lib/command.js';
import { shimSuite } from '../lib/parity.js';
import { LAMINA_BIN } from '../lib/repo.js';
import { laminaOnly, plainStory, story } from '../lib/survive.js';

const LIVES = 60;
const AT_ONCE = 5;

for (const mode of ['shared', 'dedicated']) {
  shimSuite(
    `upgrades without a pause (engine = "${mode}")`,
    (suite) => {
      const scenario = laminaOnly(suite, { timeoutMs: 600_000 });

      scenario(`${LIVES} lives, each with an exec: output, exit codes and events are right`, async (box) => {
        const problems: string[] = [];
        let next = 0;
        const life = async (n: number): Promise<void> => {
          const script = `echo out ${n}; read x; echo err $x >&2; exit ${n}`;
          const { id, command } = box.spawnRun(['sh', '-c', script], { timeoutMs: 120_000 });
          await command.output(/out \d+\n/, 60_000);
          await box.waitForStatus(id, 'RUNNING');
          const exec = await box.exec(id, ['sh', '-c', `echo exec ${n}; exit 7`], { timeoutMs: 120_000 });
          assert.deepEqual(exec, { stdout: `exec ${n}\n`, stderr: '', code: 7 });
          command.write(`${n}\n`);
          assert.deepEqual(await command.result(), { stdout: `out ${n}\n`, stderr: `err ${n}\n`, code: n });
          const told = await story(box, id);
          assert.deepEqual(
            told.filter((word) => !word.includes('exec')),
            plainStory(n),
          );
          assert.equal(told.filter((word) => word === 'exit:exec=7').length, 1);
        };
        const worker = async (): Promise<void> => {
          while (next < LIVES) {
            const n = next;
            next += 1;
            await life(n).catch((error: unknown) => problems.push(`life ${n}: ${messageOf(error)}`));
          }
        };
        let isOver = false;
        let handedOver = 0;
        const upgrades = (async () => {
          const env = { LAMINA_STATE_DIR: box.daemon.env['LAMINA_STATE_DIR'] ?? '' };
          while (!isOver) {
            const argv = [join(LAMINA_BIN, 'lamina'), 'engine', 'upgrade', '--force', '--timeout', '60'];
            const { stdout, stderr, code } = await runCommand(argv, { env, timeoutMs: 120_000 });
            if (code !== 0) problems.push(`upgrade: ${stderr}${stdout}`);
            handedOver += stdout.split(' -> ').length - 1;
          }
        })();
        await Promise.all(Array.from({ length: AT_ONCE }, worker));
        isOver = true;
        await upgrades;
        assert.deepEqual(problems, []);
        assert.ok(handedOver > 2, `only ${handedOver} engines handed over`);
      });
    },
    { laminaConfig: `engine = "${mode}"` },
  );
}
