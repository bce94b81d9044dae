/** Creating, filling, limiting and removing groups on the real kernel. Every group is made here, and gone at the end of its test. */
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
  type CgroupTreeError,
  type CreateOptions,
  currentLayout,
} from '../../../src/cgroups/index.js';
import { until } from '../../lib/wait.js';
import { backends, dirsOf, readFileOf, removeEmpty, v1, v2 } from './backends.js';
import { type Shell, startShell } from './shell.js';

const TOP = `/lamina-manager-${process.pid}`;
const PATH = `${TOP}/jobs/build-7`;
const INVALID_ARGUMENT = 3;
const PERMISSION_DENIED = 7;
const FAILED_PRECONDITION = 9;
const NOBODY = 65534;
const MIB = 1 << 20;

/** What a refusal must say. */
function situation(name: CgroupTreeError['situation'], ...texts: (string | number)[]) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof LaminaError, String(error));
    assert.equal((error as CgroupTreeError).situation, name, error.message);
    for (const text of texts) assert.ok(error.message.includes(String(text)), error.message);
    return true;
  };
}

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

describe('the tree on v2', { skip: v2.skip || v2.noMemory }, () => {
  const { layout } = v2;
  const [root = ''] = v2.roots;
  const dir = `${root}${TOP}`;
  const memory = { resources: { memory: { limit: 64 * MIB } } };

  afterEach(() => {
    removeEmpty(v2, TOP);
  });

  it('names the group whose processes forbid it to enable a controller', async () => {
    await using shell = await startShell('exec sleep 60');
    const top = await Cgroup.create({ path: TOP, layout, pid: shell.pid });
    const refused = Cgroup.create({ path: `${TOP}/below`, layout, ...memory });
    await assert.rejects(refused, situation('internal-processes', 'memory.limit', dir, shell.pid));
    assert.equal(fs.existsSync(`${dir}/below`), false);
    assert.equal(fs.readFileSync(`${dir}/cgroup.type`, 'utf8'), 'domain\n', 'it is no threaded domain now');
    // Without limits it does not matter.
    const free = await Cgroup.create({ path: `${TOP}/below`, layout });
    await free.destroy();
    await top.kill();
    await top.destroy();
  });

  it('names what keeps a process out of a group with controllers for groups below', async () => {
    await using shell = await startShell('exec sleep 60');
    const top = await Cgroup.create({ path: TOP, layout });
    const below = await Cgroup.create({ path: `${TOP}/below`, layout, ...memory });
    await assert.rejects(top.apply(shell.pid), situation('internal-processes', shell.pid, dir, 'memory'));
    await assert.rejects(Cgroup.create({ path: TOP, layout, pid: shell.pid }), situation('internal-processes'));
    assert.equal(below.exists(), true, 'what was there before stays');
    await below.apply(shell.pid);
    await top.kill();
    await top.destroy();
    assert.equal(below.exists(), false);
  });

  it('names a group that a threaded one above makes invalid', async () => {
    await using shell = await startShell('exec sleep 60');
    const top = await Cgroup.create({ path: TOP, layout });
    fs.mkdirSync(`${dir}/threaded`);
    fs.writeFileSync(`${dir}/threaded/cgroup.type`, 'threaded');
    // Beside a threaded group, as their domain has become a threaded one.
    fs.mkdirSync(`${dir}/invalid`);
    assert.equal(fs.readFileSync(`${dir}/invalid/cgroup.type`, 'utf8'), 'domain invalid\n');
    const invalid = Cgroup.load(`${TOP}/invalid`, { layout });
    await assert.rejects(invalid.apply(shell.pid), situation('domain-invalid', shell.pid, `${dir}/invalid`));
    const refused = Cgroup.create({ path: `${TOP}/more`, layout, ...memory });
    await assert.rejects(refused, situation('domain-invalid', `${dir}/more`, 'memory'));
    assert.equal(fs.existsSync(`${dir}/more`), false);
    await assert.rejects(
      Cgroup.create({ path: `${TOP}/threaded/more`, layout, ...memory }),
      situation('threaded', `${dir}/threaded`, 'memory'),
    );
    // A whole process may join a threaded group.
    const threaded = Cgroup.load(`${TOP}/threaded`, { layout });
    await threaded.apply(shell.pid);
    assert.deepEqual(threaded.pids(), [shell.pid]);
    // What needs no domain can be threaded too.
    const pids = await Cgroup.create({ path: `${TOP}/more`, layout, resources: { pids: { limit: 5 } } });
    assert.equal(fs.readFileSync(`${dir}/more/cgroup.type`, 'utf8'), 'threaded\n');
    await pids.destroy();
    await top.kill();
    await top.destroy();
  });

  it('says that a limit of the tree is reached', async () => {
    const top = await Cgroup.create({ path: TOP, layout });
    fs.writeFileSync(`${dir}/cgroup.max.descendants`, '1');
    await assert.rejects(Cgroup.create({ path: `${TOP}/a/b`, layout }), situation('limit', `${dir}/a/b`));
    assert.deepEqual(
      fs.readdirSync(dir, { withFileTypes: true }).filter((entry) => entry.isDirectory()),
      [],
      'the first of the two is removed again',
    );
    await top.destroy();
  });

  it('says which controller is missing', async () => {
    await assert.rejects(
      Cgroup.create({ path: PATH, layout, resources: { unified: { 'nosuch.max': '1' } } }),
      situation('no-controller', 'nosuch', 'unified["nosuch.max"]', `${root}/cgroup.controllers`),
    );
    assert.equal(fs.existsSync(dir), false);
  });

  it('says which controller was not handed down', async () => {
    const top = await Cgroup.create({ path: TOP, layout });
    // As a delegated tree looks from the inside.
    fs.mkdirSync(`${dir}/delegated`);
    const unified = { mountPoint: `${dir}/delegated`, root: `${TOP}/delegated` };
    const refused = Cgroup.create({
      path: '/below',
      layout: { mode: 'unified', unified },
      resources: { pids: { limit: 1 } },
    });
    await assert.rejects(refused, situation('no-controller', 'pids.limit', `${dir}/delegated/cgroup.controllers`));
    assert.equal(fs.existsSync(`${dir}/delegated/below`), false);
    await top.destroy();
  });

  it('says to another user what to ask for', async () => {
    const script = createAs(PATH);
    await using shell = await startShell(`exec ${process.execPath} --input-type=module -e '${script}'`, {
      uid: NOBODY,
    });
    shell.go();
    await shell.printed('\n');
    assert.match(shell.output, new RegExp(`^${PERMISSION_DENIED} permission .*may not be written.*Delegate=yes`));
    assert.equal(fs.existsSync(dir), false);
  });

  it('is another user’s when it was delegated, but for its limits', async () => {
    const top = await Cgroup.create({
      path: TOP,
      layout,
      delegate: { uid: NOBODY, gid: NOBODY },
      resources: { pids: { limit: 100 } },
    });
    const owner = (file: string): number => fs.statSync(`${dir}/${file}`).uid;
    assert.deepEqual(
      ['.', 'cgroup.procs', 'cgroup.subtree_control', 'cgroup.threads', 'pids.max', 'cgroup.kill'].map(owner),
      [NOBODY, NOBODY, NOBODY, NOBODY, 0, 0],
    );
    const script = createAs(`${TOP}/below`, 'pid: process.pid, resources: { pids: { limit: 50 } },');
    // The user's process begins in the delegated tree: containment forbids to move one in from outside.
    await using shell = await startShell(`exec ${process.execPath} --input-type=module -e '${script}'`, {
      uid: NOBODY,
    });
    const start = await Cgroup.create({ path: `${TOP}/start`, layout, delegate: { uid: NOBODY, gid: NOBODY } });
    await start.apply(shell.pid);
    shell.go();
    await shell.printed('\n');
    assert.match(shell.output, /^created/);
    assert.equal(fs.readFileSync(`${dir}/below/pids.max`, 'utf8'), '50\n');
    assert.equal(owner('below'), NOBODY);
    const below = Cgroup.load(`${TOP}/below`, { layout });
    await until('the process in its group', () => below.pids().includes(shell.pid));
    await top.kill();
    await top.destroy();
  });

  it('keeps a process outside its part of the tree out of a delegated one', async () => {
    const top = await Cgroup.create({ path: TOP, layout, delegate: { uid: NOBODY, gid: NOBODY } });
    const script = createAs(`${TOP}/below`, 'pid: process.pid,');
    await using shell = await startShell(`exec ${process.execPath} --input-type=module -e '${script}'`, {
      uid: NOBODY,
    });
    shell.go();
    await shell.printed('\n');
    assert.match(
      shell.output,
      new RegExp(`^${PERMISSION_DENIED} permission move process ${shell.pid} into cgroup ${dir}/below`),
    );
    assert.equal(fs.existsSync(`${dir}/below`), false);
    await top.destroy();
  });
});

