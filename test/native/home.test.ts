/**
 * Which cgroups and which oom_score_adj an engine gets: those of the daemon that called `start`,
 * whichever keeper starts it.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { readMountInfo } from '../../src/sys/index.js';
import { Bed, eventually, isGone } from './harness.js';

const groupsOf = (pid: number | 'self'): string => readFileSync(`/proc/${pid}/cgroup`, 'utf8');
const scoreOf = (pid: number | 'self'): string => readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8');

/** One hierarchy, and the groups that a test made in it. */
class Hierarchy implements Disposable {
  readonly #dir: string;
  readonly #made: string[] = [];

  constructor() {
    // cpuset's groups would have to be given processors first.
    const mounts = readMountInfo().filter(
      ({ type, superOptions }) => type === 'cgroup2' || (type === 'cgroup' && !superOptions.includes('cpuset')),
    );
    const found = mounts.find(({ superOptions }) => superOptions.includes('pids')) ?? mounts[0];
    assert.ok(found !== undefined, 'a cgroup hierarchy');
    this.#dir = found.mountPoint;
  }

  make(name: string): string {
    const dir = join(this.#dir, `lamina-home-${process.pid}-${name}`);
    mkdirSync(dir);
    this.#made.push(dir);
    return dir;
  }

  move(pid: number, dir: string = this.#dir): void {
    writeFileSync(join(dir, 'cgroup.procs'), String(pid));
  }

  remove(dir: string): void {
    rmdirSync(dir);
    this.#made.splice(this.#made.indexOf(dir), 1);
  }

  [Symbol.dispose](): void {
    for (const dir of this.#made) {
      const procs = readFileSync(join(dir, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean);
      for (const pid of procs) this.move(Number(pid));
      rmdirSync(dir);
    }
  }
}

describe('home of the engine', { skip: process.geteuid?.() === 0 ? false : 'needs root to make cgroups' }, () => {
  let bed: Bed;
  beforeEach(() => {
    bed = new Bed();
  });
  afterEach(() => bed.close());

  it('is where `start` was called from, though its keeper has been moved', async () => {
    const { engine, pid } = await bed.keeper();
    assert.equal(groupsOf(engine.pid), groupsOf('self'));
    assert.equal(scoreOf(engine.pid), scoreOf('self'));
    {
      using hierarchy = new Hierarchy();
      hierarchy.move(pid, hierarchy.make('pod'));
      assert.notEqual(groupsOf(pid), groupsOf('self'));
      engine.kill();
      const next = await bed.engine();
      await bed.replayed(next);
      assert.equal(groupsOf(next.pid), groupsOf('self'));
      assert.equal(scoreOf(next.pid), scoreOf('self'));
      assert.equal(Number(scoreOf(pid)), Math.min(1000, Number(scoreOf('self')) + 1));
    }
  });

  it('is the root of a hierarchy in which that group is gone, never the keeper’s', async () => {
    using hierarchy = new Hierarchy();
    const home = hierarchy.make('daemon');
    hierarchy.move(process.pid, home);
    let keeper: Awaited<ReturnType<Bed['keeper']>>;
    try {
      keeper = await bed.keeper();
    } finally {
      hierarchy.move(process.pid);
    }
    const { engine, pid } = keeper;
    assert.match(groupsOf(engine.pid), /lamina-home-\d+-daemon/);
    const pod = hierarchy.make('pod');
    for (const moved of [pid, engine.pid]) hierarchy.move(moved, pod);
    await eventually('the group is empty', () => readFileSync(join(home, 'cgroup.procs'), 'utf8') === '');
    hierarchy.remove(home);
    engine.kill();
    const next = await bed.engine();
    await bed.replayed(next);
    assert.doesNotMatch(groupsOf(next.pid), /lamina-home/);
    next.kill();
    await eventually('it has ended', () => isGone(next.pid));
  });
});
