/**
 * Many lives while the engine is killed every second: nobody may notice. The same lives undisturbed
 * say what is right.
 *
 * LAMINA_LIVES is how many (default 60).
 */
import assert from 'node:assert/strict';
import { cpuSeconds } from '../../bench/processes.js';
import type { Box } from '../lib/box.js';
import { shimSuite } from '../lib/parity.js';
import { engines, keepers } from '../lib/processes.js';
import { laminaOnly } from '../lib/survive.js';
import { until } from '../lib/wait.js';
import { live, type Seen, stories } from './lives.js';

const LIVES = Number(process.env['LAMINA_LIVES'] ?? 60);
const AT_ONCE = 6;
const KILL_EVERY_MS = 1_000;
/**
 * What an engine needs to start, and a little more: on a machine with much else to do none would
 * ever come to serve anybody.
 */
const LEAST_CPU_SECONDS = 0.12;
/** Per life, both runs, on a machine that does other things too. */
const LIFE_MS = 20_000;

/**
 * Kills every engine that has come to work, every second, until `work` has ended; returns how many
 * died, and what came of the work.
 */
async function underFire<T>(box: Box, work: Promise<T>): Promise<{ readonly killed: number; readonly value: T }> {
  let killed = 0;
  const timer = setInterval(() => {
    for (const pid of engines(box.daemon).filter((pid) => cpuSeconds([pid]) > LEAST_CPU_SECONDS)) {
      try {
        process.kill(pid, 'SIGKILL');
        killed += 1;
      } catch {
        // ended by itself meanwhile
      }
    }
  }, KILL_EVERY_MS);
  try {
    return { value: await work, killed };
  } finally {
    clearInterval(timer);
  }
}

/** Everything that was seen of each life, once there is nothing more to come. */
async function outcome(box: Box, lives: ReadonlyMap<string, Seen | Error>): Promise<Map<string, unknown>> {
  await box.removeAll();
  // A keeper ends after its last event was delivered.
  await until('all keepers have ended', () => keepers(box.daemon).length === 0, {
    deadlineMs: 120_000,
  });
  const told = stories(box);
  const describe = (seen: Seen | Error): unknown =>
    seen instanceof Error ? seen.message : { results: seen.results, events: told.get(seen.id) };
  return new Map([...lives].map(([name, seen]) => [name, describe(seen)]));
}

for (const mode of ['engine = "shared"', 'engine = "dedicated"']) {
  shimSuite(
    `the engine dies every second (${mode})`,
    (suite) => {
      const scenario = laminaOnly(suite, { timeoutMs: 120_000 + LIVES * LIFE_MS });

      scenario(`${LIVES} lives are as if it had not`, async (box) => {
        const expected = await outcome(box, await live(box, LIVES, AT_ONCE));
        const begin = performance.now();
        const { value, killed } = await underFire(box, live(box, LIVES, AT_ONCE));
        const seconds = (performance.now() - begin) / 1000;
        const seen = await outcome(box, value);
        const differing = [...expected.keys()].filter((name) => {
          try {
            assert.deepEqual(seen.get(name), expected.get(name));
            return false;
          } catch {
            return true;
          }
        });
        console.log(
          `${differing.length} of ${LIVES} lives differ; ${killed} engines killed in ${seconds.toFixed(0)} s`,
        );
        for (const name of differing) console.log(name, seen.get(name), 'instead of', expected.get(name));
        assert.ok(killed > 2, `only ${killed} engines were killed`);
        const pick = (from: ReadonlyMap<string, unknown>): unknown => differing.map((name) => [name, from.get(name)]);
        assert.deepEqual(pick(seen), pick(expected));
      });
    },
    { laminaConfig: mode },
  );
}
