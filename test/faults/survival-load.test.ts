/** Many lives while the engine is killed every second: nobody may notice. */
import assert from 'node:assert/strict';
import type { Box } from '../lib/box.js';
import { shimSuite } from '../lib/parity.js';
import { engines } from '../lib/processes.js';
import { laminaOnly, plainStory, story } from '../lib/survive.js';

const LIVES = 50;
const AT_ONCE = 6;
const KILL_EVERY_MS = 1_000;

/** Kills whatever engine there is, every second, until `work` has ended; returns how many died. */
async function underFire(box: Box, work: Promise<unknown>): Promise<number> {
  let killed = 0;
  const timer = setInterval(() => {
    for (const pid of engines(box.daemon)) {
      process.kill(pid, 'SIGKILL');
      killed += 1;
    }
  }, KILL_EVERY_MS);
  try {
    await work;
  } finally {
    clearInterval(timer);
  }
  return killed;
}

for (const mode of ['engine = "shared"', 'engine = "dedicated"']) {
  shimSuite(
    `the engine dies every second (${mode})`,
    (suite) => {
      const scenario = laminaOnly(suite, { timeoutMs: 300_000 });

      scenario(`${LIVES} lives: output, exit codes and events are right`, async (box) => {
        const problems: string[] = [];
        let next = 0;
        const worker = async (): Promise<void> => {
          while (next < LIVES) {
            const n = next;
            next += 1;
            const { id, command } = box.spawnRun([
              'sh',
              '-c',
              `echo out ${n}; sleep 0.${n % 10}; echo err ${n} >&2; exit ${n}`,
            ]);
            try {
              const result = await command.result();
              assert.deepEqual(result, { stdout: `out ${n}\n`, stderr: `err ${n}\n`, code: n });
              assert.deepEqual(await story(box, id), plainStory(n));
            } catch (error) {
              problems.push(`${id}: ${error instanceof Error ? error.message : error}`);
            }
          }
        };
        const killed = await underFire(box, Promise.all(Array.from({ length: AT_ONCE }, worker)));
        assert.ok(killed > 2, `only ${killed} engines were killed`);
        assert.deepEqual(problems, [], `${problems.length} of ${LIVES} lives differ`);
      });

      scenario('30 execs in one container: output and exit codes are right', async (box) => {
        const id = await box.start(['sleep', '1000']);
        const problems: string[] = [];
        const worker = async (first: number): Promise<void> => {
          for (let n = first; n < 30; n += 3) {
            try {
              const result = await box.exec(id, [
                'sh',
                '-c',
                `echo out ${n}; sleep 0.${n % 7}; echo err ${n} >&2; exit ${n}`,
              ]);
              assert.deepEqual(result, { stdout: `out ${n}\n`, stderr: `err ${n}\n`, code: n });
            } catch (error) {
              problems.push(`exec ${n}: ${error instanceof Error ? error.message : error}`);
            }
          }
        };
        await underFire(box, Promise.all([0, 1, 2].map(worker)));
        assert.deepEqual(problems, [], `${problems.length} of 30 execs differ`);
        await box.remove(id);
      });
    },
    { laminaConfig: mode },
  );
}