/** A program for another user: creates a group, prints how that went, and waits. */
function createAs(path: string, more = ''): string {
  const module = new URL('../../../src/cgroups/index.js', import.meta.url).href;
  return `import { Cgroup } from "${module}";
    const options = { path: "${path}", layout: ${JSON.stringify(v2.layout)}, ${more} };
    await Cgroup.create(options).then(
      () => console.log("created"),
      (error) => console.log(error.code, error.situation, error.message),
    );
    process.stdin.resume();`.replaceAll('\n', ' ');
}

describe('a hierarchy that is mounted otherwise', { skip: v2.skip }, () => {
  const module = new URL('../../../src/cgroups/index.js', import.meta.url).href;

  /** Runs a program with mounts of its own, on a second mount of the hierarchy at `/mnt`; it may use `at(path)`. */
  async function inside(mounts: string, code: string): Promise<string> {
    const program = `import { Cgroup } from "${module}";
      const layout = { mode: "unified", unified: { mountPoint: "/mnt", root: "/" } };
      const told = (error) => console.log(error.code, error.situation, error.message);
      ${code}`;
    await using shell = await startShell(
      `unshare -m sh -c 'mount --bind "$0" /mnt && ${mounts} && exec "$1" --input-type=module -e "$2"' ` +
        `"$ROOT" "$NODE" "$PROGRAM"`,
      { env: { ROOT: v2.roots[0] ?? '', NODE: process.execPath, PROGRAM: program } },
    );
    shell.go();
    assert.equal((await shell.exit).code, 0);
    return shell.output;
  }

  afterEach(() => removeEmpty(v2, TOP));

  it('is not written when that is read-only', async () => {
    const group = await Cgroup.create({ path: TOP, layout: v2.layout });
    const output = await inside(
      'mount -o remount,bind,ro /mnt',
      `await Cgroup.create({ path: "${TOP}/a", layout }).catch(told);
       const group = Cgroup.load("${TOP}", { layout });
       await group.destroy().catch(told);
       await group.apply(process.pid).catch(told);`,
    );
    assert.match(output, /^9 read-only create .*\n9 read-only remove .*\n9 read-only move .*\n$/);
    await group.destroy();
  });

  it('is not left for something else that is mounted over a group', async () => {
    const group = await Cgroup.create({ path: TOP, layout: v2.layout });
    const output = await inside(
      `mount -t tmpfs none /mnt${TOP}`,
      `await Cgroup.create({ path: "${TOP}/a", layout }).catch(told);`,
    );
    assert.match(output, /^3 undefined cgroup .*: something else is mounted there\n$/);
    await group.destroy();
  });
});

