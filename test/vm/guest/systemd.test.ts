/** Scopes and slices from their making to their end. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { CgroupNotFoundError } from '../../../src/cgroups/index.js';
import { Cgroup } from '../../../src/cgroups/manager.js';
import type { CreateOptions } from '../../../src/cgroups/options.js';
import { mustRun } from '../../lib/command.js';
import { requires } from '../../lib/requires.js';
import { until } from '../../lib/wait.js';
import {
  assertSurvivesReload,
  property,
  ROOT,
  readLimit,
  show,
  statusCode,
  systemctl,
  units,
} from './systemd-machine.js';
import { refused, unitOf, useUnits } from './systemd-suite.js';

const MIB = 1024 * 1024;
/** Of a scope that is to fail by itself: once it has been made, on a slow machine too. */
const RUNTIME_SEC = '4';
const skip = requires({ root: true, cgroup: 'v2', systemd: true, programs: ['systemctl'] });

describe('scopes and slices', { skip }, () => {
  const { processes, create } = useUnits();

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
      // Left alone it ends by itself: neither the connection nor the scope's process keeps it
      // alive.
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
});
