import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { Code, codeOf, LaminaError } from '../../../src/base/index.js';
import { CgroupNotFoundError } from '../../../src/cgroups/index.js';
import { Cgroup } from '../../../src/cgroups/manager.js';
import type { CreateOptions } from '../../../src/cgroups/options.js';
import { SystemdError } from '../../../src/cgroups/systemd/errors.js';
import { SystemdManager, systemdManager } from '../../../src/cgroups/systemd/manager.js';
import type { LinuxResources } from '../../../src/oci/index.js';
import { mustRun, runCommand } from '../../lib/command.js';
import { requires } from '../../lib/requires.js';
import { until } from '../../lib/wait.js';
import { Leftovers } from './leftovers.js';
import {
  assertSurvivesReload,
  limits,
  Processes,
  property,
  ROOT,
  readLimit,
  show,
  statusCode,
  systemctl,
  units,
} from './systemd-machine.js';

const MIB = 1024 * 1024;
/** Of a scope that is to fail by itself: once it has been made, on a slow machine too. */
const RUNTIME_SEC = '4';
/** For what systemd answers at once unless it hangs. */
const DEADLINE_MS = 3000;
const skip = requires({ root: true, cgroup: 'v2', systemd: true, programs: ['systemctl'] });

function refused(code: Code, text: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof LaminaError, String(error));
    assert.match(error.message, text);
    assert.equal(error.code, code, error.message);
    return true;
  };
}

