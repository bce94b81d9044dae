import assert from 'node:assert/strict';
import { join } from 'node:path';
import { bareRun } from '../../lib/bare.js';
import type { Box } from '../../lib/box.js';
import { shimSuite } from '../../lib/parity.js';
import { isAlive } from '../../lib/proc.js';
import { cgroupMode } from '../../lib/requires.js';
import { until } from '../../lib/wait.js';

/** The rows of `ctr tasks ls` for one container, pid replaced. */
async function row(box: Box, id: string): Promise<string | undefined> {
  const lines = (await box.must(['tasks', 'ls'])).split('\n');
  return lines.find((line) => line.startsWith(`${id} `))?.replace(/ \d+ +/, ' PID ');
}

shimSuite('ctr tasks', ({ scenario }) => {
  scenario('lists a detached container while it runs and after it stopped', async (box) => {
    const id = await box.start(['sh', '-c', 'trap "exit 9" TERM; while :; do sleep 0.05; done']);
    const running = await row(box, id);
    await box.terminate(id);
    const stopped = await row(box, id);
    const removed = await box.ctr(['tasks', 'rm', id]);
    const gone = await row(box, id);
    await box.must(['containers', 'rm', id]);
    assert.match(running ?? '', /RUNNING/);
    const status = await box.exitStatusOf(id);
    assert.equal(status, 9);
    assert.equal(gone, undefined);
    return { running, stopped, removed, status };
  });

  scenario('kills with the signal that was asked for', async (box) => {
    const { id, command } = box.spawnRun(['probe', 'signals']);
    await command.output(/ready\n/);
    for (const [signal, word] of [
      ['SIGUSR1', 'USR1'],
      ['HUP', 'HUP'],
      ['15', 'TERM'],
    ] as const) {
      await box.must(['tasks', 'kill', '-s', signal, id]);
      await command.output(new RegExp(`${word}\n`));
    }
    await box.must(['tasks', 'kill', '-s', 'SIGINT', id]);
    const result = await command.result();
    assert.deepEqual(result, { stdout: 'ready\nUSR1\nHUP\nTERM\n', stderr: '', code: 7 });
    return result;
  });

  scenario('kills all processes of a container (--all)', async (box) => {
    const id = await box.start(['sh', '-c', 'sleep 1000 & sleep 1000 & wait']);
    await until('three processes', async () => (await box.must(['tasks', 'ps', id])).trim().split('\n').length === 4);
    const killed = await box.ctr(['tasks', 'kill', '-a', '-s', 'SIGKILL', id]);
    await box.waitForStatus(id, 'STOPPED');
    const removed = await box.ctr(['tasks', 'rm', id]);
    await box.must(['containers', 'rm', id]);
    const status = await box.exitStatusOf(id);
    assert.equal(status, 137);
    return { killed, removed, status };
  });

  scenario('pauses and resumes', async (box) => {
    const { id, command } = box.spawnRun(['sh', '-c', 'while read line; do echo "got $line"; done']);
    await box.waitForStatus(id, 'RUNNING');
    const paused = await box.ctr(['tasks', 'pause', id]);
    assert.equal(await box.status(id), 'PAUSED');
    command.write('a\n');
    const exec = await box.exec(id, ['true']);
    assert.notEqual(exec.code, 0);
    assert.equal(command.stdout, '', 'a paused container answers');
    const resumed = await box.ctr(['tasks', 'resume', id]);
    await command.output(/got a\n/);
    assert.equal(await box.status(id), 'RUNNING');
    command.closeStdin();
    const result = await command.result();
    return { paused, exec: exec.code, resumed, result };
  });

  scenario('removes a paused container by force', async (box) => {
    const id = await box.start(['sleep', '1000']);
    await box.must(['tasks', 'pause', id]);
    const removed = await box.ctr(['tasks', 'rm', '-f', id]);
    await box.must(['containers', 'rm', id]);
    return { removed };
  });

  scenario('shows processes (ps)', async (box) => {
    const id = await box.start(['sh', '-c', 'sleep 1000 & wait']);
    const lines = await until('two processes', async () => {
      const output = (await box.must(['tasks', 'ps', id])).trim().split('\n');
      return output.length === 3 && output;
    });
    const pids = lines.slice(1).map((line) => Number(line.split(/\s+/)[0]));
    assert.ok(pids.includes(await box.pidOf(id)));
    assert.ok(pids.every(isAlive));
    await box.remove(id);
    return lines.map((line) => line.replace(/^\d+/, 'PID'));
  });

  scenario('names execs in ps', async (box) => {
    const id = await box.start(['sleep', '1000']);
    const execId = `e-${box.daemon.marker}`;
    await box.must(
      box.execArgs(id, ['sleep', '1000'], {
        // a detached ctr never removes the folder of its FIFOs
        flags: ['-d', '--exec-id', execId, '--log-uri', `file://${box.daemon.dir}/work/exec.log`],
      }),
    );
    const lines = (await box.must(['tasks', 'ps', id])).trim().split('\n').slice(1);
    assert.equal(lines.filter((line) => line.includes(execId)).length, 1, lines.join('\n'));
    await box.remove(id);
    return lines.map((line) => line.replace(/^\d+/, 'PID'));
  });

  scenario('shows metrics', async (box) => {
    const id = await box.start(['sh', '-c', 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 1000'], {
      flags: ['--memory-limit', '67108864'],
    });
    const metrics = await until('cpu time is counted', async () => {
      const parsed = JSON.parse(await box.must(['tasks', 'metrics', '--format', 'json', id]));
      const used = cgroupMode() === 'v2' ? parsed.cpu?.usage_usec : parsed.cpu?.usage?.total;
      return Number(used ?? 0) > 0 && parsed;
    });
    const limit = cgroupMode() === 'v2' ? metrics.memory.usage_limit : metrics.memory.usage.limit;
    assert.equal(Number(limit), 67_108_864);
    assert.ok(Number(metrics.pids.current) >= 1);
    await box.must(['tasks', 'metrics', id]);
    await box.remove(id);
    return { pids: metrics.pids.limit ?? null, limit };
  });

  scenario('removes a running container by force', async (box) => {
    const id = await box.start(['sleep', '1000']);
    const pid = await box.pidOf(id);
    const removed = await box.ctr(['tasks', 'rm', '-f', id]);
    await until('init is gone', () => !isAlive(pid));
    await box.must(['containers', 'rm', id]);
    return { removed };
  });

  scenario('starts a container again after it ended', async (box) => {
    const id = box.id();
    const runs = [await box.ctr(box.runArgs(id, ['sh', '-c', 'echo again; exit 4']))];
    for (const _ of [1, 2]) {
      const result = await box.ctr(['tasks', 'start', '--fifo-dir', join(box.daemon.dir, 'fifo'), id]);
      assert.deepEqual(result, { stdout: 'again\n', stderr: '', code: 4 });
      runs.push(result);
    }
    await box.must(['containers', 'rm', id]);
    return runs;
  });

  scenario('kills what a container in the host pid namespace leaves behind', async (box) => {
    const { args, options } = bareRun(box, 'orphans', { args: ['/bin/probe', 'orphans', '3'], hostPid: true });
    const result = await box.run(args, options);
    assert.deepEqual(result, { stdout: 'started\n', stderr: '', code: 0 });
    return result;
  });
});
