/**
 * Scopes and slices where the way to systemd is broken: no dbus-daemon, a restart of either, a
 * systemd that hangs.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Code, codeOf } from '../../../src/base/index.js';
import { SystemdError } from '../../../src/cgroups/systemd/errors.js';
import { SystemdManager, systemdManager } from '../../../src/cgroups/systemd/manager.js';
import { runCommand } from '../../lib/command.js';
import { requires } from '../../lib/requires.js';
import { until } from '../../lib/wait.js';
import { assertSurvivesReload, property, readLimit, statusCode, systemctl } from './systemd-machine.js';
import { refused, unitOf, useUnits } from './systemd-suite.js';

/** For what systemd answers at once unless it hangs. */
const DEADLINE_MS = 3000;
const skip = requires({ root: true, cgroup: 'v2', systemd: true, programs: ['systemctl'] });

describe('scopes and slices', { skip }, () => {
  const { processes, create } = useUnits();

  describe('without dbus-daemon', () => {
    const env = { env: {}, uid: 0 };
    let version: number;

    before(async () => {
      version = await systemdManager().version();
      await systemctl('stop', 'dbus.socket', 'dbus.service');
    });
    after(async () => void (await systemctl('start', 'dbus.socket', 'dbus.service')));

    it('everything goes through the socket of systemd itself', async () => {
      assert.equal(await new SystemdManager({ environment: env }).version(), version);
      const cgroup = await create({ resources: { pids: { limit: 20 } } });
      await cgroup.set({ pids: { limit: 30 } });
      assert.equal(await property(unitOf(cgroup), 'TasksMax'), '30');
      await cgroup.apply((await processes.start()).pid);
      await cgroup.kill();
      await cgroup.destroy();
      assert.equal(await statusCode(unitOf(cgroup)), 4);
    });

    it('somebody who is not root is told so', async () => {
      const other = new SystemdManager({ environment: { env: {}, uid: 1000 } });
      await assert.rejects(other.version(), refused(Code.Unavailable, /system_bus_socket/));
    });
  });

  it('survive a restart of dbus-daemon, and of systemd itself', async () => {
    const cgroup = await create({ pid: (await processes.start()).pid });
    await cgroup.set({ pids: { limit: 20 } });
    await systemctl('restart', 'dbus.service');
    await cgroup.set({ pids: { limit: 21 } });
    assert.equal(await property(unitOf(cgroup), 'TasksMax'), '21');
    await systemctl('daemon-reexec');
    await cgroup.set({ pids: { limit: 22 } });
    assert.equal(await property(unitOf(cgroup), 'TasksMax'), '22');
    await assertSurvivesReload(cgroup.path);
  });

  it('cost a deadline, no more, when systemd hangs', async () => {
    const cgroup = await create({
      pid: (await processes.start()).pid,
      systemd: { timeoutMs: DEADLINE_MS },
      resources: { pids: { limit: 20 } },
    });
    // A generator that does not end holds up PID 1 for as long as it runs.
    const generators = '/run/systemd/system-generators';
    const release = join('/run', 'lamt-release');
    mkdirSync(generators, { recursive: true });
    writeFileSync(
      join(generators, 'lamt-hang'),
      `#!/bin/sh\ntouch ${release}.hangs\nuntil [ -e ${release} ]; do sleep 0.05; done\n`,
      { mode: 0o755 },
    );
    const reload = runCommand(['systemctl', 'daemon-reload']);
    try {
      await until('systemd hangs', () => existsSync(`${release}.hangs`));
      const late = (error: unknown): boolean =>
        error instanceof SystemdError && codeOf(error) === Code.DeadlineExceeded;
      await assert.rejects(cgroup.set({ pids: { limit: 21 } }), late);
      await assert.rejects(create({ path: ':lamt:late', systemd: { timeoutMs: DEADLINE_MS } }), late);
    } finally {
      writeFileSync(release, '');
      await reload;
      rmSync(generators, { recursive: true });
      rmSync(release);
      rmSync(`${release}.hangs`);
    }
    await cgroup.set({ pids: { limit: 23 } });
    assert.equal(readLimit(cgroup.path, 'pids.max'), '23');
    assert.equal(await statusCode('lamt-late.scope'), 4);
  });
});
