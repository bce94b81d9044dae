/** The engine is killed while a terminal is on its way, or around what a logger goes through. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Box } from '../../lib/box.js';
import { runAtTerminal, WAIT_FOR_SIZE } from '../../lib/command.js';
import { hostProgram } from '../../lib/image.js';
import { shimSuite } from '../../lib/parity.js';
import { listProcesses } from '../../lib/proc.js';
import { keepers, replaceEngine } from '../../lib/processes.js';
import { assertConnected, laminaOnly, plainStory, story } from '../../lib/survive.js';
import { until } from '../../lib/wait.js';
import { HeldRuntime, type Moment, type Verb } from './held-runtime.js';

shimSuite('the engine dies around terminals and loggers', (suite) => {
  const scenario = laminaOnly(suite);
  let runtime: HeldRuntime | undefined;

  const prepare = (box: Box, verb: Verb, moment: Moment): void => {
    runtime ??= new HeldRuntime(box.daemon, 'script');
    runtime.hold(verb, moment);
  };
  /** The engine dies while `work` is held at the runtime. */
  const killDuring = async <T>(box: Box, work: Promise<T>): Promise<T> => {
    work.catch(() => undefined);
    try {
      await runtime?.waitUntilHeld();
      await replaceEngine(box.daemon);
      await runtime?.releaseSoon();
      return await work;
    } finally {
      runtime?.release();
    }
  };

  for (const moment of ['before', 'after'] as const) {
    scenario(`${moment} an exec is started at a terminal`, async (box) => {
      prepare(box, 'exec', moment);
      const id = await box.start(['sleep', '1000']);
      const script = `${WAIT_FOR_SIZE}; echo ready; read x; echo "[$x]"; exit 25`;
      const argv = box.execArgs(id, ['sh', '-c', script], { flags: ['-t'] });
      const exec = runAtTerminal(box.daemon.ctrArgv(box.namespace, argv));
      await killDuring(box, exec.output(/ready\r\n/, 30_000));
      exec.write('typed\n');
      const result = await exec.result();
      assert.match(result.stdout, /\[typed\]\r\n/);
      assert.equal(result.code, 25);
      assertConnected(box, id);
      await box.remove(id);
      const told = (await story(box, id)).filter((word) => word.includes('exec'));
      assert.deepEqual(told, ['exec-added', 'exec-started', 'exit:exec=25']);
    });

    for (const verb of ['create', 'delete'] as const) {
      scenario(`${moment} ${verb}, with a logger`, async (box) => {
        const id = box.id();
        const path = join(box.daemon.dir, 'work', `${id}.logged`);
        const lines = (): string[] =>
          readFileSync(path, 'utf8')
            .split('\n')
            .filter((line) => /^(out|err):/.test(line))
            .toSorted((a, b) => (a < b ? -1 : 1));
        const args = box.runArgs(id, ['sh', '-c', 'echo out; echo err >&2'], {
          flags: ['-d', '--log-uri', `binary://${hostProgram('iolog')}?file=${path}`],
        });
        prepare(box, verb, moment);
        const started = box.must(args);
        await (verb === 'create' ? killDuring(box, started) : started);
        await box.waitForStatus(id, 'STOPPED');
        await until('both lines are logged', () => lines().length >= 2);
        const removed = box.must(['tasks', 'rm', id]);
        await (verb === 'delete' ? killDuring(box, removed) : removed);
        await box.must(['containers', 'rm', id]);
        assert.deepEqual(lines(), ['err:err', 'out:out']);
        assert.deepEqual(await story(box, id), plainStory(0));
        await until('the logger has ended', () => !listProcesses().some((info) => info.commandLine.includes(path)));
      });
    }
  }

  for (const isEngineKilled of [false, true]) {
    const when = isEngineKilled ? 'the engine dies after Delete' : 'the engine lives';
    scenario(`a logger that ignores SIGTERM is ended, when ${when}`, async (box) => {
      const id = box.id();
      const path = join(box.daemon.dir, 'work', `${id}.logged`);
      const flags = ['-d', '--log-uri', `binary://${hostProgram('iolog')}?file=${path}&mode=stubborn`];
      const isThere = (): boolean => listProcesses().some((info) => info.commandLine.includes(path));
      await box.must(box.runArgs(id, ['true'], { flags }));
      await box.waitForStatus(id, 'STOPPED');
      assert.ok(isThere());
      await box.must(['tasks', 'rm', id]);
      if (isEngineKilled) await replaceEngine(box.daemon);
      await box.must(['containers', 'rm', id]);
      await until('the logger has ended', () => !isThere());
      await until('the keeper has ended', () => keepers(box.daemon).length === 0);
    });
  }
});
