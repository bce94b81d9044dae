/**
 * Real cgroups, all made here and removed again: v1 where controllers are mounted that way, v2
 * wherever it is mounted.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import { after, afterEach, beforeEach, describe, it } from 'node:test';
import { createDeferred } from '../../../src/base/index.js';
import {
  Cgroup,
  type CgroupLayout,
  CgroupNotFoundError,
  currentLayout,
  type LoadOptions,
  type V1Stats,
  type V2Stats,
} from '../../../src/cgroups/index.js';
import { hostProgram } from '../../lib/image.js';
import { requires } from '../../lib/requires.js';
import { LATE_MS, until, within } from '../../lib/wait.js';
import { TestGroup } from './group.js';

const NAME = `lamina-test-${process.pid}`;
const CONTROLLERS = ['cpu', 'cpuacct', 'memory', 'pids', 'freezer', 'blkio', 'devices'];
const OOM_LIMIT_BYTES = 8 << 20;
const SIGTERM = 15;
const SIGUSR1 = 10;

const missing = requires({ root: true });

interface Backend {
  readonly title: string;
  readonly skip: string | false;
  readonly options: LoadOptions;
  /** Where a group of that name is, in every hierarchy. */
  dirs(name: string): string[];
  readonly limitFile: string;
  /** Why OOM cannot be tried. */
  readonly noOom: string | false;
}

function v1Backend(layout: CgroupLayout): Backend {
  const mounts = layout.mode === 'unified' ? new Map() : layout.controllers;
  const points = new Set(CONTROLLERS.flatMap((name) => mounts.get(name)?.mountPoint ?? []));
  return {
    title: 'a cgroup on v1',
    skip: points.size === 0 && 'no v1 controllers are mounted',
    options: { layout },
    dirs: (name) => [...points].map((point) => `${point}/${name}`),
    limitFile: 'memory.limit_in_bytes',
    noOom: !mounts.has('memory') && 'no v1 memory controller',
  };
}

function v2Backend(layout: CgroupLayout): Backend {
  const mount = layout.mode === 'legacy' ? undefined : layout.unified;
  const root = mount?.mountPoint ?? '/nonexistent';
  const controllers = mount === undefined ? '' : fs.readFileSync(`${root}/cgroup.controllers`, 'utf8');
  return {
    title: 'a cgroup on v2',
    skip: mount === undefined && 'no v2 hierarchy is mounted',
    options: mount === undefined ? {} : { layout: { mode: 'unified', unified: mount } },
    dirs: (name) => [`${root}/${name}`],
    limitFile: 'memory.max',
    noOom: !controllers.includes('memory') && 'v2 has no memory controller here',
  };
}

function countFds(): number {
  return fs.readdirSync('/proc/self/fd').length;
}

const layout: CgroupLayout = missing === false ? currentLayout() : { mode: 'legacy', controllers: new Map() };

