import assert from 'node:assert/strict';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { mustRun, runCommand } from '../../lib/command.js';
import { requires } from '../../lib/requires.js';
import { until } from '../../lib/wait.js';
import { Leftovers } from './leftovers.js';
import { Machine, missingShim, RUNTIMES } from './machine.js';

async function daemonPid(): Promise<number> {
  return Number(await mustRun(['systemctl', 'show', '-p', 'MainPID', '--value', 'containerd']));
}

/** Waits for a containerd that is not the process `previous` and that answers. */
async function waitForDaemon(previous: number): Promise<void> {
  const isNew = async (): Promise<boolean> => ![0, previous].includes(await daemonPid());
  await until('a new containerd runs', isNew);
  const answers = async (): Promise<boolean> => (await runCommand(['ctr', 'version'])).code === 0;
  await until('containerd answers', answers);
}

/** FIFOs are the client's, and here no client was left to remove them. */
function removeFifos(id: string): void {
  for (const folder of readdirSync('/run/containerd/fifo').map((name) => join('/run/containerd/fifo', name))) {
    if (readdirSync(folder).some((name) => name.startsWith(`${id}-std`))) rmSync(folder, { recursive: true });
  }
}

/** Each way a daemon comes back, as systemd does it; all return once the new one answers. */
const RESTARTS: Readonly<Record<string, () => Promise<void>>> = {
  'systemctl restart': async () => {
    const previous = await daemonPid();
    await mustRun(['systemctl', 'restart', 'containerd']);
    await waitForDaemon(previous);
  },
  // The unit says Restart=always.
  'kill -9': async () => {
    const previous = await daemonPid();
    process.kill(previous, 'SIGKILL');
    await waitForDaemon(previous);
  },
};

for (const runtime of RUNTIMES) {
  const skip =
    requires({ root: true, cgroup: 'v2', systemd: true, containerd: true, runc: true }) || missingShim(runtime);
  describe(`containers of ${runtime} outlive containerd`, { skip }, () => {
    const machine = new Machine(runtime);
    let leftovers: Leftovers;

    before(async () => {
      await machine.importImage();
      leftovers = new Leftovers();
    });

    after(async () => {
      await machine.clear();
      await leftovers.check();
    });

    for (const [name, restart] of Object.entries(RESTARTS)) {
      it(`and are in full working order after ${name}`, async () => {
        const id = machine.newId('kept');
        const pid = await machine.start(id, ['sleep', '1000']);
        await restart();
        assert.equal(await machine.pid(id), pid);
        assert.equal(await machine.status(id), 'RUNNING');
        assert.equal((await machine.metrics(id)).get('pids.current'), 1n);
        const exec = await machine.must(['task', 'exec', '--exec-id', 'later', id, 'echo', 'still here']);
        assert.equal(exec, 'still here\n');
        await machine.must(['task', 'kill', '-s', 'SIGKILL', id]);
        await machine.waitStatus(id, 'STOPPED');
        await machine.remove(id);
      });
    }

    it('and one that ended while no containerd ran is cleaned up', async () => {
      const id = machine.newId('gone');
      const pid = await machine.start(id, ['sleep', '1000']);
      const previous = await daemonPid();
      await mustRun(['systemctl', 'stop', 'containerd']);
      process.kill(pid, 'SIGKILL');
      await mustRun(['systemctl', 'start', 'containerd']);
      await waitForDaemon(previous);
      // A containerd that finds a shim without processes deletes the task by itself.
      const isGone = async (): Promise<boolean> => !(await machine.must(['task', 'ls', '-q'])).split('\n').includes(id);
      await until('the task is deleted', isGone);
      await machine.must(['container', 'rm', id]);
      removeFifos(id);
    });

    it('and a paused one stays paused', async () => {
      const id = machine.newId('paused');
      await machine.start(id, ['sleep', '1000']);
      await machine.must(['task', 'pause', id]);
      await RESTARTS['kill -9']?.();
      assert.equal(await machine.status(id), 'PAUSED');
      await machine.must(['task', 'resume', id]);
      assert.equal(await machine.status(id), 'RUNNING');
      await machine.ctr(['task', 'rm', '-f', id]);
      await machine.must(['container', 'rm', id]);
    });
  });
}
