import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { fsPath } from '../../../src/base/index.js';
import { Cgroup } from '../../../src/cgroups/index.js';
import { inTurns } from '../../../src/cgroups/turns.js';
import { groupsBelow } from '../../../src/cgroups/walk.js';
import { countFds, FakeHierarchy } from './fake.js';

/** 200 bytes in UTF-8. */
const LONG_NAME = 'ü'.repeat(100);
/** Of such names; a path may have 4096 bytes. */
const LEVELS = 300;

/** Makes groups one in the other. @returns a descriptor of the last */
function nest(top: string, levels: number, name: string): number {
  let fd = fs.openSync(top, 'r');
  for (let level = 0; level < levels; level += 1) {
    const below = `/proc/self/fd/${fd}/${name}`;
    fs.mkdirSync(below);
    const next = fs.openSync(below, 'r');
    fs.closeSync(fd);
    fd = next;
  }
  return fd;
}

describe('a walk through the groups below one', () => {
  let fake: FakeHierarchy;

  beforeEach(() => {
    fake = new FakeHierarchy();
  });

  afterEach(() => {
    // Node's own removal needs paths.
    execFileSync('rm', ['-rf', '--', `${fake.root}/top`]);
    fake[Symbol.dispose]();
  });

  const relative = (order: 'down' | 'up'): string[] =>
    [...groupsBelow(`${fake.root}/top`, order)].map((path) => path.slice(fake.root.length + 1));

  it('visits each once, those above first or last', () => {
    fake.write({ 'top/a/1/x': '', 'top/a/2/x': '', 'top/b/x': '', 'top/x': '', 'other/x': '' });
    const down = relative('down');
    const up = relative('up');
    assert.deepEqual([...down].sort(), ['top', 'top/a', 'top/a/1', 'top/a/2', 'top/b']);
    assert.deepEqual([...up].sort(), [...down].sort());
    assert.deepEqual([down[0], up.at(-1)], ['top', 'top']);
    assert.ok(down.indexOf('top/a') < down.indexOf('top/a/1'));
    assert.ok(up.indexOf('top/a') > up.indexOf('top/a/2'));
  });

  it('visits nothing where there is no group', () => {
    assert.deepEqual(relative('down'), []);
    assert.deepEqual(relative('up'), []);
  });

  it('visits groups whose names are not UTF-8', () => {
    const name = Buffer.from([0x61, 0xff, 0xfe]);
    fs.mkdirSync(Buffer.concat([Buffer.from(`${fake.root}/top/`), name, Buffer.from('/ünï')]), { recursive: true });
    assert.deepEqual(relative('down'), ['top', 'top/a\udcff\udcfe', 'top/a\udcff\udcfe/ünï']);
  });

  it('passes over a group that is removed meanwhile, and finds one that is made again', () => {
    fake.write({ 'top/a/1/x': '', 'top/b/1/x': '' });
    const visited: string[] = [];
    for (const path of groupsBelow(`${fake.root}/top`, 'down')) {
      visited.push(path.slice(fake.root.length));
      if (visited.length > 1) continue;
      fake.remove('top/a');
      fake.remove('top/b');
      fake.write({ 'top/b/2/x': '' });
    }
    assert.deepEqual(visited, ['/top', '/top/b', '/top/b/2']);
  });

  it('goes deeper than a path can be long, with few descriptors, and finds the way back', () => {
    fake.write({ 'top/x': '' });
    fs.closeSync(nest(`${fake.root}/top`, LEVELS, LONG_NAME));
    // Beside the deep ones, so that the way back matters.
    fake.write({ [`top/${LONG_NAME}/beside/x`]: '', 'top/last/x': '' });
    const before = countFds();
    let most = 0;
    for (const order of ['down', 'up'] as const) {
      const inodes = new Set<number>();
      for (const path of groupsBelow(`${fake.root}/top`, order)) {
        inodes.add(fs.statSync(fsPath(path)).ino);
        most = Math.max(most, countFds() - before);
      }
      assert.equal(inodes.size, 1 + LEVELS + 2);
    }
    assert.ok(most <= 2, `${most} descriptors`);
    assert.equal(countFds(), before);
  });

  it('leaves no descriptor open when it is given up', () => {
    fake.write({ 'top/x': '' });
    fs.closeSync(nest(`${fake.root}/top`, LEVELS, LONG_NAME));
    const before = countFds();
    let visited = 0;
    for (const _ of groupsBelow(`${fake.root}/top`, 'down')) if (++visited === LEVELS) break;
    assert.equal(countFds(), before);
  });

  it('lists every process of a tree that is deeper than a path can be long', async () => {
    fake.write({ 'top/x': '' });
    const deepest = nest(`${fake.root}/top`, LEVELS, LONG_NAME);
    fs.writeFileSync(`/proc/self/fd/${deepest}/cgroup.procs`, '77\n');
    fs.closeSync(deepest);
    fake.write({ 'top/cgroup.procs': '5\n' });
    const cgroup = Cgroup.load('/top', { layout: fake.unified });
    assert.deepEqual(cgroup.pids(), [5, 77]);
    assert.deepEqual(await cgroup.listPids(), [5, 77]);
  });
});

describe('work in turns', () => {
  it('lets others have a turn while it goes on, and returns what the steps return', async () => {
    let turns = 0;
    const turnsAtStep: number[] = [];
    function* steps(): Generator<void, string> {
      for (let step = 0; step < 5; step += 1) {
        turnsAtStep.push(turns);
        yield;
      }
      return 'done';
    }
    const others = (): void => {
      turns += 1;
      if (turns < 5) setImmediate(others);
    };
    setImmediate(others);
    assert.equal(await inTurns(steps(), 0), 'done');
    assert.deepEqual(turnsAtStep, [0, 1, 2, 3, 4]);
  });
});
