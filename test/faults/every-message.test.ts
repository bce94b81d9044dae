/**
 * The engine dies after each single message it sends in the course of a step; the outcome must be
 * the same every time.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { messageOf } from '../../src/base/index.js';
import type { Box } from '../lib/box.js';
import { shimSuite } from '../lib/parity.js';
import { laminaOnly, plainStory, story } from '../lib/survive.js';
import { until } from '../lib/wait.js';
import { FaultyAddon } from './faulty-addon.js';

/** After this something waited that need not; without the kill it takes half a second. */
const SOON_MS = 9_000;
const MOST_MESSAGES = 80;
/** Bit 14 of the signals that are caught. */
const CATCHES_TERM = /^SigCgt:\s*[0-9a-f]*[4-7c-f][0-9a-f]{3}$/m;

const addon = new FaultyAddon();
// Not `after`: an interrupted run ends without.
process.on('exit', () => addon.remove());

/**
 * Plays `step` until it no longer sends as many messages as it takes to die. Reports all points at
 * which the outcome differs.
 */
async function atEveryMessage(
  box: Box,
  prepare: () => Promise<string>,
  step: (id: string) => Promise<void>,
  check: (id: string) => Promise<void>,
): Promise<void> {
  const problems: string[] = [];
  let n = 1;
  for (; n <= MOST_MESSAGES; n += 1) {
    const id = await prepare();
    addon.arm(n);
    let fired = false;
    try {
      await step(id).finally(() => {
        fired = addon.disarm();
      });
      await check(id);
    } catch (error) {
      const lines = messageOf(error)
        .split('\n')
        .filter((line) => line.trim() !== '');
      problems.push(`message ${n} (… ${addon.lastMessages()}): ${lines.slice(0, 12).join(' | ')}`);
    }
    await box.remove(id);
    if (!fired) break;
  }
  assert.ok(n > 1 && n < MOST_MESSAGES, `stopped at message ${n}`);
  assert.deepEqual(problems, [], `${problems.length} of ${n - 1} points`);
}

shimSuite(
  'the engine dies after any message',
  (suite) => {
    const scenario = laminaOnly(suite, { timeoutMs: 400_000 });
    const running = async (box: Box): Promise<string> => {
      const id = await box.start(['sh', '-c', 'trap "exit 31" TERM; while :; do sleep 0.05; done']);
      const pid = await box.pidOf(id);
      // until then SIGTERM means nothing to the first process of a pid namespace
      await until('the trap is set', () => CATCHES_TERM.test(readFileSync(`/proc/${pid}/status`, 'latin1')));
      return id;
    };

    scenario('of a whole short life', async (box) => {
      await atEveryMessage(
        box,
        () => Promise.resolve(box.id()),
        async (id) => {
          const result = await box.ctr(
            box.runArgs(id, ['sh', '-c', 'echo out; echo err >&2; exit 32'], { flags: ['--rm'] }),
            { timeoutMs: SOON_MS },
          );
          assert.deepEqual(result, { stdout: 'out\n', stderr: 'err\n', code: 32 });
        },
        async (id) => assert.deepEqual(await story(box, id), plainStory(32)),
      );
    });

    scenario('of an exec', async (box) => {
      await atEveryMessage(
        box,
        () => running(box),
        async (id) => {
          const result = await box.exec(id, ['sh', '-c', 'echo out; echo err >&2; exit 33'], { timeoutMs: SOON_MS });
          assert.deepEqual(result, { stdout: 'out\n', stderr: 'err\n', code: 33 });
        },
        async (id) => {
          await box.must(['tasks', 'rm', '-f', id]);
          const told = await story(box, id);
          assert.deepEqual(
            told.filter((word) => word.includes('exec')),
            ['exec-added', 'exec-started', 'exit:exec=33'],
          );
        },
      );
    });

    scenario('of pause and resume', async (box) => {
      await atEveryMessage(
        box,
        () => running(box),
        async (id) => {
          await box.must(['tasks', 'pause', id], { timeoutMs: SOON_MS });
          await box.must(['tasks', 'resume', id], { timeoutMs: SOON_MS });
        },
        async (id) => {
          assert.equal(await box.status(id), 'RUNNING');
          await box.must(['tasks', 'rm', '-f', id]);
          assert.deepEqual((await story(box, id)).slice(0, 4), ['create', 'start', 'paused', 'resumed']);
        },
      );
    });

    scenario('of kill, exit and delete', async (box) => {
      await atEveryMessage(
        box,
        () => running(box),
        async (id) => {
          await box.must(['tasks', 'kill', id], { timeoutMs: SOON_MS });
          await box.waitForStatus(id, 'STOPPED');
          await box.must(['tasks', 'rm', id], { timeoutMs: SOON_MS });
        },
        async (id) => assert.deepEqual(await story(box, id), plainStory(31)),
      );
    });
  },
  { env: { LAMINA_ADDON: addon.path } },
);
