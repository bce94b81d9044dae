import assert from 'node:assert/strict';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { FileChanges } from '../../../src/cgroups/changes.js';
import { Cgroup, CgroupFileError, CgroupNotFoundError } from '../../../src/cgroups/index.js';
import { countFds, FakeHierarchy, FakeKernel } from './fake.js';

let fake: FakeHierarchy;
let kernel: FakeKernel;
let fds: number;

beforeEach(() => {
  fds = countFds();
  fake = new FakeHierarchy();
  kernel = new FakeKernel();
});

afterEach(() => {
  fake[Symbol.dispose]();
  assert.equal(kernel.open.size, 0, 'everything that was watched is released');
  assert.equal(countFds(), fds, 'no descriptor is left');
});

describe('pids', () => {
  it('walks the whole tree and names each process once', () => {
    fake.write({
      'web/cgroup.procs': '1001\n1002\n0\n',
      'web/a/cgroup.procs': '1003\n1001\n',
      'web/a/b/cgroup.procs': '1004\n',
    });
    const cgroup = Cgroup.load('/web', { layout: fake.unified });
    assert.deepEqual(new Set(cgroup.pids()), new Set([1001, 1002, 1003, 1004]));
    assert.equal(cgroup.pids().length, 4);
  });
});

describe('freeze and thaw on v2', () => {
  const events = (frozen: number): void => fake.write({ 'web/cgroup.events': `populated 1\nfrozen ${frozen}\n` });

  beforeEach(() => {
    fake.write({ 'web/cgroup.freeze': 0 });
    events(0);
  });

  it('waits for the notification', async () => {
    const cgroup = Cgroup.load('/web', { layout: fake.unified, kernel });
    const done = cgroup.freeze();
    assert.equal(fake.read('web/cgroup.freeze')[0], '1');
    events(1);
    kernel.notify([join(fake.root, 'web/cgroup.events')]);
    await done;
    assert.equal(cgroup.frozen(), true);
  });

  it('undoes the freeze at the deadline', async () => {
    const cgroup = Cgroup.load('/web', { layout: fake.unified, kernel });
    await assert.rejects(cgroup.freeze(0), { name: 'LaminaError', code: 4 });
    assert.equal(fake.read('web/cgroup.freeze')[0], '0');
  });

  it('leaves a group frozen that was to be frozen before', async () => {
    fake.write({ 'web/cgroup.freeze': 1 });
    await assert.rejects(Cgroup.load('/web', { layout: fake.unified, kernel }).freeze(0), { code: 4 });
    assert.equal(fake.read('web/cgroup.freeze')[0], '1');
  });

  it('says NotFound if the group goes while it waits', async () => {
    const done = Cgroup.load('/web', { layout: fake.unified, kernel }).freeze();
    fake.remove('web');
    await assert.rejects(done, CgroupNotFoundError);
  });

  it('does not wait for a thaw that an ancestor holds up', async () => {
    events(1);
    fake.write({ 'cgroup.events': 'populated 1\nfrozen 1\n' });
    await Cgroup.load('/web', { layout: fake.unified, kernel }).thaw(60_000);
    assert.equal(fake.read('web/cgroup.freeze')[0], '0');
  });

  it('fails to thaw what stays frozen for no reason of its ancestors', async () => {
    events(1);
    await assert.rejects(Cgroup.load('/web', { layout: fake.unified, kernel }).thaw(0), { code: 4 });
  });

  it('says Unimplemented without a freezer', async () => {
    fake.remove('web/cgroup.freeze');
    await assert.rejects(Cgroup.load('/web', { layout: fake.unified, kernel }).freeze(), { code: 12 });
  });
});

describe('kill on v2', () => {
  it('leaves it to cgroup.kill', async () => {
    fake.write({ 'web/cgroup.kill': '' });
    await Cgroup.load('/web', { layout: fake.unified, kernel }).kill();
    assert.equal(fake.read('web/cgroup.kill'), '1');
  });

  it('finds nothing to do when the group has gone', async () => {
    fake.write({ 'web/cgroup.procs': '' });
    const cgroup = Cgroup.load('/web', { layout: fake.unified, kernel });
    fake.remove('web');
    await cgroup.kill();
    assert.equal(cgroup.exists(), false);
  });
});

describe('kill on v1', () => {
  it('ends at once where nobody is', async () => {
    fake.write({ 'pids/web/cgroup.procs': '' });
    await Cgroup.load('/web', { layout: fake.legacy('pids'), kernel }).kill();
  });

  it('names those that are left at the deadline', async () => {
    const nobody = 2 ** 22 + 7; // Above the largest pid there can be.
    fake.write({ 'pids/web/cgroup.procs': nobody });
    await assert.rejects(Cgroup.load('/web', { layout: fake.legacy('pids'), kernel }).kill(0), {
      code: 4,
      message: `kill /web: processes are left: ${nobody}`,
    });
  });
});