for (const backend of [v1Backend(layout), v2Backend(layout)]) {
  describe(backend.title, { skip: missing === false ? backend.skip : missing }, () => {
    let group: TestGroup;
    let cgroup: Cgroup;

    beforeEach(() => {
      group = new TestGroup(backend.dirs(NAME));
      cgroup = Cgroup.load(`/${NAME}`, backend.options);
    });

    afterEach(async () => {
      cgroup.close();
      await group.remove();
    });

    after(() => {
      for (const dir of backend.dirs(NAME)) assert.equal(fs.existsSync(dir), false, dir);
    });

    it('is found through a process in it', async () => {
      const { pid } = await group.run('sleep 60');
      const found = Cgroup.loadFromPid(pid, backend.options);
      assert.equal(found.path, `/${NAME}`);
      assert.ok(found.pids().includes(pid));
      assert.equal(found.exists(), true);
    });

    it('lists the processes of the groups below too', async () => {
      const { pid, printed } = await group.run('sleep 60 & sleep 60 & echo ready; wait');
      await printed('ready');
      await until('three processes', () => cgroup.pids().length === 3);
      for (const dir of group.dirs) {
        fs.mkdirSync(`${dir}/below`);
        fs.writeFileSync(`${dir}/below/cgroup.procs`, String(pid));
      }
      assert.equal(new Set(cgroup.pids()).size, 3);
      assert.equal(cgroup.pids().length, 3);
    });

    it('freezes until nothing moves, and thaws', async () => {
      const { exit } = await group.run('while :; do :; done');
      assert.equal(cgroup.frozen(), false);
      await cgroup.freeze();
      assert.equal(cgroup.frozen(), true);
      const [pid = 0] = cgroup.pids();
      // A loop that does nothing is always runnable, unless it is stopped.
      const state = (): string | undefined =>
        /^State:\s*(\w)/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
      assert.notEqual(state(), 'R');
      await cgroup.thaw();
      assert.equal(cgroup.frozen(), false);
      await until('it runs again', () => state() === 'R');
      process.kill(pid, 'SIGTERM');
      assert.equal((await exit).signal, 'SIGTERM');
    });

    it('freezes programs that are being replaced by others', async () => {
      await group.run(`exec ${hostProgram('probe')} replace 8`);
      for (let n = 0; n < 20; n += 1) {
        await cgroup.freeze();
        assert.equal(cgroup.frozen(), true);
        await cgroup.thaw();
      }
    });

    it('freezes and thaws an empty group', async () => {
      await cgroup.freeze();
      assert.equal(cgroup.frozen(), true);
      await cgroup.thaw();
      assert.equal(cgroup.frozen(), false);
    });

    it('kills everything, while it forks', async () => {
      const { exit, printed } = await group.run(
        'i=0; while [ $i -lt 300 ]; do sleep 60 & i=$((i+1)); [ $i -eq 20 ] && echo busy; done; wait',
      );
      await printed('busy');
      await cgroup.kill();
      assert.equal((await exit).signal, 'SIGKILL');
      await until('an empty group', () => cgroup.pids().length === 0);
    });

    it('kills what is paused', async () => {
      const { exit } = await group.run('sleep 60');
      await cgroup.freeze();
      await cgroup.kill();
      assert.equal((await exit).signal, 'SIGKILL');
    });

    it('kills the groups below', async () => {
      const { pid, exit } = await group.run('sleep 60');
      for (const dir of group.dirs) {
        fs.mkdirSync(`${dir}/below`);
        fs.writeFileSync(`${dir}/below/cgroup.procs`, String(pid));
      }
      await cgroup.kill();
      assert.equal((await exit).signal, 'SIGKILL');
    });

    it('sends a signal once to each', async () => {
      const script = "trap 'echo got; exit 7' USR1; sleep 60 & echo ready; wait";
      const shells = [await group.run(script), await group.run(script)];
      for (const shell of shells) await shell.printed('ready');
      await until('two shells and their children', () => cgroup.pids().length === 4);
      assert.equal(await cgroup.signalAll(SIGUSR1), 4);
      for (const shell of shells) assert.deepEqual(await shell.exit, { code: 7, signal: null });
    });

    it('leaves a paused group paused when it signals', async () => {
      // Caught: on v2 a signal that ends a process does so while it is frozen.
      const { exit, printed } = await group.run("trap 'exit 7' TERM; echo ready; read line");
      await printed('ready');
      await cgroup.freeze();
      assert.equal(await cgroup.signalAll(SIGTERM), 1);
      assert.equal(cgroup.frozen(), true);
      await cgroup.thaw();
      assert.deepEqual(await exit, { code: 7, signal: null });
    });

    it('does not act on a group that its own process is in', async () => {
      const module = new URL('../../../src/cgroups/index.js', import.meta.url).href;
      const code = `import { Cgroup } from ${JSON.stringify(module)};
        import { currentLayout } from ${JSON.stringify(module)};
        const layout = currentLayout();
        const unified = ${backend.title.endsWith('v2')} ? { mode: 'unified', unified: layout.unified } : layout;
        const cgroup = Cgroup.load(${JSON.stringify(`/${NAME}`)}, { layout: unified });
        for (const act of [() => cgroup.kill(), () => cgroup.freeze(), () => cgroup.signalAll(15)]) {
          await act().then(() => console.log('done'), (error) => console.log('code', error.code));
        }`;
      const script = fs.mkdtempSync('/tmp/lamina-cgroups-');
      try {
        fs.writeFileSync(`${script}/own.mjs`, code);
        const run = `${process.execPath} ${script}/own.mjs > ${script}/out`;
        const { exit } = await group.run(run);
        assert.deepEqual(await exit, { code: 0, signal: null });
        assert.equal(fs.readFileSync(`${script}/out`, 'utf8'), 'code 9\n'.repeat(3));
      } finally {
        fs.rmSync(script, { recursive: true });
      }
    });

    it('counts what the container uses, and keeps its files open in between', async () => {
      const { exit } = await group.run('i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done');
      assert.equal((await exit).code, 0);
      const usage = (): bigint => {
        const stats = cgroup.stats();
        return stats.version === 1 ? stats.cpu.usage.total : stats.cpu.usageUsec;
      };
      assert.ok(usage() > 0n);
      const open = countFds();
      assert.ok(usage() > 0n);
      assert.equal(countFds(), open);
    });

    it('says NotFound after it was removed, on descriptors that were open before too', async () => {
      const before = countFds();
      cgroup.stats();
      await group.remove();
      assert.equal(cgroup.exists(), false);
      assert.throws(() => cgroup.stats(), CgroupNotFoundError);
      assert.throws(() => cgroup.stats(), CgroupNotFoundError);
      assert.throws(() => cgroup.pids(), CgroupNotFoundError);
      assert.throws(() => cgroup.frozen(), CgroupNotFoundError);
      await assert.rejects(cgroup.freeze(), CgroupNotFoundError);
      await cgroup.kill();
      assert.throws(() => Cgroup.load(`/${NAME}`, backend.options), CgroupNotFoundError);
      cgroup.close();
      assert.equal(countFds(), before);
    });

    describe('out of memory', { skip: backend.noOom }, () => {
      beforeEach(() => {
        cgroup.enableControllersAlongPath();
        group.write(backend.limitFile, String(OOM_LIMIT_BYTES));
      });

      it('reports a kill by notification', async () => {
        const before = countFds();
        const { promise, resolve } = createDeferred<bigint>();
        const watch = cgroup.watchOom(resolve);
        const { exit } = await group.run('exec tail /dev/zero');
        assert.equal((await exit).signal, 'SIGKILL');
        assert.equal(await within('the report of an OOM kill', LATE_MS, promise), 1n);
        assert.equal(cgroup.oomKills(), 1n);
        watch[Symbol.dispose]();
        // The pipes to the child, and the poller's own two if this was its first use.
        assert.ok(countFds() <= before + 4);
      });

      it('reports it before drain returns, and once', async () => {
        const seen: bigint[] = [];
        using watch = cgroup.watchOom((rise) => seen.push(rise));
        const { exit } = await group.run('exec tail /dev/zero');
        await exit;
        watch.drain();
        assert.deepEqual(seen, [1n]);
        watch.drain();
        await group.remove();
        watch.drain();
        assert.deepEqual(seen, [1n]);
      });

      it('counts memory and the kill in the statistics', async () => {
        const { exit } = await group.run('exec tail /dev/zero');
        await exit;
        const stats = cgroup.stats() as V1Stats | V2Stats;
        const { limit, max, oomKill } =
          stats.version === 1
            ? {
                limit: stats.memory?.usage.limit,
                max: stats.memory?.usage.max,
                oomKill: stats.memoryOomControl?.oomKill,
              }
            : { limit: stats.memory.usageLimit, max: stats.memory.maxUsage, oomKill: stats.memoryEvents?.oomKill };
        assert.deepEqual([limit, max, oomKill], [BigInt(OOM_LIMIT_BYTES), BigInt(OOM_LIMIT_BYTES), 1n]);
      });
    });
  });
}

