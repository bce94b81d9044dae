/** A keeper is killed, or told to end. Only its own containers may notice. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Box } from '../../lib/box.js';
import { shimSuite } from '../../lib/parity.js';
import { childrenOf, isAlive, readProcess, terminate } from '../../lib/proc.js';
import { engines, keeperOf, keepers, replaceEngine, strikeEngines, theEngine } from '../../lib/processes.js';
import { assertConnected, laminaOnly, story } from '../../lib/survive.js';
import { until } from '../../lib/wait.js';
import { HeldRuntime } from './held-runtime.js';

/** What is left of a container whose keeper is gone: its task, its init, its execs. */
async function waitUntilCleanedUp(box: Box, id: string, pids: readonly number[]): Promise<void> {
  await until('the task is gone', async () => (await box.status(id)) === undefined);
  await until('its processes are gone', () => pids.every((pid) => !isAlive(pid)));
  // The daemon removes it last; stopped in the middle of that, it would leave it.
  await until('its bundle is gone', () => !existsSync(box.daemon.bundle(box.namespace, id)));
  await box.must(['containers', 'rm', id]);
}

/** A ctr whose wait fails leaves the folder of its FIFOs, with any shim. */
function forgetFifos(box: Box): void {
  const fifos = join(box.daemon.dir, 'fifo');
  for (const name of readdirSync(fifos)) rmSync(join(fifos, name), { recursive: true });
}

for (const mode of ['engine = "shared"', 'engine = "dedicated"']) {
  shimSuite(
    `a keeper dies (${mode})`,
    (suite) => {
      const scenario = laminaOnly(suite);

      scenario('and the daemon’s clean-up leaves nothing; others go on', async (box) => {
        const victim = await box.start(['sh', '-c', 'sleep 1000 & sleep 1000 & wait']);
        const { id, command } = box.spawnRun(['sh', '-c', 'echo up; read x; echo "[$x]"; exit 41']);
        await command.output(/up\n/);
        const survivor = await keeperOf(box, id);
        const pid = await box.pidOf(victim);
        process.kill(await keeperOf(box, victim), 'SIGKILL');
        await waitUntilCleanedUp(box, victim, [pid]);
        assert.equal((await story(box, victim)).at(-1), 'delete');
        assert.equal(await keeperOf(box, id), survivor);
        assertConnected(box, id);
        assert.equal((await box.exec(id, ['echo', 'fine'])).stdout, 'fine\n');
        command.write('on\n');
        assert.deepEqual(await command.result(), { stdout: 'up\n[on]\n', stderr: '', code: 41 });
      });

      scenario('and the engine goes on for others', async (box) => {
        const ids = await Promise.all(Array.from({ length: 3 }, () => box.start(['sleep', '1000'])));
        const [victim = '', ...others] = ids;
        const serving = mode.includes('shared') ? [await theEngine(box.daemon)] : [];
        const pid = await box.pidOf(victim);
        process.kill(await keeperOf(box, victim), 'SIGKILL');
        await waitUntilCleanedUp(box, victim, [pid]);
        for (const id of others) assert.equal((await box.exec(id, ['echo', id])).stdout, `${id}\n`);
        for (const engine of serving) {
          // The first engine is the child of the keeper that started it; it must outlive it all the
          // same.
          assert.ok(engines(box.daemon).includes(engine), 'the engine has died with a keeper');
        }
        for (const id of others) await box.remove(id);
      });

      scenario('while a client waits: it is told, soon', async (box) => {
        const { id, command } = box.spawnRun(['sh', '-c', 'echo up; sleep 1000']);
        await command.output(/up\n/);
        const pid = await box.pidOf(id);
        process.kill(await keeperOf(box, id), 'SIGKILL');
        const result = await command.result();
        assert.notEqual(result.code, 0);
        await until('init is gone', () => !isAlive(pid));
        await box.remove(id);
        forgetFifos(box);
      });

      scenario('with a paused container', async (box) => {
        const id = await box.start(['sleep', '1000']);
        const pid = await box.pidOf(id);
        const keeper = await keeperOf(box, id);
        await box.must(['tasks', 'pause', id]);
        process.kill(keeper, 'SIGKILL');
        await waitUntilCleanedUp(box, id, [pid]);
      });

      scenario('together with its engine', async (box) => {
        const id = await box.start(['sleep', '1000']);
        const other = await box.start(['sleep', '1000']);
        const pid = await box.pidOf(id);
        const keeper = await keeperOf(box, id);
        strikeEngines(box.daemon);
        process.kill(keeper, 'SIGKILL');
        await waitUntilCleanedUp(box, id, [pid]);
        assert.equal((await box.exec(other, ['echo', 'x'])).stdout, 'x\n');
        await box.remove(other);
      });

      scenario('after its container ended: the true status is kept', async (box) => {
        const id = await box.start(['sh', '-c', 'exit 42']);
        await box.waitForStatus(id, 'STOPPED');
        // no init any more to find the keeper by
        const keeper = keepers(box.daemon).find((pid) => readProcess(pid)?.commandLine.includes(`-id ${id} `));
        assert.ok(keeper !== undefined);
        process.kill(keeper, 'SIGKILL');
        await waitUntilCleanedUp(box, id, []);
        const told = await box.events.waitFor({ namespace: box.namespace, id }, '/tasks/delete');
        assert.equal(told.findLast(({ topic }) => topic === '/tasks/delete')?.fields['exit_status'], 42);
      });

      scenario('by SIGTERM: as when killed, nothing is left', async (box) => {
        const id = await box.start(['sleep', '1000']);
        const other = await box.start(['sleep', '1000']);
        const pid = await box.pidOf(id);
        const keeper = await keeperOf(box, id);
        process.kill(keeper, 'SIGTERM');
        await until('the keeper has ended', () => !isAlive(keeper));
        await waitUntilCleanedUp(box, id, [pid]);
        assert.equal((await box.exec(other, ['echo', 'x'])).stdout, 'x\n');
        await box.remove(other);
      });

      scenario('by SIGTERM while its engine is dead', async (box) => {
        const id = await box.start(['sleep', '1000']);
        const pid = await box.pidOf(id);
        const keeper = await keeperOf(box, id);
        strikeEngines(box.daemon);
        process.kill(keeper, 'SIGTERM');
        await until('the keeper has ended', () => !isAlive(keeper));
        await waitUntilCleanedUp(box, id, [pid]);
      });
    },
    { laminaConfig: mode },
  );
}

