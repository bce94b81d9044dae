/** The engine is killed with SIGKILL while containers do what containers do. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { runAtTerminal, WAIT_FOR_SIZE } from '../lib/command.js';
import { shimSuite } from '../lib/parity.js';
import { isAlive } from '../lib/proc.js';
import { engines, keeperOf, killEngine, replaceEngine } from '../lib/processes.js';
import { assertConnected, laminaOnly, plainStory, story } from '../lib/survive.js';
import { until } from '../lib/wait.js';

const LINES = 40_000;
/** Less than the 10 s Delete waits for output that does not come: nothing here has a reason to. */
const SOON_MS = 9_000;

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** What `probe drip LINES` writes. */
const DRIPPED = sha256(Array.from({ length: LINES }, (_, n) => `line ${n}\n`).join(''));

for (const mode of ['engine = "shared"', 'io = "copy"', 'engine = "dedicated"']) {
  shimSuite(
    `the engine dies (${mode})`,
    (suite) => {
      const scenario = laminaOnly(suite);

      scenario('while a container prints: every line, in order', async (box) => {
        const { id, command } = box.spawnRun(['probe', 'drip', String(LINES)]);
        await command.output(/line 100\n/);
        await replaceEngine(box.daemon);
        await command.output(/line 20000\n/);
        await killEngine(box.daemon);
        const result = await command.result();
        assert.equal(result.code, 0);
        assert.equal(sha256(result.stdout), DRIPPED);
        assert.deepEqual(await story(box, id), plainStory(0));
      });

      scenario('while a container prints to stderr: every line, in order', async (box) => {
        const { id, command } = box.spawnRun(['sh', '-c', `probe drip ${LINES} >&2; exit 3`], { timeoutMs: SOON_MS });
        await until('it prints', () => command.stderr.includes('line 100\n'));
        await replaceEngine(box.daemon);
        const result = await command.result();
        assert.equal(result.code, 3);
        assert.equal(sha256(result.stderr), DRIPPED);
        assert.deepEqual(await story(box, id), plainStory(3));
      });

      scenario('while a Wait is pending: it returns the right status', async (box) => {
        const { id, command } = box.spawnRun([
          'sh',
          '-c',
          'echo up; trap "exit 17" TERM; while :; do sleep 0.05; done',
        ]);
        await command.output(/up\n/);
        for (let round = 0; round < 3; round += 1) await replaceEngine(box.daemon);
        assertConnected(box, id);
        await box.must(['tasks', 'kill', id]);
        assert.deepEqual(await command.result(), { stdout: 'up\n', stderr: '', code: 17 });
        assert.deepEqual(await story(box, id), plainStory(17));
      });

      scenario('while an exec runs: its input, output and status go on', async (box) => {
        const id = await box.start(['sleep', '1000']);
        const keeper = await keeperOf(box, id);
        const exec = box.spawn(
          box.execArgs(id, ['sh', '-c', 'echo up; while read x; do echo "[$x]"; done; echo e >&2; exit 13']),
          { stdin: 'open' },
        );
        await exec.output(/up\n/);
        exec.write('before\n');
        await exec.output(/\[before\]\n/);
        await replaceEngine(box.daemon);
        exec.write('after\n');
        await exec.output(/\[after\]\n/);
        exec.closeStdin();
        assert.deepEqual(await exec.result(), { stdout: 'up\n[before]\n[after]\n', stderr: 'e\n', code: 13 });
        assert.equal(await keeperOf(box, id), keeper);
        assertConnected(box, id);
        await box.remove(id);
        const told = await story(box, id);
        assert.deepEqual(
          told.filter((word) => word.includes('exec')),
          ['exec-added', 'exec-started', 'exit:exec=13'],
        );
      });

      scenario('while a terminal is open: typing, size and Ctrl-C go on', async (box) => {
        const script = `${WAIT_FOR_SIZE}; trap "echo interrupted" INT; echo ready; while read x; do echo "[$x]"; done; exit 19`;
        const { id, command } = box.runAtTerminal(['sh', '-c', script]);
        await command.output(/ready\r\n/);
        command.write('one\n');
        await command.output(/\[one\]\r\n/);
        await replaceEngine(box.daemon);
        command.write('two\n');
        await command.output(/\[two\]\r\n/);
        await killEngine(box.daemon);
        command.write('three\n');
        await command.output(/\[three\]\r\n/);
        assertConnected(box, id);
        command.write('\x04');
        const result = await command.result();
        assert.equal(result.code, 19);
        assert.deepEqual(await story(box, id), plainStory(19));
      });

      scenario('while an exec has a terminal: typing goes on', async (box) => {
        const id = await box.start(['sleep', '1000']);
        const argv = box.execArgs(id, ['sh', '-c', `${WAIT_FOR_SIZE}; echo ready; read x; echo "[$x]"; exit 12`], {
          flags: ['-t'],
        });
        const exec = runAtTerminal(box.daemon.ctrArgv(box.namespace, argv), { timeoutMs: SOON_MS });
        await exec.output(/ready\r\n/);
        await replaceEngine(box.daemon);
        exec.write('typed\n');
        const result = await exec.result();
        assert.match(result.stdout, /\[typed\]\r\n/);
        assert.equal(result.code, 12);
        await box.remove(id);
      });

      scenario('and a container ends before the next engine is there: one exit, the right one', async (box) => {
        for (let round = 0; round < 4; round += 1) {
          const id = await box.start(['sleep', '1000']);
          const pid = await box.pidOf(id);
          for (const engine of engines(box.daemon)) process.kill(engine, 'SIGKILL');
          process.kill(pid, 'SIGKILL');
          await until('init is gone', () => !isAlive(pid));
          await box.waitForStatus(id, 'STOPPED');
          assertConnected(box, id);
          await box.must(['tasks', 'rm', id]);
          await box.must(['containers', 'rm', id]);
          assert.deepEqual(await story(box, id), plainStory(137));
        }
      });

      scenario('and an exec ends before the next engine is there', async (box) => {
        const id = await box.start(['sleep', '1000']);
        const exec = box.spawn(box.execArgs(id, ['sh', '-c', 'echo $$; read x; echo last; exit 14']), {
          stdin: 'open',
        });
        await exec.output(/\d+\n/);
        for (const engine of engines(box.daemon)) process.kill(engine, 'SIGKILL');
        exec.write('go\n');
        const result = await exec.result();
        assert.match(result.stdout, /^\d+\nlast\n$/);
        assert.deepEqual({ stderr: result.stderr, code: result.code }, { stderr: '', code: 14 });
        await box.remove(id);
        assert.equal((await story(box, id)).filter((word) => word === 'exit:exec=14').length, 1);
      });

      scenario('while a container is paused: it stays so, and resumes', async (box) => {
        const { id, command } = box.spawnRun(['sh', '-c', 'echo up; while read x; do echo "[$x]"; done; exit 15']);
        await command.output(/up\n/);
        await box.must(['tasks', 'pause', id]);
        await replaceEngine(box.daemon);
        assert.equal(await box.status(id), 'PAUSED');
        command.write('thawed\n');
        await replaceEngine(box.daemon);
        assert.equal(command.stdout, 'up\n', 'a paused container answers');
        await box.must(['tasks', 'resume', id]);
        await command.output(/\[thawed\]\n/);
        assertConnected(box, id);
        command.closeStdin();
        assert.equal((await command.result()).code, 15);
        assert.deepEqual(await story(box, id), ['create', 'start', 'paused', 'resumed', 'exit:init=15', 'delete']);
      });

      scenario('while a container is paused: it can be removed by force', async (box) => {
        const id = await box.start(['sleep', '1000']);
        await box.must(['tasks', 'pause', id]);
        await killEngine(box.daemon);
        await box.must(['tasks', 'rm', '-f', id]);
        await box.must(['containers', 'rm', id]);
      });

      scenario('while stdin is being fed: every byte arrives', async (box) => {
        const { id, command } = box.spawnRun(['sh', '-c', 'echo up; sha256sum']);
        await command.output(/up\n/);
        const hash = createHash('sha256');
        for (let chunk = 0; chunk < 64; chunk += 1) {
          const data = Buffer.alloc(131_072, `chunk ${chunk} `);
          hash.update(data);
          command.write(data);
          if (chunk % 20 === 10) await replaceEngine(box.daemon);
        }
        command.closeStdin();
        const result = await command.result();
        assert.equal(result.stdout, `up\n${hash.digest('hex')}  -\n`);
        assert.deepEqual(await story(box, id), plainStory(0));
      });

      scenario('between create and start', async (box) => {
        const id = box.id();
        await box.must([
          'containers',
          'create',
          '--runtime',
          box.runtime.name,
          '--snapshotter',
          box.snapshotter,
          'lamina.test/probe:latest',
          id,
          'false',
        ]);
        const start = box.spawn(['tasks', 'start', '--fifo-dir', `${box.daemon.dir}/fifo`, id]);
        await box.events.waitFor({ namespace: box.namespace, id }, '/tasks/create');
        for (const engine of engines(box.daemon)) process.kill(engine, 'SIGKILL');
        assert.deepEqual(await start.result(), { stdout: '', stderr: '', code: 1 });
        await box.must(['containers', 'rm', id]);
        assert.deepEqual(await story(box, id), plainStory(1));
      });

      scenario('and kill, metrics, ps, exec and update go on afterwards', async (box) => {
        const id = await box.start(['sh', '-c', 'trap "exit 18" TERM; while :; do sleep 0.05; done'], {
          flags: ['--memory-limit', '67108864'],
        });
        const pid = await box.pidOf(id);
        await replaceEngine(box.daemon);
        assert.equal(await box.pidOf(id), pid);
        const metrics = JSON.parse(await box.must(['tasks', 'metrics', '--format', 'json', id]));
        assert.ok(Number(metrics.pids.current) >= 1);
        const rows = (await box.must(['tasks', 'ps', id])).split('\n').map((row) => Number(row.split(/\s+/)[0]));
        assert.ok(rows.includes(pid));
        assert.equal((await box.exec(id, ['sh', '-c', 'exit 8'])).code, 8);
        await box.must(['tasks', 'kill', id]);
        await box.waitForStatus(id, 'STOPPED');
        await box.must(['tasks', 'rm', id]);
        await box.must(['containers', 'rm', id]);
        assert.equal((await story(box, id)).at(-2), 'exit:init=18');
      });
    },
    { laminaConfig: mode },
  );
}