describe('watchOom on v2', () => {
  const file = (): string => join(fake.root, 'web/memory.events');
  const kills = (count: number): void => fake.write({ 'web/memory.events': `oom 0\noom_kill ${count}\n` });

  it('reports rises when notified, and what is pending when drained', () => {
    kills(4);
    const seen: bigint[] = [];
    const cgroup = Cgroup.load('/web', { layout: fake.unified, kernel });
    using watch = cgroup.watchOom((rise) => seen.push(rise));
    kernel.notify([file()]);
    kills(5);
    kernel.notify([file()]);
    kernel.notify([file()]);
    assert.deepEqual(seen, [1n]);
    kills(7);
    watch.drain();
    kernel.notify([file()]);
    assert.deepEqual(seen, [1n, 2n]);
    assert.equal(cgroup.oomKills(), 7n);
  });

  it('reports nothing after it was disposed', () => {
    kills(0);
    const seen: bigint[] = [];
    const watch = Cgroup.load('/web', { layout: fake.unified, kernel }).watchOom((rise) => seen.push(rise));
    watch[Symbol.dispose]();
    kills(1);
    watch.drain();
    assert.deepEqual(seen, []);
  });

  it('says NotFound without the memory controller, where no kill is counted', () => {
    fake.write({ 'web/cgroup.procs': '' });
    const cgroup = Cgroup.load('/web', { layout: fake.unified, kernel });
    assert.throws(() => cgroup.watchOom(() => undefined), { name: 'CgroupFileError', code: 5 });
    assert.equal(cgroup.oomKills(), 0n);
  });
});

describe('watchOom on v1', () => {
  const kills = (count: number): void =>
    fake.write({ 'memory/web/memory.oom_control': `under_oom 0\noom_kill ${count}\n` });

  beforeEach(() => {
    kills(1);
    fake.write({ 'memory/web/cgroup.event_control': '' });
  });

  it('registers an eventfd and reads on until the counter has risen', async () => {
    const cgroup = Cgroup.load('/web', { layout: fake.legacy('memory'), kernel });
    let watch: Disposable | undefined;
    const rise = new Promise<bigint>((resolve) => {
      watch = cgroup.watchOom(resolve);
    });
    assert.match(fake.read('memory/web/cgroup.event_control'), /^\d+ \d+$/);
    kernel.fire(); // Memory has run out; the victim is counted a moment later.
    setImmediate(() => kills(3));
    // The watch's own timers keep nothing alive.
    const alive = setInterval(() => undefined, 1000);
    assert.equal(await rise, 2n);
    clearInterval(alive);
    watch?.[Symbol.dispose]();
  });

  describe('where the killer is off', () => {
    const control = (dir: string, disabled: 0 | 1, underOom: 0 | 1): void =>
      fake.write({
        [`memory/${dir}/memory.oom_control`]: `oom_kill_disable ${disabled}\nunder_oom ${underOom}\noom_kill 1\n`,
      });
    const load = (path = '/web'): Cgroup => Cgroup.load(path, { layout: fake.legacy('memory'), kernel });

    it('reports that processes stand still, once for as long as they do', () => {
      control('web', 1, 0);
      const seen: bigint[] = [];
      using watch = load().watchOom((kills) => seen.push(kills));
      control('web', 1, 1);
      kernel.fire();
      kernel.fire();
      assert.deepEqual([seen, watch.isShort], [[0n], true]);
      control('web', 1, 0);
      kernel.fire();
      assert.equal(watch.isShort, false);
      control('web', 1, 1);
      kernel.fire();
      assert.deepEqual(seen, [0n, 0n]);
      assert.equal(watch.counted, 1n, 'nobody was killed');
    });

    it('reports a shortage of a group above whose killer is off', () => {
      control('pod', 1, 0);
      control('pod/web', 0, 0);
      fake.write({ 'memory/pod/web/cgroup.event_control': '' });
      const seen: bigint[] = [];
      using watch = load('/pod/web').watchOom((kills) => seen.push(kills));
      // Of one beside it that has a killer, no group here stands still.
      control('pod/web', 0, 1);
      kernel.fire();
      assert.deepEqual([seen, watch.isShort], [[], false]);
      control('pod', 1, 1);
      kernel.fire();
      assert.deepEqual([seen, watch.isShort], [[0n], true]);
    });

    it('goes on with a shortage that an earlier watch has reported', () => {
      control('web', 1, 1);
      const seen: bigint[] = [];
      const report = (kills: bigint): number => seen.push(kills);
      load().watchOom(report, 1n, true)[Symbol.dispose]();
      assert.deepEqual(seen, []);
      // Begun before there was an eventfd to tell.
      load().watchOom(report, 1n, false)[Symbol.dispose]();
      assert.deepEqual(seen, [0n]);
    });

    it('reports one that has ended with init before anybody looked', () => {
      control('web', 1, 0);
      const seen: bigint[] = [];
      using watch = load().watchOom((kills) => seen.push(kills));
      watch.drain({ pid: 7, wasKilled: true, wasKillAsked: true });
      assert.deepEqual(seen, [0n]);
    });

    it('is an event of the stream', async () => {
      control('web', 1, 0);
      const events = load().events();
      control('web', 1, 1);
      kernel.fire();
      assert.deepEqual(await events.next(), { done: false, value: { type: 'oom', count: 1n, total: 1n } });
      await events.return?.();
    });
  });

  it('reports kills in groups below, which v1 counts nowhere else', () => {
    fake.write({ 'memory/web/a/b/memory.oom_control': 'under_oom 0\noom_kill 4\n' });
    const seen: bigint[] = [];
    using watch = Cgroup.load('/web', { layout: fake.legacy('memory'), kernel }).watchOom((rise) => seen.push(rise));
    fake.write({ 'memory/web/a/b/memory.oom_control': 'under_oom 0\noom_kill 6\n' });
    kernel.fire();
    kernel.fire();
    assert.deepEqual([seen, watch.counted], [[2n], 1n]);
  });
});

