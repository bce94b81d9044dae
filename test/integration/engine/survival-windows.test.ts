/** The engine is killed in the short windows between two steps that belong together. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FaultyAddon, type Point } from '../../faults/faulty-addon.js';
import type { Box } from '../../lib/box.js';
import { runAtTerminal, WAIT_FOR_SIZE } from '../../lib/command.js';
import { shimSuite } from '../../lib/parity.js';
import { isAlive } from '../../lib/proc.js';
import { killEngine } from '../../lib/processes.js';
import { assertConnected, laminaOnly, plainStory, story } from '../../lib/survive.js';
import { until } from '../../lib/wait.js';

/** Bit 14 of the signals that are caught. */
const CATCHES_TERM = /^SigCgt:\s*[0-9a-f]*[4-7c-f][0-9a-f]{3}$/m;

const addon = new FaultyAddon();
// Not `after`: an interrupted run ends without.
process.on('exit', () => addon.remove());

const allDied = (): Promise<unknown> => until('the engine has died where it was to', () => addon.isSpent);

/** The engine dies at `point` of `work`; the next one hangs until `meanwhile` is over. */
async function killAt<T>(box: Box, point: Point, work: () => Promise<T>, meanwhile: () => Promise<void>): Promise<T> {
  addon.armAt(point);
  addon.armStart();
  const done = work();
  done.catch(() => undefined);
  await allDied();
  await meanwhile();
  await killEngine(box.daemon);
  return await done;
}

async function trapping(box: Box, status: number): Promise<string> {
  const id = await box.start(['sh', '-c', `trap "exit ${status}" TERM; while :; do sleep 0.05; done`]);
  const pid = await box.pidOf(id);
  // until then SIGTERM means nothing to the first process of a pid namespace
  await until('the trap is set', () => CATCHES_TERM.test(readFileSync(`/proc/${pid}/status`, 'latin1')));
  return id;
}

/** Of the only exec. */
function execPid(box: Box, id: string): number {
  const bundle = box.daemon.bundle(box.namespace, id);
  const file = readdirSync(bundle).find((name) => name.endsWith('.pid') && name !== 'init.pid') ?? '';
  return Number(readFileSync(join(bundle, file), 'utf8'));
}

shimSuite(
  'the engine dies in a short window',
  (suite) => {
    const scenario = laminaOnly(suite);

    scenario('an exec has its name and no record, and ends before there is an engine', async (box) => {
      const id = await box.start(['sleep', '1000']);
      const killExec = async (): Promise<void> => {
        const pid = execPid(box, id);
        process.kill(pid, 'SIGKILL');
        await until('the exec is reaped', () => !existsSync(`/proc/${pid}`));
      };
      const run = () => box.ctr(box.execArgs(id, ['sleep', '1000']));
      const { code } = await killAt(box, `sent p/${id}/x`, run, killExec);
      assert.equal(code, 137);
      assertConnected(box, id);
      await box.remove(id);
      const told = (await story(box, id)).filter((word) => word.includes('exec'));
      assert.deepEqual(told, ['exec-added', 'exec-started', 'exit:exec=137']);
    });

    scenario('a terminal was sent and not read', async (box) => {
      const id = await box.start(['sleep', '1000']);
      const script = `${WAIT_FOR_SIZE}; echo ready; read x; echo "[$x]"; exit 25`;
      addon.armAt('console');
      const argv = box.execArgs(id, ['sh', '-c', script], { flags: ['-t'] });
      const exec = runAtTerminal(box.daemon.ctrArgv(box.namespace, argv));
      await allDied();
      await exec.output(/ready\r\n/, 30_000);
      exec.write('typed\n');
      const result = await exec.result();
      assert.match(result.stdout, /\[typed\]\r\n/);
      assert.equal(result.code, 25);
      await box.remove(id);
    });

    scenario('a terminal has its size, its process has ended of that, and the call is not answered', async (box) => {
      const id = await box.start(['sleep', '1000']);
      const argv = box.execArgs(id, ['sh', '-c', `${WAIT_FOR_SIZE}; echo sized; exit 26`], { flags: ['-t'] });
      const run = () => runAtTerminal(box.daemon.ctrArgv(box.namespace, argv)).result();
      const result = await killAt(box, 'resized', run, async () => {
        const pid = execPid(box, id);
        await until('the exec is reaped', () => !existsSync(`/proc/${pid}`));
      });
      assert.deepEqual(result, { stdout: 'sized\r\n', stderr: '', code: 26 });
      await box.remove(id);
    });

    scenario('a group is frozen to be signaled', async (box) => {
      const id = await trapping(box, 51);
      addon.armAt('signaling');
      await box.must(['tasks', 'kill', '-a', '-s', 'SIGTERM', id]);
      await allDied();
      await box.waitForStatus(id, 'STOPPED');
      await box.must(['tasks', 'rm', id]);
      assert.deepEqual(await story(box, id), plainStory(51));
      await box.must(['containers', 'rm', id]);
    });

    scenario('a signal was sent, its receiver is gone, and the call not answered', async (box) => {
      const id = await box.start(['sleep', '1000']);
      const pid = await box.pidOf(id);
      const kill = () => box.must(['tasks', 'kill', '-s', 'SIGKILL', id]);
      await killAt(box, 'signaled', kill, async () => {
        await until('init is gone', () => !isAlive(pid));
      });
      await box.waitForStatus(id, 'STOPPED');
      await box.must(['tasks', 'rm', id]);
      assert.deepEqual(await story(box, id), plainStory(137));
      await box.must(['containers', 'rm', id]);
    });
  },
  { env: { LAMINA_ADDON: addon.path } },
);