describe('a container with different paths per v1 controller', {
  skip: missing === false ? v1Backend(layout).skip : missing,
}, () => {
  it('is read where each controller has it', async () => {
    const mounts = layout.mode === 'unified' ? new Map() : layout.controllers;
    const dirs = [`${mounts.get('pids')?.mountPoint}/${NAME}-p`, `${mounts.get('freezer')?.mountPoint}/${NAME}-f`];
    const group = new TestGroup(dirs);
    try {
      const { pid, exit } = await group.run('exec sleep 60');
      using cgroup = Cgroup.loadFromPid(pid);
      assert.equal(cgroup.path, `/${NAME}-f`);
      const stats = cgroup.stats() as V1Stats;
      assert.equal(stats.pids?.current, 1n);
      assert.equal(stats.blkio, undefined);
      await cgroup.kill();
      assert.equal((await exit).signal, 'SIGKILL');
    } finally {
      await group.remove();
    }
  });
});

describe('a threaded group on v2', { skip: missing === false ? v2Backend(layout).skip : missing }, () => {
  it('lists the processes of its threads, and kills them without cgroup.kill, which it does not support', async () => {
    const { dirs, options } = v2Backend(layout);
    const group = new TestGroup(dirs(NAME));
    try {
      const [domain = ''] = group.dirs;
      fs.mkdirSync(`${domain}/threaded`);
      fs.writeFileSync(`${domain}/threaded/cgroup.type`, 'threaded');
      const { pid, exit } = await group.run('sleep 60');
      fs.writeFileSync(`${domain}/threaded/cgroup.procs`, String(pid));
      const threaded = Cgroup.load(`/${NAME}/threaded`, options);
      assert.ok(threaded.pids().includes(pid));
      const all = Cgroup.load(`/${NAME}`, options).pids();
      assert.equal(new Set(all).size, all.length);
      await threaded.kill();
      assert.equal((await exit).signal, 'SIGKILL');
    } finally {
      await group.remove();
    }
  });
});
