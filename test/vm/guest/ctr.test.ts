import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { runAtTerminal } from '../../lib/command.js';
import { requires } from '../../lib/requires.js';
import { until } from '../../lib/wait.js';
import { Leftovers } from './leftovers.js';
import { Machine, missingShim, RUNTIMES, STOCK, TaskEvents, waitForSize } from './machine.js';

for (const runtime of RUNTIMES) {
  for (const binary of ['runc', 'crun'] as const) {
    const skip = requires({ root: true, cgroup: 'v2', containerd: true, [binary]: true }) || missingShim(runtime);
    describe(`ctr with ${runtime} and ${binary}`, { skip }, () => {
      const machine = new Machine(runtime);
      let leftovers: Leftovers;
      let events: TaskEvents;

      before(async () => {
        await machine.importImage();
        leftovers = new Leftovers();
        events = await TaskEvents.start(machine);
      });

      after(async () => {
        await events.stop();
        await machine.clear();
        await leftovers.check();
      });

      it('runs a command in the foreground and passes on its output and its status', async () => {
        const result = await machine.run(machine.newId('run'), ['sh', '-c', 'echo out; echo err >&2; exit 3'], {
          binary,
        });
        assert.deepEqual(result, { stdout: 'out\n', stderr: 'err\n', code: 3 });
      });

      it('gives a container a terminal of the size of the caller', async () => {
        const id = machine.newId('tty');
        const argv = machine.argv(
          machine.runArgs(id, ['sh', '-c', waitForSize(31, 97)], { binary, flags: ['--rm', '-t'] }),
        );
        const command = runAtTerminal(argv, { rows: 31, columns: 97 });
        await command.output(/size is right/);
        assert.equal((await command.result()).code, 9);
      });

      it('keeps a container in the background through exec, ps, pause, resume and kill', async () => {
        const id = machine.newId('life');
        const pid = await machine.start(id, ['sleep', '1000'], { binary });
        assert.equal(await machine.status(id), 'RUNNING');

        const exec = await machine.ctr(['task', 'exec', '--exec-id', 'one', id, 'sh', '-c', 'echo inside; exit 5']);
        assert.equal(exec.stdout, 'inside\n');
        assert.equal(exec.code, 5);

        assert.match(await machine.must(['task', 'ps', id]), new RegExp(`^${pid}\\b`, 'm'));

        await machine.must(['task', 'pause', id]);
        assert.equal(await machine.status(id), 'PAUSED');
        await machine.must(['task', 'resume', id]);
        assert.equal(await machine.status(id), 'RUNNING');

        await machine.must(['task', 'kill', '-s', 'SIGTERM', id]);
        await machine.must(['task', 'kill', '-s', 'SIGKILL', id]);
        await machine.waitStatus(id, 'STOPPED');
        await machine.remove(id);
        // Stock shims lose the event of the deletion now and then: they end while it is on its way.
        await events.waitFor(id, runtime === STOCK ? 'exit' : 'delete');
        const names = events.of(id).map((event) => event.name);
        assert.deepEqual(
          names.filter((name) => name !== 'delete'),
          ['create', 'start', 'exec-added', 'exec-started', 'exit', 'paused', 'resumed', 'exit'],
        );
        assert.ok(runtime === STOCK || names.at(-1) === 'delete', names.join());
        const exit = events.of(id).findLast((event) => event.name === 'exit');
        assert.equal(exit?.fields['exit_status'], 137);
        assert.equal(exit?.fields['pid'], pid);
      });

      it('removes a running container by force', async () => {
        const id = machine.newId('force');
        const pid = await machine.start(id, ['sleep', '1000'], { binary });
        await machine.ctr(['task', 'rm', '-f', id]);
        await machine.must(['container', 'rm', id]);
        assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
      });

      it('refuses a command that does not exist with the reason in words', async () => {
        const id = machine.newId('none');
        const result = await machine.run(id, ['no-such-program'], { binary });
        assert.notEqual(result.code, 0);
        assert.match(result.stderr, /OCI runtime create failed|runtime create failed/);
        assert.match(result.stderr, /no-such-program/);
        await machine.ctr(['container', 'rm', id]);
      });

      it('ends with its init: background processes of the container die too', async () => {
        const id = machine.newId('orphans');
        const pid = await machine.start(id, ['sh', '-c', 'sleep 1001 & sleep 1002 & exec sleep 1003'], { binary });
        await until('three processes run', async () => (await machine.metrics(id)).get('pids.current') === 3n);
        process.kill(pid, 'SIGKILL');
        await machine.waitStatus(id, 'STOPPED');
        await machine.remove(id);
      });
    });
  }
}