shimSuite('a keeper dies with everything under way', (suite) => {
  let runtime: HeldRuntime | undefined;
  const declare = laminaOnly(suite, { timeoutMs: 120_000 });
  const scenario = (title: string, run: (box: Box, held: HeldRuntime) => Promise<void>): void => {
    // Before there is an engine: each reads the configuration once.
    declare(title, async (box) => {
      runtime ??= new HeldRuntime(box.daemon, 'script');
      await run(box, runtime);
    });
  };

  scenario('execs, terminals and a logger: with the daemon’s clean-up all of it ends', async (box) => {
    const logger = join(box.daemon.dir, 'work', 'logger');
    writeFileSync(logger, '#!/bin/sh\nexec 5>&-\nexec cat <&3 >/dev/null\n', { mode: 0o755 });
    const logged = await box.start(['sh', '-c', 'sleep 1000 & wait'], { flags: ['--log-uri', `binary://${logger}`] });
    const { id, command } = box.runAtTerminal(['sh', '-c', 'echo up; read x']);
    await command.output(/up/);
    const exec = box.spawn(box.execArgs(id, ['sh', '-c', 'echo in; sleep 1000']), { stdin: 'open' });
    await exec.output(/in\n/);
    const keeperPids = await Promise.all([keeperOf(box, logged), keeperOf(box, id)]);
    const left = keeperPids.flatMap((pid) => childrenOf(pid));
    assert.ok(left.length >= 4, 'two inits, an exec and a logger');
    for (const pid of keeperPids) process.kill(pid, 'SIGKILL');
    assert.notEqual((await exec.result()).code, 0);
    // Whoever sits at the terminal leaves; ctr itself waits for a key that is never pressed.
    command.kill();
    await command.result();
    const pids = left.map(({ pid }) => pid).filter((pid) => !engines(box.daemon).includes(pid));
    await waitUntilCleanedUp(box, logged, pids);
    await until('the task is gone', async () => (await box.status(id)) === undefined);
    await box.remove(id);
    forgetFifos(box);
  });

  scenario('all containers of a pod', async (box) => {
    const group = `dies-${box.daemon.marker}`;
    box.daemon.track(box.namespace, group);
    const flags = ['--annotation', `io.containerd.runc.v2.group=${group}`];
    const ids = [];
    for (let n = 0; n < 3; n += 1) ids.push(await box.start(['sh', '-c', 'sleep 1000 & wait'], { flags }));
    const [, paused = ''] = ids;
    await box.must(['tasks', 'pause', paused]);
    const pids = await Promise.all(ids.map((id) => box.pidOf(id)));
    process.kill(await keeperOf(box, paused), 'SIGKILL');
    for (const id of ids) await waitUntilCleanedUp(box, id, pids);
    for (const id of ids) assert.deepEqual((await story(box, id)).slice(-2), ['exit:init=137', 'delete']);
  });

  for (const verb of ['create', 'start', 'exec'] as const) {
    for (const moment of ['before', 'after'] as const) {
      scenario(`while the runtime works, ${moment} ${verb}`, async (box, held) => {
        held.hold(verb, moment);
        const other = verb === 'exec' ? await box.start(['sleep', '1000']) : undefined;
        const { id, command } =
          other === undefined
            ? box.spawnRun(['sleep', '1000'])
            : { id: other, command: box.spawn(box.execArgs(other, ['sleep', '1000'])) };
        try {
          await held.waitUntilHeld();
          const keeper = keepers(box.daemon).find((pid) => readProcess(pid)?.commandLine.includes(`-id ${id} `));
          assert.ok(keeper !== undefined);
          process.kill(keeper, 'SIGKILL');
          assert.notEqual((await command.result()).code, 0);
        } finally {
          held.release();
        }
        await until('the task is gone', async () => (await box.status(id)) === undefined);
        await until('its bundle is gone', () => !existsSync(box.daemon.bundle(box.namespace, id)));
        await box.remove(id);
        forgetFifos(box);
        assert.equal((await box.run(['sh', '-c', 'exit 9'])).code, 9);
      });
    }
  }
});