describe('the hierarchies of v1', { skip: v1.skip }, () => {
  const { layout } = v1;
  const cpuset = '/sys/fs/cgroup/cpuset';
  const noCpuset = !fs.existsSync(`${cpuset}/cpuset.cpus`) && 'no v1 cpuset';

  afterEach(() => removeEmpty(v1, TOP));

  it('pass CPUs and memory nodes down to a new group', { skip: noCpuset }, async () => {
    const cgroup = await Cgroup.create({ path: PATH, layout });
    for (const file of ['cpuset.cpus', 'cpuset.mems']) {
      const all = fs.readFileSync(`${cpuset}/${file}`, 'utf8');
      for (const path of [TOP, PATH]) assert.equal(fs.readFileSync(`${cpuset}${path}/${file}`, 'utf8'), all);
    }
    await cgroup.destroy();
  });

  it('have a process where it was when one of them refuses it', { skip: noCpuset }, async () => {
    await using shell = await startShell('exec sleep 60');
    const cgroup = await Cgroup.create({ path: PATH, layout });
    const before = fs.readFileSync(`/proc/${shell.pid}/cgroup`, 'utf8');
    fs.writeFileSync(`${cpuset}${PATH}/cpuset.cpus`, '\n');
    await assert.rejects(cgroup.apply(shell.pid), situation('no-controller', shell.pid, 'cpuset.cpus'));
    assert.equal(fs.readFileSync(`/proc/${shell.pid}/cgroup`, 'utf8'), before);
    await cgroup.destroy();
  });

  it('cannot be delegated', async () => {
    const refused = Cgroup.create({ path: PATH, layout, delegate: { uid: NOBODY, gid: NOBODY } });
    await assert.rejects(refused, { code: 12 });
    assert.deepEqual(dirsOf(v1, TOP), []);
  });
});