describe('enableControllersAlongPath', () => {
  it('enables what is missing in each ancestor and leaves the group itself alone', () => {
    fake.write({
      'cgroup.controllers': 'cpu io memory pids\n',
      'cgroup.subtree_control': 'cpu io memory pids\n',
      'pod/cgroup.subtree_control': 'memory\n',
      'pod/web/cgroup.subtree_control': '',
    });
    Cgroup.load('/pod/web', { layout: fake.unified }).enableControllersAlongPath();
    assert.equal(fake.read('cgroup.subtree_control'), 'cpu io memory pids\n');
    assert.equal(fake.read('pod/cgroup.subtree_control').startsWith('+cpu +io +pids'), true);
    assert.equal(fake.read('pod/web/cgroup.subtree_control'), '');
  });

  it('passes over refusals further up, but not that of the parent', () => {
    fake.write({ 'cgroup.controllers': 'cpu\n', 'pod/cgroup.subtree_control': '', 'pod/web/cgroup.procs': '' });
    const cgroup = Cgroup.load('/pod/web', { layout: fake.unified });
    cgroup.enableControllersAlongPath();
    assert.equal(fake.read('pod/cgroup.subtree_control'), '+cpu');
    fake.remove('pod/cgroup.subtree_control');
    assert.throws(() => cgroup.enableControllersAlongPath(), CgroupFileError);
  });
});

describe('FileChanges', () => {
  it('shares one inotify instance, and one watch for the same file', () => {
    fake.write({ a: '', b: '' });
    const [a, b] = [join(fake.root, 'a'), join(fake.root, 'b')];
    const seen: string[] = [];
    const changes = new FileChanges(kernel);
    const first = changes.watch(a, () => seen.push('first'));
    const second = changes.watch(a, () => seen.push('second'));
    const third = changes.watch(b, () => seen.push('third'));
    assert.deepEqual([kernel.open.size, kernel.watched.size], [1, 2]);
    kernel.notify([a, a, b]);
    assert.deepEqual(seen.splice(0), ['first', 'second', 'third']);
    first[Symbol.dispose]();
    first[Symbol.dispose]();
    kernel.notify([a]);
    assert.deepEqual(seen.splice(0), ['second']);
    const overflow = 0x4000;
    kernel.notify(['?'], overflow);
    assert.deepEqual(seen.splice(0), ['second', 'third']);
    second[Symbol.dispose]();
    third[Symbol.dispose]();
    assert.deepEqual([kernel.open.size, kernel.watched.size], [0, 0]);
  });

  it('calls nobody who was disposed by an earlier listener of the same batch', () => {
    fake.write({ a: '' });
    const a = join(fake.root, 'a');
    const seen: string[] = [];
    const changes = new FileChanges(kernel);
    const first = changes.watch(a, () => {
      seen.push('first');
      second[Symbol.dispose]();
    });
    const second = changes.watch(a, () => seen.push('second'));
    kernel.notify([a]);
    assert.deepEqual(seen, ['first']);
    first[Symbol.dispose]();
  });
});