const TERM = (code: number): string[] => ['sh', '-c', `trap "exit ${code}" TERM; while :; do sleep 0.05; done`];

shimSuite('containerd and the engine die together', (suite) => {
  const scenario = laminaOnly(suite);
  const remove = async (box: Box, id: string): Promise<number> => {
    await box.waitForStatus(id, 'STOPPED');
    await box.must(['tasks', 'rm', id]);
    await box.must(['containers', 'rm', id]);
    const events = await box.events.waitFor({ namespace: box.namespace, id }, '/tasks/delete');
    return Number(events.findLast(({ topic }) => topic === '/tasks/delete')?.fields['exit_status'] ?? 0);
  };

  scenario('running containers are found again', async (box) => {
    const ids = [await box.start(TERM(51)), await box.start(TERM(52)), await box.start(TERM(53))];
    const pids = await Promise.all(ids.map((id) => box.pidOf(id)));
    strikeEngines(box.daemon);
    await box.daemon.restart();
    await box.events.resubscribe();
    assert.deepEqual(await Promise.all(ids.map((id) => box.pidOf(id))), pids);
    const codes = [];
    for (const id of ids) {
      assert.equal((await box.exec(id, ['echo', 'x'])).stdout, 'x\n');
      await box.terminate(id);
      codes.push(await remove(box, id));
    }
    assert.deepEqual(codes, [51, 52, 53]);
  });

  scenario('an exit in that moment is known afterwards', async (box) => {
    const id = await box.start(TERM(54));
    const pid = await box.pidOf(id);
    await box.daemon.killHard();
    strikeEngines(box.daemon);
    await terminate(pid);
    await box.daemon.restart();
    await box.events.resubscribe();
    assert.equal(await remove(box, id), 54);
  });

  scenario('the engine dies while the daemon starts', async (box) => {
    const id = await box.start(TERM(55));
    await box.daemon.killHard();
    const restarted = box.daemon.restart();
    await replaceEngine(box.daemon);
    await restarted;
    await box.events.resubscribe();
    assert.equal(await box.status(id), 'RUNNING');
    await box.terminate(id);
    assert.equal(await remove(box, id), 55);
  });

  scenario('output goes on to a file meanwhile', async (box) => {
    const folder = join(box.daemon.dir, 'work', 'logs');
    mkdirSync(folder, { recursive: true });
    const log = join(folder, 'drip.log');
    const script = 'n=0; while [ $n -lt 400 ]; do echo "line $n"; n=$((n+1)); sleep 0.005; done; exit 56';
    const id = await box.start(['sh', '-c', script], { flags: ['--log-uri', `file://${log}`] });
    strikeEngines(box.daemon);
    await box.daemon.restart();
    await box.events.resubscribe();
    assert.equal(await remove(box, id), 56);
    assert.equal(readFileSync(log, 'utf8'), Array.from({ length: 400 }, (_, n) => `line ${n}\n`).join(''));
  });
});
