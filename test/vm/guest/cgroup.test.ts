import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { mustRun } from '../../lib/command.js';
import { requires } from '../../lib/requires.js';
import { until } from '../../lib/wait.js';
import { Leftovers } from './leftovers.js';
import { cgroupOf, Machine, missingShim, RUNTIMES, type RunOptions, STOCK, TaskEvents } from './machine.js';

const MIB = 1024 * 1024;

function read(cgroup: string, file: string): string {
  return readFileSync(join(cgroup, file), 'utf8').trim();
}

/** Metrics as ctr printed them, by runtime, for the comparison at the end. */
const metricNames = new Map<string, Set<string>>();

for (const runtime of RUNTIMES) {
  const skip =
    requires({ root: true, cgroup: 'v2', systemd: true, containerd: true, runc: true }) || missingShim(runtime);
  describe(`cgroup v2 with ${runtime}`, { skip }, () => {
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

    it('applies limits, and reports usage and limits as the files say', async () => {
      const id = machine.newId('limits');
      const flags = ['--memory-limit', String(64 * MIB), '--cpu-quota', '50000', '--cpu-period', '100000'];
      const pid = await machine.start(id, ['sh', '-c', 'probe hog 8388608'], { flags });
      const cgroup = cgroupOf(pid);
      assert.equal(read(cgroup, 'memory.max'), String(64 * MIB));
      assert.equal(read(cgroup, 'cpu.max'), '50000 100000');
      // The shell may be about to start the program.
      const metrics = await until('the metrics are as the files say', async () => {
        const found = await machine.metrics(id);
        return found.get('pids.current') === BigInt(read(cgroup, 'pids.current')) && found;
      });
      metricNames.set(runtime, new Set(metrics.keys()));
      assert.equal(metrics.get('memory.usage_limit'), BigInt(64 * MIB));
      assert.ok((metrics.get('memory.usage') ?? 0n) > 0n);
      assert.ok((metrics.get('cpu.usage_usec') ?? 0n) > 0n);
      await machine.ctr(['task', 'rm', '-f', id]);
      await machine.must(['container', 'rm', id]);
      await until(`${cgroup} is removed`, () => !existsSync(cgroup));
    });

    // systemd removes the scope with its last process, before anybody can read what happened in it.
    for (const driver of ['cgroupfs', 'systemd'] as const) {
      const placed = (id: string): RunOptions => ({
        flags: ['--memory-limit', String(16 * MIB)],
        ...(driver === 'systemd' ? { cgroup: `system.slice:lamina:${id}` } : {}),
      });

      it(`publishes an out-of-memory kill before the exit, with ${driver}`, async () => {
        const id = machine.newId('oom');
        const result = await machine.run(id, ['probe', 'hog', String(256 * MIB)], placed(id));
        assert.equal(result.code, 137);
        const names = (await events.waitFor(id, 'exit')).filter((name) => name !== 'delete');
        // The stock shim of containerd 2.1 may tell of it too late, or never.
        if (runtime === STOCK)
          assert.deepEqual(
            names.filter((name) => name !== 'oom'),
            ['create', 'start', 'exit'],
          );
        else assert.deepEqual(names, ['create', 'start', 'oom', 'exit']);
      });

      it(`publishes none for a container that is killed, with ${driver}`, async () => {
        const id = machine.newId('killed');
        await machine.start(id, ['sleep', '1000'], placed(id));
        await machine.must(['task', 'kill', '-s', 'SIGKILL', id]);
        const names = await events.waitFor(id, 'exit');
        await machine.waitStatus(id, 'STOPPED');
        await machine.remove(id);
        assert.deepEqual(names, ['create', 'start', 'exit']);
      });
    }

    it('freezes through the cgroup on pause', async () => {
      const id = machine.newId('frozen');
      const cgroup = cgroupOf(await machine.start(id, ['sleep', '1000']));
      await machine.must(['task', 'pause', id]);
      assert.equal(read(cgroup, 'cgroup.freeze'), '1');
      assert.match(read(cgroup, 'cgroup.events'), /^frozen 1$/m);
      await machine.must(['task', 'resume', id]);
      assert.match(read(cgroup, 'cgroup.events'), /^frozen 0$/m);
      await machine.ctr(['task', 'rm', '-f', id]);
      await machine.must(['container', 'rm', id]);
    });

    for (const binary of ['runc', 'crun'] as const) {
      it(`lets systemd make the scope, with ${binary}`, { skip: requires({ [binary]: true }) }, async () => {
        const id = machine.newId('scope');
        const unit = `lamina-${id}.scope`;
        const flags = ['--memory-limit', String(48 * MIB)];
        const cgroup = `system.slice:lamina:${id}`;
        const folder = cgroupOf(await machine.start(id, ['sleep', '1000'], { binary, cgroup, flags }));
        // crun puts the container into a group of its own below the scope.
        assert.ok(folder.split('/').includes(unit), folder);
        assert.equal(basename(folder.slice(0, folder.indexOf(`/${unit}`))), 'system.slice');
        const show = await mustRun(['systemctl', 'show', '-p', 'ActiveState,MemoryMax', unit]);
        assert.match(show, /^ActiveState=active$/m);
        assert.match(show, new RegExp(`^MemoryMax=${48 * MIB}$`, 'm'));
        const scope = folder.slice(0, folder.indexOf(unit) + unit.length);
        assert.equal(read(scope, 'memory.max'), String(48 * MIB));
        assert.equal((await machine.metrics(id)).get('pids.current'), 1n);
        await machine.must(['task', 'pause', id]);
        assert.equal(await machine.status(id), 'PAUSED');
        await machine.must(['task', 'resume', id]);
        assert.match(await machine.must(['task', 'ps', id]), /^\d+\b/m);
        await machine.must(['task', 'kill', '-a', '-s', 'SIGKILL', id]);
        await machine.waitStatus(id, 'STOPPED');
        await machine.remove(id);
        await until(`${scope} is removed`, () => !existsSync(scope));
        await until('systemd has forgotten it', async () =>
          /^ActiveState=inactive$/m.test(await mustRun(['systemctl', 'show', '-p', 'ActiveState', unit])),
        );
      });
    }
  });
}

describe('metrics of all runtimes', { skip: requires({ root: true, cgroup: 'v2' }) }, () => {
  it('have the same names', (test) => {
    if (metricNames.size < 2) return test.skip('only one runtime ran');
    const [first, ...others] = [...metricNames.values()];
    for (const names of others) assert.deepEqual(names, first);
  });
});
