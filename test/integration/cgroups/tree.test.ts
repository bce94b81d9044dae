/**
 * What the tree that a group is made in allows and forbids: who is in it, what was delegated, how
 * it is mounted.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import { afterEach, describe, it } from 'node:test';
import { Cgroup } from '../../../src/cgroups/index.js';
import { until } from '../../lib/wait.js';
import { dirsOf, removeEmpty, v1, v2 } from './backends.js';
import { situation } from './refusal.js';
import { startShell } from './shell.js';

const TOP = `/lamina-tree-${process.pid}`;
const PATH = `${TOP}/jobs/build-7`;
const PERMISSION_DENIED = 7;
const NOBODY = 65534;
const MIB = 1 << 20;

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
    // The user's process begins in the delegated tree: containment forbids to move one in from
    // outside.
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

  /**
   * Runs a program with mounts of its own, on a second mount of the hierarchy at `/mnt`; it may use
   * `at(path)`.
   */
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