describe('scopes and slices', { skip }, () => {
  const processes = new Processes();
  const made = new Set<Cgroup>();
  let leftovers: Leftovers;
  let unitsBefore: string[];
  let count = 0;
  let version = 0;

  before(async () => {
    leftovers = new Leftovers();
    unitsBefore = await units();
    version = await systemdManager().version();
  });

  afterEach(async () => {
    for (const cgroup of made) {
      await cgroup.kill();
      await cgroup.destroy();
    }
    made.clear();
    await processes.end();
  });

  after(async () => {
    // The slices above a nested one stay, as systemd makes them by itself.
    const nested = (await units()).filter((unit) => /^lamt.*\.slice$/.test(unit));
    if (nested.length > 0) await systemctl('stop', ...nested);
    await leftovers.check();
    await until('systemd knows no other units than before', async () => {
      const now = await units();
      return now.every((unit) => unitsBefore.includes(unit));
    });
    systemdManager().close();
  });

  /** A new scope, ended with the test. */
  async function create(options: Omit<CreateOptions, 'path'> & { path?: string } = {}): Promise<Cgroup> {
    count += 1;
    const cgroup = await Cgroup.create({ path: `:lamt:${count}`, driver: 'systemd', ...options });
    made.add(cgroup);
    return cgroup;
  }

  function unitOf(cgroup: Cgroup): string {
    return cgroup.path.split('/').at(-1) as string;
  }

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

  it('has stats, freezes and thaws', async () => {
    const { pid } = await processes.start();
    const cgroup = await create({ pid });
    const stats = cgroup.stats();
    assert.equal('pids' in stats && stats.pids?.current, 1n);
    await cgroup.freeze();
    assert.equal(cgroup.frozen(), true);
    await cgroup.set({ memory: { limit: 32 * MIB }, pids: { limit: 10 } });
    assert.equal(cgroup.frozen(), true, 'a paused group stays paused');
    await cgroup.thaw();
    assert.equal(cgroup.frozen(), false);
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
      // The rules, and of what is added for every container: all nodes may be made, and terminals used.
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

  describe('names', () => {
    for (const [name, unit] of [
      ['a b', 'lamt-a\\x20b.scope'],
      ['a/é', 'lamt-a\\x2f\\xc3\\xa9.scope'],
      ['x@y', 'lamt-x\\x40y.scope'],
      ['dots..and_more', 'lamt-dots..and_more.scope'],
      ['n'.repeat(244), `lamt-${'n'.repeat(244)}.scope`],
    ] as const) {
      it(`${name.slice(0, 20)} is known to systemd`, async () => {
        const cgroup = await create({ path: `:lamt:${name}` });
        assert.equal(cgroup.path, `/system.slice/${unit}`);
        assert.equal(await property(unit, 'ActiveState'), 'active');
        await cgroup.set({ pids: { limit: 9 } });
        assert.equal(readLimit(cgroup.path, 'pids.max'), '9');
        await cgroup.destroy();
        assert.equal(await property(unit, 'LoadState'), 'not-found');
      });
    }

    it('that cgroupfs would take for its own get the path that systemd gives them', async () => {
      const cgroup = await create({ path: 'lamtmemory.slice:memory.x:y' });
      assert.equal(cgroup.path, '/lamtmemory.slice/_memory.x-y.scope');
      assert.equal(cgroup.exists(), true);
    });

    it('of nested slices are the path down', async () => {
      const scope = await create({ path: 'lamt-b-c.slice:lamt:nested', resources: { pids: { limit: 7 } } });
      assert.equal(scope.path, '/lamt.slice/lamt-b.slice/lamt-b-c.slice/lamt-nested.scope');
      const slice = await create({
        path: 'lamt-b.slice::lamt-b-d.slice',
        resources: { memory: { limit: 64 * MIB }, cpu: { shares: 512 } },
      });
      assert.equal(slice.path, '/lamt.slice/lamt-b.slice/lamt-b-d.slice');
      assert.equal(await property('lamt-b-d.slice', 'MemoryMax'), String(64 * MIB));
      await slice.set({ memory: { limit: 32 * MIB } });
      await assertSurvivesReload(slice.path);
      assert.equal(readLimit(slice.path, 'memory.max'), String(32 * MIB));
    });
  });

  describe('a unit that is there', () => {
    it('as a scope is refused and left alone', async () => {
      const cgroup = await create({ path: ':lamt:taken', resources: { pids: { limit: 20 } } });
      const { pid } = await processes.start();
      await assert.rejects(
        create({ path: ':lamt:taken', pid, resources: { pids: { limit: 5 } } }),
        refused(Code.AlreadyExists, /lamt-taken\.scope/),
      );
      assert.equal(cgroup.exists(), true);
      assert.equal(readLimit(cgroup.path, 'pids.max'), '20');
      assert.deepEqual(cgroup.pids(), []);
      assert.ok(!readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes('lamt-taken'));
    });

    it('as a slice is taken, and set', async () => {
      await create({ path: '::lamt-shared.slice', resources: { pids: { limit: 20 } } });
      const again = await create({ path: '::lamt-shared.slice', resources: { pids: { limit: 30 } } });
      assert.equal(readLimit(again.path, 'pids.max'), '30');
      assert.equal(await property('lamt-shared.slice', 'TasksMax'), '30');
      // Not all files: systemd takes controllers away from a slice that nobody in it needs.
      await systemctl('daemon-reload');
      assert.equal(readLimit(again.path, 'pids.max'), '30');
      await assert.rejects(
        create({ path: '::lamt-shared.slice', resources: { pids: { limit: 5 }, unified: { 'memory.nonsense': '1' } } }),
        /memory\.nonsense/,
      );
      assert.equal(readLimit(again.path, 'pids.max'), '30', 'a create that fails leaves it as it was');
      assert.equal(await property('lamt-shared.slice', 'TasksMax'), '30');
    });

    it('as a slice that is only a file is started', async () => {
      const file = '/run/systemd/system/lamt-file.slice';
      writeFileSync(file, '[Slice]\nTasksMax=44\n');
      try {
        await systemctl('daemon-reload');
        const slice = await create({ path: '::lamt-file.slice', resources: { memory: { limit: 64 * MIB } } });
        assert.equal(readLimit(slice.path, 'pids.max'), '44');
        assert.equal(readLimit(slice.path, 'memory.max'), String(64 * MIB));
        await systemctl('daemon-reload');
        assert.equal(readLimit(slice.path, 'memory.max'), String(64 * MIB));
        await slice.destroy();
        assert.equal(slice.exists(), false);
      } finally {
        rmSync(file);
        rmSync('/run/systemd/system.control/lamt-file.slice.d', { recursive: true, force: true });
        await systemctl('daemon-reload');
      }
    });

    it('as a failed scope is put away', async () => {
      const cgroup = await create({
        path: ':lamt:failing',
        pid: (await processes.start()).pid,
        systemd: { properties: { RuntimeMaxSec: RUNTIME_SEC } },
      });
      await until('it has failed', async () => (await property('lamt-failing.scope', 'ActiveState')) === 'failed');
      assert.equal(await statusCode('lamt-failing.scope'), 3);
      assert.equal(cgroup.exists(), false);
      const next = await create({ path: ':lamt:failing' });
      assert.equal(await property('lamt-failing.scope', 'ActiveState'), 'active');
      assert.equal(next.exists(), true);
    });

    it('as a failed scope is forgotten by destroy', async () => {
      const cgroup = await create({
        path: ':lamt:over',
        pid: (await processes.start()).pid,
        systemd: { properties: { RuntimeMaxUSec: `uint64 ${RUNTIME_SEC}000000` } },
      });
      await until('it has failed', async () => (await property('lamt-over.scope', 'ActiveState')) === 'failed');
      await cgroup.destroy();
      assert.equal(await statusCode('lamt-over.scope'), 4);
    });
  });

  it('of which somebody stops a live one is gone afterwards, and destroy finds nothing to do', async () => {
    const { pid } = await processes.start();
    const cgroup = await create({ pid });
    cgroup.stats();
    await systemctl('stop', unitOf(cgroup));
    assert.equal(cgroup.exists(), false);
    for (const read of [() => cgroup.stats(), () => cgroup.pids(), () => cgroup.frozen()]) {
      assert.throws(read, (error) => error instanceof CgroupNotFoundError && error.code === Code.NotFound);
    }
    await assert.rejects(cgroup.set({ pids: { limit: 1 } }), refused(Code.NotFound, /./));
    await assert.rejects(cgroup.apply(process.pid), refused(Code.NotFound, /./));
    await cgroup.destroy();
    await cgroup.destroy();
  });

  it('ends with its last process, and destroy finds nothing to do', async () => {
    const last = await processes.start('read line');
    const cgroup = await create({ pid: last.pid });
    last.child.stdin?.write('go\n');
    await until('it is gone', () => !cgroup.exists());
    await cgroup.destroy();
    assert.equal(await statusCode(unitOf(cgroup)), 4);
  });

  describe('destroy', () => {
    it('ends the processes, and removes groups below', async () => {
      const running = await processes.start();
      const cgroup = await create({ pid: running.pid });
      mkdirSync(join(ROOT, cgroup.path, 'one/two'), { recursive: true });
      writeFileSync(join(ROOT, cgroup.path, 'one/two/cgroup.procs'), String(running.pid));
      await cgroup.destroy();
      assert.equal(cgroup.exists(), false);
      await until('the process ends', running.ended);
      assert.equal(await statusCode(unitOf(cgroup)), 4);
    });

    it('names the processes that would not end, and can be called again', async () => {
      const stubborn = await processes.start('trap "" TERM; echo stubborn; while :; do sleep 0.1; done');
      await until('it ignores SIGTERM', () => stubborn.output().includes('stubborn'));
      const cgroup = await create({ pid: stubborn.pid });
      await assert.rejects(
        cgroup.destroy({ timeoutMs: 500 }),
        refused(Code.FailedPrecondition, new RegExp(`processes are left:.*\\b${stubborn.pid}\\b`)),
      );
      await cgroup.kill();
      await cgroup.destroy();
      assert.equal(cgroup.exists(), false);
    });

    it('refuses the group this process is in', async () => {
      const own = Cgroup.load(/^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? '');
      assert.ok(own.exists());
      const slice = Cgroup.load('/system.slice', { driver: 'systemd' });
      await assert.rejects(slice.destroy(), refused(Code.FailedPrecondition, /this process/));
    });
  });

  describe('without a process', () => {
    it('a scope waits for one, and ends with it', async () => {
      const cgroup = await create({ resources: { pids: { limit: 20 } } });
      assert.equal(cgroup.exists(), true);
      assert.deepEqual(cgroup.pids(), []);
      const first = await processes.start();
      await cgroup.apply(first.pid);
      assert.deepEqual(cgroup.pids(), [first.pid]);
      assert.equal(readLimit(cgroup.path, 'cgroup.procs'), String(first.pid), 'nobody else is in it any more');
      const second = await processes.start();
      await cgroup.apply(second.pid);
      assert.deepEqual(new Set(cgroup.pids()), new Set([first.pid, second.pid]));
      await cgroup.apply(0x3f_ffff); // A process that has ended is no error.
      await assert.rejects(cgroup.apply(0), refused(Code.InvalidArgument, /pid 0/));
    });

    it('a scope goes with the process that has made it', async () => {
      const module = new URL('../../../src/cgroups/manager.js', import.meta.url).href;
      const program = `import(${JSON.stringify(module)}).then(async ({ Cgroup }) => {
        const cgroup = await Cgroup.create({ path: ':lamt:orphan', driver: 'systemd' });
        console.log(cgroup.path);
        if (process.argv[1] === 'hang') setInterval(() => undefined, 1000);
      })`;
      // Left alone it ends by itself: neither the connection nor the scope's process keeps it alive.
      const left = await mustRun([process.execPath, '-e', program, 'leave']);
      assert.equal(left.trim(), '/system.slice/lamt-orphan.scope');
      await until('the scope is gone', async () => (await statusCode('lamt-orphan.scope')) === 4);
      const killed = spawn(process.execPath, ['-e', program, 'hang'], { stdio: ['ignore', 'pipe', 'inherit'] });
      await new Promise((resolve) => killed.stdout.once('data', resolve));
      assert.ok(existsSync(join(ROOT, left.trim())));
      killed.kill('SIGKILL');
      await until('the scope is gone', async () => (await statusCode('lamt-orphan.scope')) === 4);
    });
  });

  describe('a create that fails', () => {
    const failures: [string, Partial<CreateOptions>, RegExp][] = [
      [
        'at a file',
        { resources: { memory: { limit: 64 * MIB }, unified: { 'memory.nonsense': '1' } } },
        /memory\.nonsense/,
      ],
      ['at a property', { systemd: { properties: { NoSuchProperty: '5' } } }, /NoSuchProperty/],
      ['at a property of a wrong type', { systemd: { properties: { CPUWeight: "'heavy'" } } }, /lamt-bad\.scope/],
      ['at a value systemd refuses', { systemd: { properties: { KillMode: "'nonsense'" } } }, /lamt-bad\.scope/],
      ['at a slice that cannot be', { path: '-a.slice:lamt:bad' }, /slice/],
      ['at a limit out of range', { resources: { pids: { limit: 1.5 } } }, /resources\.pids\.limit/],
      ['at a device rule', { resources: { devices: [{ allow: true, type: 'x' }] } }, /device|resources/],
    ];
    for (const [where, options, text] of failures) {
      it(`${where} leaves no unit and no group, and the process where it was`, async () => {
        const { pid, ended } = await processes.start();
        const place = readFileSync(`/proc/${pid}/cgroup`, 'utf8');
        await assert.rejects(create({ path: ':lamt:bad', pid, ...options }), text);
        await assert.rejects(create({ path: ':lamt:bad', ...options }), text);
        assert.equal(await statusCode('lamt-bad.scope'), 4);
        assert.ok(!existsSync(`${ROOT}/system.slice/lamt-bad.scope`));
        assert.equal(ended(), false);
        assert.equal(readFileSync(`/proc/${pid}/cgroup`, 'utf8'), place);
      });
    }

    it('for a process that is not there leaves nothing', async () => {
      await assert.rejects(create({ path: ':lamt:bad', pid: 0x3f_ffff }), refused(Code.NotFound, /process/));
      assert.equal(await statusCode('lamt-bad.scope'), 4);
    });
  });

  it('adopted, tells systemd too', async () => {
    const { pid } = await processes.start();
    const scope = await create({ pid, resources: { memory: { limit: 64 * MIB, swap: 96 * MIB } } });
    const found = Cgroup.loadFromPid(pid, { driver: 'systemd', resources: scope.resources });
    assert.deepEqual([found.path, found.driver], [scope.path, 'systemd']);
    await found.set({ memory: { limit: 48 * MIB } });
    assert.equal(readLimit(scope.path, 'memory.swap.max'), String(48 * MIB));
    assert.deepEqual(await show(unitOf(scope), 'MemoryMax', 'MemorySwapMax'), {
      MemoryMax: String(48 * MIB),
      MemorySwapMax: String(48 * MIB),
    });
    await assertSurvivesReload(scope.path);
    assert.throws(
      () => Cgroup.load('/system.slice/dbus.service', { driver: 'systemd' }),
      refused(Code.FailedPrecondition, /not a scope/),
    );
  });

  it('can be told properties of systemd, in either form', async () => {
    const cgroup = await create({
      systemd: {
        description: 'a test',
        properties: {
          TimeoutStopSec: '7',
          CollectMode: "'inactive-or-failed'",
          SendSIGHUP: { signature: 'b', value: true },
        },
      },
    });
    assert.deepEqual(await show(unitOf(cgroup), 'Description', 'TimeoutStopUSec', 'CollectMode', 'SendSIGHUP'), {
      CollectMode: 'inactive-or-failed',
      Description: 'a test',
      SendSIGHUP: 'yes',
      TimeoutStopUSec: '7s',
    });
  });

  it('are made and ended again and again without a trace', async () => {
    const before = await units();
    for (let round = 0; round < 20; round += 1) {
      const cgroup = await Cgroup.create({
        path: `:lamt:round-${round % 3}`,
        driver: 'systemd',
        resources: { pids: { limit: 20 } },
      });
      await cgroup.destroy();
      assert.equal(cgroup.exists(), false);
    }
    await until('no other units than before', async () => (await units()).join() === before.join());
  });

  describe('without dbus-daemon', () => {
    const env = { env: {}, uid: 0 };

    before(async () => void (await systemctl('stop', 'dbus.socket', 'dbus.service')));
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
