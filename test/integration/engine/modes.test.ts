import assert from 'node:assert/strict';
import type { Box } from '../../lib/box.js';
import { WAIT_FOR_SIZE } from '../../lib/command.js';
import { shimSuite } from '../../lib/parity.js';
import { engines, keeperOf, keepers } from '../../lib/processes.js';
import { assertConnected, laminaOnly, plainStory, story } from '../../lib/survive.js';
import { until } from '../../lib/wait.js';

const COUNT = 4;

async function startSome(box: Box): Promise<{ ids: string[] }> {
  const ids = await Promise.all(Array.from({ length: COUNT }, () => box.start(['sleep', '1000'])));
  const keeperPids = await Promise.all(ids.map((id) => keeperOf(box, id)));
  assert.equal(new Set(keeperPids).size, COUNT);
  return { ids };
}

const ENGINES: Readonly<Record<string, (box: Box) => Promise<void>>> = {
  'serves all containers with one process': async (box) => {
    const { ids } = await startSome(box);
    assert.equal(engines(box.daemon).length, 1);
    for (const id of ids) assert.equal((await box.exec(id, ['echo', id])).stdout, `${id}\n`);
    assert.equal(engines(box.daemon).length, 1);
    for (const id of ids) await box.remove(id);
  },
  'runs one process for each keeper': async (box) => {
    const { ids } = await startSome(box);
    // Which keeper is whose parent says nothing: the first engine may serve another keeper than the
    // one that started it. Those of containers that were removed before may be on their way out.
    await until(`${COUNT} engines`, () => engines(box.daemon).length === COUNT);
    for (const id of ids) {
      assert.equal((await box.exec(id, ['echo', id])).stdout, `${id}\n`);
      await box.remove(id);
    }
    await until('keepers and engines are gone', () => [...keepers(box.daemon), ...engines(box.daemon)].length === 0);
  },
};

/** The main life of containers, in a mode that is not the default. */
function lifecycle(mode: string, engineTest: string): void {
  shimSuite(
    `with ${mode}`,
    (suite) => {
      const scenario = laminaOnly(suite);

      scenario('runs to the end: both streams, input, exit code, events', async (box) => {
        const { id, command } = box.spawnRun(['sh', '-c', 'cat; echo problem >&2; exit 6']);
        command.write('to be copied\n');
        // ctr loses an end of stdin that comes before its task is started
        await command.output(/copied\n/);
        command.closeStdin();
        const result = await command.result();
        assert.deepEqual(result, { stdout: 'to be copied\n', stderr: 'problem\n', code: 6 });
        assert.deepEqual(await story(box, id), plainStory(6));
      });

      scenario('passes 8 MiB on byte for byte, out and in', async (box) => {
        const script = 'probe bytes 8388608 | tee /proc/self/fd/2 | probe sink >/tmp-sum; cat /tmp-sum';
        const { command } = box.spawnRun(['sh', '-c', script]);
        const made = await command.result();
        const read = await box.run(['probe', 'sink'], { stdin: Buffer.alloc(8_388_608, 'lamina') });
        const again = await box.run(['sh', '-c', 'yes lamina | tr -d "\\n" | head -c 8388608 | probe sink']);
        assert.match(made.stdout, /^8388608 [0-9a-f]{16}\n$/);
        assert.equal(read.stdout, again.stdout);
      });

      scenario('executes beside init, with input and exit code', async (box) => {
        const id = await box.start(['sleep', '1000']);
        const exec = await box.exec(id, ['sh', '-c', 'cat; echo e >&2; exit 9'], { stdin: 'x\n' });
        assert.deepEqual(exec, { stdout: 'x\n', stderr: 'e\n', code: 9 });
        assertConnected(box, id);
        await box.remove(id);
      });

      scenario('has terminals', async (box) => {
        const { command } = box.runAtTerminal([
          'sh',
          '-c',
          `${WAIT_FOR_SIZE}; echo ready; read x; echo "[$x]"; exit 3`,
        ]);
        await command.output(/ready\r\n/);
        command.write('typed\n');
        const result = await command.result();
        assert.match(result.stdout, /\[typed\]\r\n/);
        assert.equal(result.code, 3);
      });

      scenario('pauses, resumes and kills', async (box) => {
        const { id, command } = box.spawnRun([
          'sh',
          '-c',
          'trap "echo bye; exit 5" TERM; echo up; while :; do sleep 0.05; done',
        ]);
        await command.output(/up\n/);
        // even if the call that started it has not returned yet
        await box.must(['tasks', 'pause', id]);
        assert.equal(await box.status(id), 'PAUSED');
        await box.must(['tasks', 'resume', id]);
        await box.must(['tasks', 'kill', id]);
        assert.deepEqual(await command.result(), { stdout: 'up\nbye\n', stderr: '', code: 5 });
      });

      scenario('removes by force, running and paused', async (box) => {
        for (const pause of [false, true]) {
          const id = await box.start(['sleep', '1000']);
          if (pause) await box.must(['tasks', 'pause', id]);
          await box.must(['tasks', 'rm', '-f', id]);
          await box.must(['containers', 'rm', id]);
        }
      });

      const run = ENGINES[engineTest];
      assert.ok(run !== undefined);
      scenario(engineTest, run);
    },
    { laminaConfig: mode },
  );
}

lifecycle('engine = "shared"', 'serves all containers with one process');
lifecycle('engine = "dedicated"', 'runs one process for each keeper');
lifecycle('io = "copy"', 'serves all containers with one process');
lifecycle('engine = "dedicated"\nio = "copy"', 'runs one process for each keeper');
