/**
 * Limits of scopes and slices: in the files and in the unit, and the same after systemd has read
 * everything anew.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { systemdManager } from '../../../src/cgroups/systemd/manager.js';
import type { LinuxResources } from '../../../src/oci/index.js';
import { requires } from '../../lib/requires.js';
import { until } from '../../lib/wait.js';
import { assertSurvivesReload, limits, property, ROOT, readLimit, show, systemctl } from './systemd-machine.js';
import { refused, unitOf, useUnits } from './systemd-suite.js';

const MIB = 1024 * 1024;
const skip = requires({ root: true, cgroup: 'v2', systemd: true, programs: ['systemctl'] });

describe('scopes and slices', { skip }, () => {
  const { processes, create } = useUnits();

  it('makes a scope around a process, with limits in the files and in the unit', async () => {
    const { pid } = await processes.start();
    const cgroup = await create({
      path: 'system.slice:lamt:first',
      pid,
      resources: {
        memory: { limit: 64 * MIB, reservation: 8 * MIB, swap: 96 * MIB },
        cpu: { shares: 512, quota: 50_000, period: 200_000 },
        pids: { limit: 20 },
      },
    });
    assert.equal(cgroup.path, '/system.slice/lamt-first.scope');
    assert.equal(cgroup.driver, 'systemd');
    assert.deepEqual(cgroup.pids(), [pid]);
    assert.equal(readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim(), `0::${cgroup.path}`);
    const files = limits(cgroup.path);
    const expected = {
      'memory.max': String(64 * MIB),
      'memory.low': String(8 * MIB),
      'memory.swap.max': String(32 * MIB),
      'cpu.weight': '59',
      'cpu.max': '50000 200000',
      'pids.max': '20',
    };
    assert.deepEqual(Object.fromEntries(Object.keys(expected).map((name) => [name, files[name]])), expected);
    const properties = {
      MemoryMax: String(64 * MIB),
      MemoryLow: String(8 * MIB),
      MemorySwapMax: String(32 * MIB),
      CPUWeight: '59',
      CPUQuotaPerSecUSec: '250ms',
      CPUQuotaPeriodUSec: '200ms',
      TasksMax: '20',
      Delegate: 'yes',
      Slice: 'system.slice',
      ActiveState: 'active',
      Transient: 'yes',
      DefaultDependencies: 'no',
    };
    assert.deepEqual(await show('lamt-first.scope', ...Object.keys(properties)), properties);
  });

  describe('after a daemon-reload', () => {
    const everything: LinuxResources = {
      memory: { limit: 64 * MIB, reservation: 8 * MIB, swap: 64 * MIB },
      cpu: { shares: 200, quota: 123_456, period: 90_000, burst: 5000 },
      pids: { limit: 33 },
      unified: {
        'memory.high': String(48 * MIB),
        'memory.min': String(MIB),
        'memory.swap.high': String(MIB),
        'memory.oom.group': '1',
      },
    };

    it('all limits given at creation are in force', async () => {
      const cgroup = await create({ pid: (await processes.start()).pid, resources: everything });
      const files = limits(cgroup.path);
      assert.equal(files['memory.swap.max'], '0');
      assert.equal(files['cpu.max'], '124200 90000', 'rounded up to whole percents');
      assert.equal(files['cpu.max.burst'], '5000');
      assert.equal(files['memory.oom.group'], '1');
      await assertSurvivesReload(cgroup.path);
      assert.equal(await property(unitOf(cgroup), 'NeedDaemonReload'), 'no');
    });

    it('all limits set later are in force', async () => {
      const cgroup = await create({ pid: (await processes.start()).pid });
      const { 'memory.oom.group': _, ...unified } = everything.unified ?? {};
      await cgroup.set({ ...everything, unified });
      assert.equal(readLimit(cgroup.path, 'pids.max'), '33');
      await assertSurvivesReload(cgroup.path);
    });

    const each: Record<string, LinuxResources> = {
      'no swap (moby#51446)': { memory: { limit: 32 * MIB, swap: 32 * MIB } },
      'unlimited memory': { memory: { limit: -1 } },
      'a quota alone': { cpu: { quota: 12_345 } },
      'a period alone': { cpu: { period: 50_000 } },
      'the quota lifted': { cpu: { quota: -1 } },
      'a burst': { cpu: { quota: 50_000, burst: 10_000 } },
      'being idle': { cpu: { idle: 1 } },
      'not being idle any more': { cpu: { idle: 0 } },
      'a weight': { cpu: { shares: 2048 } },
      'no more pids': { pids: { limit: 0 } },
      'any number of pids': { pids: { limit: -1 } },
      'cpu.max as text': { unified: { 'cpu.max': '33333 50000' } },
      'cpu.idle as text': { unified: { 'cpu.idle': '1' } },
      'cpu.weight as text': { unified: { 'cpu.weight': '42' } },
      'memory.low as text': { unified: { 'memory.low': '1M' } },
      'pids.max as text': { unified: { 'pids.max': '77' } },
    };
    it('so is each limit set alone, one after the other', async () => {
      const cgroup = await create({ pid: (await processes.start()).pid });
      const has = (file: string): boolean => existsSync(join(ROOT, cgroup.path, file));
      const here = {
        ...each,
        // What user-mode Linux lacks.
        ...(has('cpuset.cpus') && { 'a cpuset': { cpu: { cpus: '0', mems: '0' } } }),
        ...((has('io.weight') || has('io.bfq.weight')) && { 'an io weight': { blockIO: { weight: 300 } } }),
      };
      for (const [what, update] of Object.entries(here)) {
        const before = limits(cgroup.path);
        await cgroup.set(update);
        assert.notDeepEqual(limits(cgroup.path), before, `${what}: nothing was set`);
        await assertSurvivesReload(cgroup.path, what);
      }
    });

    it('a period without a quota, which systemd cannot hold, is not forgotten', async () => {
      const cgroup = await create({ pid: (await processes.start()).pid, resources: { cpu: { period: 50_000 } } });
      assert.equal(readLimit(cgroup.path, 'cpu.max'), 'max 50000');
      await systemctl('daemon-reload');
      await cgroup.set({ cpu: { quota: 20_000 } });
      assert.equal(readLimit(cgroup.path, 'cpu.max'), '20000 50000');
    });

    it('so are zswap limits', async (test) => {
      const cgroup = await create({ pid: (await processes.start()).pid });
      const version = await systemdManager().version();
      if (version < 256) return test.skip(`systemd ${version} has no MemoryZSwapWriteback`);
      await cgroup.set({ unified: { 'memory.zswap.max': '65536', 'memory.zswap.writeback': '0' } });
      await assertSurvivesReload(cgroup.path);
      assert.equal(readLimit(cgroup.path, 'memory.zswap.writeback'), '0');
    });

    it('so are rates per device, of which systemd is not told', async () => {
      const [, major = '', minor = ''] =
        /^\s*(\d+)\s+(\d+)\s+\d+\s+\S+$/m.exec(readFileSync('/proc/partitions', 'utf8')) ?? [];
      const device = { major: Number(major), minor: Number(minor) };
      const cgroup = await create({ pid: (await processes.start()).pid });
      await cgroup.set({ blockIO: { throttleReadBpsDevice: [{ ...device, rate: 1_000_000 }] } });
      assert.equal(readLimit(cgroup.path, 'io.max'), `${major}:${minor} rbps=1000000 wbps=max riops=max wiops=max`);
      await assertSurvivesReload(cgroup.path);
    });

    it('so is the device policy, and nothing needs another reload', async () => {
      const rules = [
        { allow: false, access: 'rwm' },
        { allow: true, type: 'c', major: 1, minor: 3, access: 'rwm' },
        { allow: true, type: 'c', major: 4, access: 'rw' },
      ];
      const cgroup = await create({ resources: { devices: rules } });
      const unit = unitOf(cgroup);
      const probe =
        'read line; cat </dev/null && echo null-read; ( : </dev/kmsg ) 2>/dev/null && echo log-opened || echo log-refused; exec sleep 1000';
      const check = async (): Promise<void> => {
        const { pid, child, output } = await processes.start(probe);
        await cgroup.apply(pid);
        child.stdin?.write('go\n');
        await until('the devices are tried', () => /log-(opened|refused)/.test(output()));
        assert.match(output(), /null-read/);
        assert.match(output(), /log-refused/);
      };
      await check();
      const shown = await show(unit, 'DevicePolicy', 'DeviceAllow', 'NeedDaemonReload');
      assert.deepEqual([shown['DevicePolicy'], shown['NeedDaemonReload']], ['strict', 'no']);
      const allowed = new Set(shown['DeviceAllow']?.split('\n'));
      // The rules, and of what is added for every container: all nodes may be made, and terminals
      // used.
      for (const line of ['/dev/char/1:3 rwm', 'char-4 rw', 'char-136 rwm', 'char-* m', 'block-* m']) {
        assert.ok(allowed.has(line), `${line}: ${[...allowed].join(', ')}`);
      }
      await systemctl('daemon-reload');
      await check();
      assert.equal(await property(unit, 'NeedDaemonReload'), 'no');
    });

    it('groups made inside stay as they are, processes and all', async () => {
      const cgroup = await create();
      const inside = join(ROOT, cgroup.path, 'inside');
      const { pid } = await processes.start();
      await cgroup.apply(pid);
      mkdirSync(inside);
      writeFileSync(join(inside, 'cgroup.procs'), String(pid));
      writeFileSync(join(ROOT, cgroup.path, 'cgroup.subtree_control'), '+pids +memory');
      writeFileSync(join(inside, 'pids.max'), '9');
      await systemctl('daemon-reload');
      await cgroup.set({ memory: { limit: 64 * MIB } });
      assert.equal(readFileSync(join(inside, 'cgroup.procs'), 'utf8').trim(), String(pid));
      assert.equal(readFileSync(join(inside, 'pids.max'), 'utf8').trim(), '9');
    });
  });

  describe('set', () => {
    it('that a file refuses puts properties and files back', async () => {
      const cgroup = await create({
        resources: { memory: { limit: 64 * MIB, swap: 64 * MIB }, cpu: { shares: 512, quota: 50_000 } },
      });
      const unit = unitOf(cgroup);
      const names = [
        'MemoryMax',
        'MemorySwapMax',
        'CPUWeight',
        'CPUQuotaPerSecUSec',
        'TasksMax',
        'DeviceAllow',
        'DevicePolicy',
      ];
      const before = {
        files: limits(cgroup.path),
        properties: await show(unit, ...names),
        resources: cgroup.resources,
      };
      const bad = {
        memory: { limit: 32 * MIB },
        cpu: { idle: 1, quota: 20_000 },
        pids: { limit: 5 },
        unified: { 'memory.nonsense': '1' },
      };
      await assert.rejects(cgroup.set(bad), /memory\.nonsense/);
      assert.deepEqual(limits(cgroup.path), before.files);
      assert.deepEqual(await show(unit, ...names), before.properties);
      assert.deepEqual(cgroup.resources, before.resources);
      await assertSurvivesReload(cgroup.path);
    });

    it('refuses bad values before systemd is told anything', async () => {
      const cgroup = await create({ resources: { pids: { limit: 20 } } });
      const bad: LinuxResources[] = [
        { pids: { limit: 5 }, cpu: { period: 100 } },
        { pids: { limit: 5 }, memory: { swap: MIB } },
        { pids: { limit: 5 }, unified: { 'memory.max': 'lots' } },
      ];
      for (const update of bad) await assert.rejects(cgroup.set(update), refused(Code.InvalidArgument, /resources\./));
      assert.equal(readLimit(cgroup.path, 'pids.max'), '20');
      assert.equal(await property(unitOf(cgroup), 'TasksMax'), '20');
    });

    it('with checkBeforeUpdate refuses a limit below usage, and nobody is killed', async () => {
      const cgroup = await create({ resources: { memory: { limit: 256 * MIB } } });
      // What a process has allocated before counts where it was, so it begins inside.
      const inside = await processes.start(
        'read line; x=$(head -c 8000000 /dev/zero | tr "\\0" x); echo filled; read line',
      );
      await cgroup.apply(inside.pid);
      inside.child.stdin?.write('go\n');
      await until('memory is used', () => inside.output().includes('filled'));
      const check = { limit: 4 * MIB, checkBeforeUpdate: true };
      await assert.rejects(
        cgroup.set({ memory: check }),
        refused(Code.FailedPrecondition, /resources\.memory\.limit.*current usage/),
      );
      assert.equal(readLimit(cgroup.path, 'memory.max'), String(256 * MIB));
      assert.equal(await property(unitOf(cgroup), 'MemoryMax'), String(256 * MIB));
      assert.equal(inside.ended(), false);
    });
  });
});
