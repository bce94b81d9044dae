/**
 * Creating, filling, limiting and removing groups on the real kernel. Every group is made here, and
 * gone at the end of its test.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import { posix } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { LaminaError } from '../../../src/base/index.js';
import {
  Cgroup,
  CgroupFileError,
  type CgroupLayout,
  CgroupNotFoundError,
  type CreateOptions,
  currentLayout,
} from '../../../src/cgroups/index.js';
import { backends, dirsOf, readFileOf, removeEmpty, v1, v2 } from './backends.js';
import { situation } from './refusal.js';
import { type Shell, startShell } from './shell.js';

const TOP = `/lamina-manager-${process.pid}`;
const PATH = `${TOP}/jobs/build-7`;
const INVALID_ARGUMENT = 3;
const FAILED_PRECONDITION = 9;
const MIB = 1 << 20;

for (const backend of backends) {
  const { layout } = backend;
  const create = (options: Partial<CreateOptions> = {}): Promise<Cgroup> =>
    Cgroup.create({ path: PATH, layout, ...options });

  describe(`a group created on ${backend.title}`, { skip: backend.skip }, () => {
    let shell: Shell;

    beforeEach(async () => {
      shell = await startShell('echo ready; while read line; do echo $line; done');
    });

    afterEach(async () => {
      await shell[Symbol.asyncDispose]();
      const left = dirsOf(backend, PATH);
      removeEmpty(backend, TOP);
      assert.deepEqual(left, [], 'the group is gone at the end');
    });

    it('is there in every hierarchy, takes processes, and is removed, again and again', async () => {
      const cgroup = await create();
      assert.equal(cgroup.path, PATH);
      assert.equal(cgroup.driver, 'fs');
      assert.equal(cgroup.exists(), true);
      assert.equal(dirsOf(backend, PATH).length, backend.roots.length);
      await cgroup.apply(shell.pid);
      assert.deepEqual(cgroup.pids(), [shell.pid]);
      for (const dir of dirsOf(backend, PATH)) {
        assert.equal(fs.readFileSync(`${dir}/cgroup.procs`, 'utf8'), `${shell.pid}\n`);
      }
      await cgroup.kill();
      await cgroup.destroy();
      assert.equal(cgroup.exists(), false);
      assert.deepEqual(dirsOf(backend, PATH), []);
      await cgroup.destroy();
    });

    it('has its process from the beginning', async () => {
      const cgroup = await create({ pid: shell.pid });
      assert.deepEqual(Cgroup.loadFromPid(shell.pid, { layout }).path, PATH);
      await cgroup.kill();
      await cgroup.destroy();
    });

    it('does not mind a process that has ended, and refuses what is none', async () => {
      await shell[Symbol.asyncDispose]();
      const cgroup = await create({ pid: shell.pid });
      await cgroup.apply(shell.pid);
      for (const pid of [0, -1, 1.5, Number.NaN]) await assert.rejects(cgroup.apply(pid), { code: INVALID_ARGUMENT });
      await cgroup.destroy();
      await assert.rejects(cgroup.apply(process.pid), CgroupNotFoundError);
      await assert.rejects(cgroup.set({}), CgroupNotFoundError);
    });

    it('is refused where somebody is already, without a trace', async () => {
      const first = await create({ pid: shell.pid });
      await assert.rejects(create(), situation('not-empty', PATH, shell.pid));
      assert.deepEqual(first.pids(), [shell.pid]);
      await first.kill();
      await first.destroy();
    });

    it('is refused where it is there already and frozen', async () => {
      const first = await create();
      await first.freeze();
      await assert.rejects(create(), situation('frozen', PATH));
      await first.thaw();
      const again = await create();
      await again.destroy();
    });

    it('is refused for a path that leads out, or nowhere', async () => {
      for (const path of ['/', '', '.', '/a/../b', '..', '../x', '/a\nb', '/a\0b']) {
        await assert.rejects(create({ path }), { code: INVALID_ARGUMENT }, JSON.stringify(path));
      }
    });

    it('is removed with the groups below it', async () => {
      const cgroup = await create();
      for (const below of ['a', 'a/b', 'c']) for (const dir of dirsOf(backend, PATH)) fs.mkdirSync(`${dir}/${below}`);
      await cgroup.destroy();
      assert.equal(cgroup.exists(), false);
    });

    it('waits for its last process when it is removed', async () => {
      const cgroup = await create({ pid: shell.pid });
      shell.go();
      await shell.printed('ready');
      let isGone = false;
      const gone = cgroup.destroy().then(() => {
        isGone = true;
      });
      await assert.rejects(cgroup.destroy({ timeoutMs: 30 }), (error: LaminaError) => {
        assert.equal(error.code, FAILED_PRECONDITION);
        assert.ok(error.message.includes(String(shell.pid)), error.message);
        return true;
      });
      assert.equal(isGone, false);
      process.kill(shell.pid, 'SIGKILL');
      await gone;
      assert.equal(cgroup.exists(), false);
    });

    it('is removed when the last process of a group below has gone', async () => {
      const cgroup = await create();
      const below = await create({ path: `${PATH}/below`, pid: shell.pid });
      const gone = cgroup.destroy();
      await below.kill();
      await gone;
      assert.equal(cgroup.exists(), false);
    });

    it('is not removed by a process in it', async () => {
      const root = Cgroup.load('/', { layout: rootLayout(layout) });
      await assert.rejects(root.destroy({ timeoutMs: 0 }), { code: FAILED_PRECONDITION });
    });

    it('is made anew as often as it is removed', async () => {
      for (let round = 0; round < 20; round += 1) {
        const one = await startShell('exec sleep 60');
        const cgroup = await create({ pid: one.pid });
        await cgroup.kill();
        await cgroup.destroy();
        await one[Symbol.asyncDispose]();
      }
    });

    it('leaves nothing when its limits are bad or cannot be set', async () => {
      await assert.rejects(create({ resources: { memory: { limit: 100, swap: 50 } } }), { code: INVALID_ARGUMENT });
      assert.deepEqual(dirsOf(backend, TOP), []);
      const unified = { 'nosuch.file': '1' };
      const failing =
        backend.title === 'v2' ? { unified } : { network: { classID: 1 }, rdma: { nosuch: { hcaHandles: 1 } } };
      await assert.rejects(create({ resources: failing }), (error: unknown) => error instanceof LaminaError);
      assert.deepEqual(dirsOf(backend, TOP), []);
    });

    it('leaves nothing when its first process cannot be moved', async () => {
      // A kernel thread: EINVAL on v2 and in most v1 hierarchies.
      await assert.rejects(create({ pid: 2 }), (error: unknown) => error instanceof CgroupFileError);
      assert.deepEqual(dirsOf(backend, TOP), []);
    });

    describe('its limits', { skip: backend.noMemory }, () => {
      it('are set at create, laid over each other later, and remembered', async () => {
        const cgroup = await create({ resources: { memory: { limit: 64 * MIB }, pids: { limit: 32 } } });
        const read = (file: string): string => readFileOf(backend, PATH, file);
        assert.equal(read(backend.memoryLimit), String(64 * MIB));
        assert.equal(read('pids.max'), '32');
        await cgroup.set({ pids: { limit: 16 } });
        assert.equal(read('pids.max'), '16');
        assert.equal(read(backend.memoryLimit), String(64 * MIB));
        assert.deepEqual(cgroup.resources.pids, { limit: 16 });
        assert.equal(cgroup.resources.memory?.limit, 64 * MIB);
        const adopted = Cgroup.load(PATH, { layout, resources: cgroup.resources });
        await adopted.set({ memory: { limit: 128 * MIB } });
        assert.equal(read(backend.memoryLimit), String(128 * MIB));
        assert.deepEqual(adopted.resources.pids, { limit: 16 });
        await cgroup.destroy();
      });

      it('keep what was in force when the kernel refuses one', async () => {
        const cgroup = await create({ resources: { pids: { limit: 32 } } });
        const before = cgroup.resources;
        const bad = { pids: { limit: 7 }, cpu: { cpus: '4000' } };
        await assert.rejects(cgroup.set(bad), (error: unknown) => error instanceof LaminaError);
        assert.equal(readFileOf(backend, PATH, 'pids.max'), '32');
        assert.deepEqual(cgroup.resources, before);
        await cgroup.destroy();
      });

      it('hold', async () => {
        const cgroup = await create({ resources: { pids: { limit: 1 } } });
        for (const [limit, code] of [
          [1, 2],
          [2, 0],
        ] as const) {
          await cgroup.set({ pids: { limit } });
          await using forker = await startShell('exec 2>/dev/null; (true)');
          await cgroup.apply(forker.pid);
          forker.go();
          assert.equal((await forker.exit).code, code, `with a limit of ${limit}`);
        }
        await cgroup.destroy();
      });
    });
  });
}

/** A layout in which no group is the root of its mount, so that "/" can be loaded on v1 too. */
function rootLayout(layout: CgroupLayout): CgroupLayout {
  if (layout.mode === 'unified') return layout;
  const controllers = [...layout.controllers].map(([name, mount]) => [name, { ...mount, root: '/..' }] as const);
  return { mode: 'legacy', controllers: new Map(controllers) };
}

describe('a relative path', () => {
  it('begins beside this process’s own group on v2', { skip: v2.skip }, async () => {
    const own = /^0::(.*)$/m.exec(fs.readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? '/';
    const cgroup = await Cgroup.create({ path: TOP.slice(1), layout: v2.layout });
    assert.equal(cgroup.path, posix.join(posix.dirname(own), TOP));
    await cgroup.destroy();
  });

  it('begins below it on v1, in each hierarchy its own', { skip: v1.skip }, async () => {
    const cgroup = await Cgroup.create({ path: TOP.slice(1), layout: v1.layout });
    const own = /^\d+:memory:(.*)$/m.exec(fs.readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? '/';
    const memory = currentLayout().mode === 'unified' ? '' : '/sys/fs/cgroup/memory';
    assert.ok(fs.existsSync(posix.join(memory, own, TOP)));
    await cgroup.destroy();
    assert.equal(fs.existsSync(posix.join(memory, own, TOP)), false);
  });
});
