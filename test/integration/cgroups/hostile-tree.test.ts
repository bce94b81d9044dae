/**
 * Groups as a container that may make some of its own can make them: names of any bytes, any depth,
 * any number, frozen.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { fsPath, pathFromBytes } from '../../../src/base/index.js';
import { Cgroup, type CgroupLayout } from '../../../src/cgroups/index.js';
import { nestGroups, spreadGroups } from '../../lib/deep-groups.js';
import { until } from '../../lib/wait.js';
import { type Backend, v1, v2 } from './backends.js';
import { type Shell, startShell } from './shell.js';

const NAME = `lamina-hostile-${process.pid}`;
/** Together longer than a path may be. */
const DEPTH = 1000;
const DEEP_NAME = 'nesting';
const WIDTH = 5000;
const ODD_NAMES: Readonly<Record<string, Buffer>> = {
  'letters beyond ASCII': Buffer.from('ünï 盒 🐳'),
  'bytes that are no UTF-8': Buffer.from([0x61, 0xff, 0xc3, 0x28, 0x80]),
  'what ends a line for others': Buffer.from('a\r\u2028\u0085b'),
  'the marks of escapes and of a removed group': Buffer.from('a\\040\\x2d:b (deleted)'),
};

/**
 * v1 with the hierarchies these tests need, and no others, as each level is made in all of them.
 */
const few: CgroupLayout =
  v1.layout.mode === 'unified'
    ? v1.layout
    : {
        mode: 'legacy',
        controllers: new Map([...v1.layout.controllers].filter(([name]) => name === 'freezer' || name === 'pids')),
      };

interface Tried extends Pick<Backend, 'title' | 'skip' | 'layout'> {
  /** The hierarchy that lists the processes. */
  readonly root: string;
  readonly freezeFile: string;
  readonly frozen: string;
}

const tried: Tried[] = [
  {
    title: 'v1',
    skip: v1.skip,
    layout: few,
    root: few.mode === 'unified' ? '' : (few.controllers.get('freezer')?.mountPoint ?? ''),
    freezeFile: 'freezer.state',
    frozen: 'FROZEN',
  },
  { title: 'v2', skip: v2.skip, layout: v2.layout, root: v2.roots[0] ?? '', freezeFile: 'cgroup.freeze', frozen: '1' },
];

for (const { title, skip, layout, root, freezeFile, frozen } of tried) {
  describe(`a group that its processes have made hard to handle, on ${title}`, { skip }, () => {
    const top = `${root}/${NAME}`;
    let cgroup: Cgroup;
    let shell: Shell;

    beforeEach(async () => {
      cgroup = await Cgroup.create({ path: `/${NAME}`, layout });
      shell = await startShell('exec sleep 1000');
    });

    afterEach(async () => {
      await cgroup.kill();
      await shell[Symbol.asyncDispose]();
      await cgroup.destroy({ timeoutMs: 60_000 });
      assert.equal(fs.existsSync(top), false);
    });

    /** Does something, and counts the turns that others have meanwhile. */
    async function countTurns(work: () => Promise<unknown>): Promise<number> {
      let isDone = false;
      let turns = 0;
      const next = (): void => {
        turns += 1;
        if (!isDone) setImmediate(next);
      };
      setImmediate(next);
      await work();
      isDone = true;
      return turns;
    }

    for (const [what, bytes] of Object.entries(ODD_NAMES)) {
      it(`is found, watched, listed, frozen, killed and removed by a path with ${what}`, async () => {
        const path = `/${NAME}/${pathFromBytes(bytes)}`;
        const below = await Cgroup.create({ path, layout, pid: shell.pid });
        const dir = Buffer.concat([Buffer.from(`${top}/`), bytes]);
        assert.ok(fs.existsSync(dir), 'these very bytes');
        using found = Cgroup.loadFromPid(shell.pid, { layout });
        assert.equal(found.path, path);
        using again = Cgroup.loadFromMembership(fs.readFileSync(`/proc/${shell.pid}/cgroup`), { layout });
        assert.equal(again.path, path);
        assert.deepEqual([found.pids(), cgroup.pids(), await cgroup.listPids()], Array(3).fill([shell.pid]));
        const hasPids = title === 'v1' || fs.existsSync(fsPath(`${top}/pids.max`));
        assert.equal(found.stats().pids?.current, hasPids ? 1n : 0n);
        await found.freeze();
        assert.equal(found.frozen(), true);
        await found.thaw();
        if (hasPids) await found.set({ pids: { limit: 17 } });
        const events = found.events();
        const ended = (async () => {
          for await (const _ of events) {
            // Until its end.
          }
        })();
        await found.kill();
        await below.destroy();
        await ended;
        assert.equal(fs.existsSync(dir), false);
      });
    }

    it('lists, signals and removes what is nested deeper than a path can be long, and others have their turns', async () => {
      nestGroups(top, DEPTH, DEEP_NAME, shell.pid);
      assert.deepEqual(cgroup.pids(), [shell.pid]);
      assert.ok((await countTurns(() => cgroup.listPids())) > 3);
      assert.equal(await cgroup.signalAll(15), 1);
      assert.equal((await shell.exit).signal, 'SIGTERM');
      assert.ok((await countTurns(() => cgroup.destroy({ timeoutMs: 60_000 }))) > 3);
    });

    it('removes any number of groups beside each other, and others have their turns', async () => {
      spreadGroups(top, WIDTH);
      assert.ok((await countTurns(() => cgroup.destroy({ timeoutMs: 60_000 }))) > 3);
    });

    it('loses the groups below that are empty when it is pruned, and no others', async () => {
      nestGroups(top, 2, 'busy', shell.pid);
      fs.mkdirSync(`${top}/busy/empty/more`, { recursive: true });
      nestGroups(`${top}/busy/empty`, DEPTH, DEEP_NAME);
      assert.equal(await cgroup.prune(60_000), true);
      const left = fs.readdirSync(top, { withFileTypes: true, recursive: true }).filter((entry) => entry.isDirectory());
      assert.deepEqual(
        left.map(({ name }) => name),
        ['busy', 'busy'],
      );
      fs.mkdirSync(`${top}/more`);
      assert.equal(await cgroup.prune(-1), false);
    });

    it('lists a process in a group whose name is no text', async () => {
      const dir = fsPath(`${top}/\udcfe/\udcff`);
      fs.mkdirSync(dir, { recursive: true });
      fs.writeFileSync(fsPath(`${top}/\udcfe/\udcff/cgroup.procs`), String(shell.pid));
      assert.deepEqual(cgroup.pids(), [shell.pid]);
      assert.equal(await cgroup.signalAll(15), 1);
      await shell.exit;
    });

    it('kills what has frozen itself in a group below', async () => {
      nestGroups(top, 3, 'n', shell.pid);
      fs.writeFileSync(`${top}/n/n/${freezeFile}`, frozen);
      const deepest = Cgroup.load(`/${NAME}/n/n/n`, { layout });
      await until('it is frozen', () => deepest.frozen());
      await cgroup.kill(5_000);
      assert.equal((await shell.exit).signal, 'SIGKILL');
    });

    it('thaws with a group those below, and with its own freeze only itself', async () => {
      nestGroups(top, 2, 'n', shell.pid);
      fs.writeFileSync(`${top}/n/n/${freezeFile}`, frozen);
      const deepest = Cgroup.load(`/${NAME}/n/n`, { layout });
      await cgroup.freeze();
      await cgroup.thaw();
      assert.equal(deepest.frozen(), true, 'as its own processes have asked for');
      await cgroup.thawAll();
      await until('it goes on', () => !deepest.frozen());
    });
  });
}
