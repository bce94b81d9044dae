/**
 * The event stream on the real kernel: memory hogs, freezes, processes that come and go, pressure
 * where the kernel tells it.
 */
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { createDeferred, isErrno } from '../../../src/base/index.js';
import { FileChanges } from '../../../src/cgroups/changes.js';
import { Cgroup, type CgroupEvent, CgroupNotFoundError, type EventsOptions } from '../../../src/cgroups/index.js';
import { systemKernel } from '../../../src/cgroups/kernel.js';
import { kernelLog } from '../../../src/cgroups/kmsg.js';
import { LATE_MS, until, within } from '../../lib/wait.js';
import { type Backend, backends, dirsOf, v1, v2 } from './backends.js';
import { startShell } from './shell.js';

const PATH = `/lamina-events-${process.pid}`;
const MIB = 1 << 20;
const UNIMPLEMENTED = 12;
/** A file whose pages can be reclaimed, as they are on a disk. */
const CACHED = `/var/tmp/lamina-low-${process.pid}`;
/** Without CAP_SYS_RESOURCE the kernel takes multiples of this only. */
const WINDOW_USEC = 2_000_000;
const HOG = 'exec tail /dev/zero';

function countFds(): number {
  return fs.readdirSync('/proc/self/fd').length;
}

/** Everything until the stream ends. */
async function collect(events: AsyncIterable<CgroupEvent>): Promise<CgroupEvent[]> {
  const all: CgroupEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

/** The sum of the rises of a counter. */
function sum(events: readonly CgroupEvent[], type: CgroupEvent['type']): bigint {
  return events.reduce((total, event) => total + (event.type === type && 'count' in event ? event.count : 0n), 0n);
}

async function next(events: AsyncIterator<CgroupEvent>): Promise<CgroupEvent> {
  const { value, done } = await within('the next event', LATE_MS, events.next());
  assert.equal(done, false);
  return value;
}

function create(backend: Backend, unified: Record<string, string> = {}): Promise<Cgroup> {
  return Cgroup.create({
    path: PATH,
    layout: backend.layout,
    ...(backend.title === 'v2' ? { resources: { unified } } : {}),
  });
}

/** False while the kernel still counts its last process. */
function tryRmdir(dir: string): boolean {
  try {
    fs.rmdirSync(dir);
    return true;
  } catch (error) {
    assert.ok(isErrno(error, 'EBUSY'));
    return false;
  }
}

function logIsReadable(): boolean {
  using watch = kernelLog(systemKernel()).watch();
  return watch !== undefined;
}

const noLog = (v1.skip && v2.skip) || (!logIsReadable() && 'the kernel log cannot be read here');

for (const backend of backends) {
  describe(`events on ${backend.title}`, { skip: backend.skip }, () => {
    let cgroup: Cgroup;
    let fds: number;

    beforeEach(async () => {
      cgroup = await create(backend);
      // The poller's own descriptors, and the shell's pipes, are there from its first use.
      for await (const _ of cgroup.events({ signal: AbortSignal.abort() }));
      fds = countFds();
    });

    afterEach(async () => {
      await cgroup.kill();
      await cgroup.destroy();
      assert.deepEqual(dirsOf(backend, PATH), []);
      await until('no descriptor is left', () => countFds() === fds);
    });

    it('end when the group is destroyed', async () => {
      const all = collect(cgroup.events());
      await cgroup.destroy();
      assert.deepEqual(await within('the end', LATE_MS, all), []);
    });

    it('end when somebody else removes the group, before and after they are asked for', async () => {
      const early = cgroup.events();
      const late = collect(cgroup.events());
      for (const dir of dirsOf(backend, PATH)) fs.rmdirSync(dir);
      assert.deepEqual(await within('the end', LATE_MS, late), []);
      assert.equal((await early.next()).done, true);
      assert.throws(() => cgroup.events(), CgroupNotFoundError);
    });

    it('are told of a removal by the kernel, at once', async () => {
      const changes = new FileChanges(systemKernel());
      const { promise, resolve } = createDeferred<void>();
      const [dir = ''] = dirsOf(backend, PATH);
      fs.mkdirSync(`${dir}/other`);
      using _other = changes.watchRemoval(`${dir}/other2`, () => assert.fail('another group was removed'));
      using _watch = changes.watchRemoval(`${dir}/other`, resolve);
      fs.rmdirSync(`${dir}/other`);
      await within('the notification', LATE_MS, promise);
    });

    it('end when they are aborted or the loop is left, and not by themselves', async () => {
      const abort = new AbortController();
      const all = collect(cgroup.events({ signal: abort.signal }));
      const other = cgroup.events();
      const pending = other.next();
      abort.abort();
      assert.deepEqual(await within('the end', LATE_MS, all), []);
      await other.return?.();
      assert.equal((await pending).done, true);
      assert.equal((await other.next()).done, true);
      assert.equal(countFds(), fds);
    });

    it('keep a process alive that waits for them, and only then', async () => {
      const module = new URL('../../../src/cgroups/index.js', import.meta.url).href;
      const code = `import { Cgroup } from ${JSON.stringify(module)};
        const cgroup = Cgroup.load(${JSON.stringify(PATH)}, { layout: Object.assign(${JSON.stringify(backend.layout)},
          ${backend.title === 'v1'} && { controllers: new Map(${JSON.stringify(backend.layout.mode === 'unified' ? [] : [...backend.layout.controllers])}) }) });
        const idle = cgroup.events();
        if (process.argv[1] === 'wait') {
          const events = cgroup.events();
          console.log('waiting');
          for await (const event of events);
          console.log('ended');
        }`;
      const run = (argument: string) =>
        promisify(execFile)(process.execPath, ['--input-type=module', '-e', code, argument], { timeout: LATE_MS });
      assert.equal((await run('leave')).stdout, '');
      const waiting = run('wait');
      waiting.child.stdout?.once('data', () => void cgroup.destroy());
      assert.equal((await waiting).stdout, 'waiting\nended\n');
    });

    describe('of memory', { skip: backend.noMemory }, () => {
      beforeEach(() =>
        cgroup
          .set({ memory: { limit: 8 * MIB, swap: 8 * MIB } })
          .catch(() => cgroup.set({ memory: { limit: 8 * MIB } })),
      );

      it('tell of OOM kills, all of them, also to a slow reader', async () => {
        const events = cgroup.events();
        for (let kill = 0; kill < 3; kill += 1) {
          await using hog = await startShell(HOG);
          await cgroup.apply(hog.pid);
          hog.go();
          assert.equal((await hog.exit).signal, 'SIGKILL');
        }
        const { value: first } = await within('an event', LATE_MS, events.next());
        const rest = collect(events);
        await cgroup.destroy();
        const all = [first as CgroupEvent, ...(await within('the end', LATE_MS, rest))];
        assert.equal(sum(all, 'oom_kill'), 3n);
        const last = all.findLast((event) => event.type === 'oom_kill');
        assert.equal(last !== undefined && 'total' in last && last.total, 3n);
      });

      it('tell of a kill whose group has gone before anybody could look', { skip: noLog }, async () => {
        const all = collect(cgroup.events());
        const dirs = dirsOf(backend, PATH);
        const join = dirs.map((dir) => `echo $$ > ${dir}/cgroup.procs`).join('; ');
        // No notification comes through meanwhile.
        const { status } = spawnSync('sh', ['-c', `${join}; exec 2>/dev/null; tail /dev/zero; exit 3`]);
        assert.equal(status, 3);
        for (const dir of dirs) while (!tryRmdir(dir));
        const events = await within('the end', LATE_MS, all);
        assert.equal(sum(events, 'oom_kill'), 1n);
      });

      it('tell of a kill right before the group goes', async () => {
        await cgroup.destroy();
        for (let round = 0; round < 10; round += 1) {
          await using hog = await startShell(HOG);
          const one = await create(backend);
          await one.set({ memory: { limit: 8 * MIB } });
          await one.apply(hog.pid);
          const all = collect(one.events());
          hog.go();
          await one.destroy();
          assert.equal(sum(await within('the end', LATE_MS, all), 'oom_kill'), 1n, `round ${round}`);
        }
      });
    });
  });
}

describe('events of a v2 group', { skip: v2.skip }, () => {
  let cgroup: Cgroup;

  beforeEach(async () => {
    cgroup = await create(v2);
  });

  afterEach(async () => {
    await cgroup.kill();
    await cgroup.destroy();
  });

  it('tell of its first and its last process, and of the groups below', async () => {
    const events = cgroup.events();
    const below = await Cgroup.create({ path: `${PATH}/below`, layout: v2.layout });
    await using shell = await startShell('exec sleep 60');
    await below.apply(shell.pid);
    assert.deepEqual(await next(events), { type: 'populated', populated: true });
    await below.kill();
    assert.deepEqual(await next(events), { type: 'populated', populated: false });
    await events.return?.();
  });

  it('tell of freezing and thawing, its own and that of a group above', async () => {
    const below = await Cgroup.create({ path: `${PATH}/below`, layout: v2.layout });
    const events = below.events();
    for (const frozen of [true, false, true]) {
      await (frozen ? cgroup.freeze() : cgroup.thaw());
      assert.deepEqual(await next(events), { type: 'frozen', frozen });
    }
    await cgroup.thaw();
    await events.return?.();
  });

  it('do not tell of what was before', async () => {
    await using shell = await startShell('exec sleep 60');
    await cgroup.apply(shell.pid);
    await cgroup.freeze();
    const events = cgroup.events();
    await cgroup.thaw();
    assert.deepEqual(await next(events), { type: 'frozen', frozen: false });
    await events.return?.();
  });

  it('say that a changing state has changed, however often it did', async () => {
    const events = cgroup.events();
    for (let round = 0; round < 5; round += 1) {
      await cgroup.freeze();
      await cgroup.thaw();
    }
    await cgroup.freeze();
    const seen: CgroupEvent[] = [await next(events)];
    while (seen.at(-1)?.type === 'frozen' && !(seen.at(-1) as { frozen: boolean }).frozen)
      seen.push(await next(events));
    assert.deepEqual(seen.at(-1), { type: 'frozen', frozen: true });
    await cgroup.thaw();
    await events.return?.();
  });

  it('are refused with a threshold that makes no sense', () => {
    const pressure = (stallUsec: number, windowUsec: number): EventsOptions => ({
      pressure: [{ resource: 'memory', kind: 'some', stallUsec, windowUsec }],
    });
    for (const [stallUsec, windowUsec] of [
      [0, 1e6],
      [2e6, 1e6],
      [1000, 499_999],
      [1000, 10_000_001],
      [Number.NaN, 1e6],
    ] as const) {
      assert.throws(() => cgroup.events(pressure(stallUsec, windowUsec)), { code: 3 });
    }
  });
});

describe('memory events of a v2 group', { skip: v2.skip || v2.noMemory }, () => {
  it('tell of every limit that was met', async () => {
    const cgroup = await create(v2, { 'memory.high': String(6 * MIB), 'memory.oom.group': '1' });
    const all = collect(cgroup.events());
    // One that is slowed down once; a hog would take ages to get beyond the mark.
    await using mild = await startShell('exec dd if=/dev/zero of=/dev/null bs=6M count=1 2>/dev/null');
    await cgroup.apply(mild.pid);
    mild.go();
    assert.equal((await mild.exit).code, 0);
    await cgroup.set({ unified: { 'memory.high': 'max', 'memory.max': String(8 * MIB) } });
    await using hog = await startShell(HOG);
    await cgroup.apply(hog.pid);
    hog.go();
    await hog.exit;
    const stats = cgroup.stats();
    await cgroup.destroy();
    const events = await within('the end', LATE_MS, all);
    assert.equal(stats.version, 2);
    const counters = stats.version === 2 ? stats.memoryEvents : undefined;
    // Two for one process: the kernel counts its victim again as a member of the group.
    assert.ok((counters?.oomKill ?? 0n) > 0n);
    assert.equal(counters?.oomGroupKill, 1n);
    assert.ok((counters?.high ?? 0n) > 0n);
    assert.deepEqual(
      (['high', 'max', 'oom', 'oom_kill', 'oom_group_kill'] as const).map((type) => sum(events, type)),
      [counters?.high, counters?.max, counters?.oom, counters?.oomKill, counters?.oomGroupKill],
    );
    const populated = events.flatMap((event) => (event.type === 'populated' ? [event.populated] : []));
    // The short while between the two may be over before the kernel tells of it.
    assert.deepEqual(
      populated,
      Array.from(populated, (_, index) => index % 2 === 0),
    );
    assert.equal(populated.at(-1), false);
  });

  it('tell of a protection that could not be kept', async () => {
    const top = await create(v2, { 'memory.max': String(8 * MIB) });
    const child = await Cgroup.create({
      path: `${PATH}/child`,
      layout: v2.layout,
      resources: { memory: { reservation: 64 * MIB } },
    });
    const events = child.events();
    await using reader = await startShell(
      `dd if=/dev/zero of=${CACHED} bs=1M count=24 2>/dev/null; cat ${CACHED} >/dev/null`,
    );
    await child.apply(reader.pid);
    reader.go();
    const seen = new Set<string>();
    while (!seen.has('low')) seen.add((await next(events)).type);
    await events.return?.();
    await reader.exit;
    fs.rmSync(CACHED);
    await top.kill();
    await top.destroy();
  });
});

const noPressure =
  v2.skip || (!fs.existsSync('/proc/pressure/cpu') && 'this kernel has no pressure information (CONFIG_PSI)');

describe('pressure of a v2 group', { skip: v2.skip }, () => {
  afterEach(() => assert.deepEqual(dirsOf(v2, PATH), []));

  it('is told when the threshold is passed, until the group has gone', { skip: noPressure }, async () => {
    const cgroup = await create(v2);
    const threshold = { resource: 'cpu', kind: 'some', stallUsec: 50_000, windowUsec: WINDOW_USEC } as const;
    const events = cgroup.events({ pressure: [threshold] });
    const loops = await Promise.all(Array.from({ length: 8 }, () => startShell('while :; do :; done')));
    for (const loop of loops) {
      await cgroup.apply(loop.pid);
      loop.go();
    }
    const passed: CgroupEvent[] = [];
    while (passed.length < 2) {
      const event = await next(events);
      if (event.type === 'pressure') passed.push(event);
    }
    assert.deepEqual(passed, [
      { type: 'pressure', threshold },
      { type: 'pressure', threshold },
    ]);
    const rest = collect(events);
    await cgroup.kill();
    await cgroup.destroy();
    await within('the end', LATE_MS, rest);
    for (const loop of loops) await loop[Symbol.asyncDispose]();
  });

  it('is refused where the kernel does not tell it', {
    skip: noPressure === false && 'this kernel tells it',
  }, async () => {
    const cgroup = await create(v2);
    const threshold = { resource: 'memory', kind: 'full', stallUsec: 1000, windowUsec: 1_000_000 } as const;
    const fds = countFds();
    assert.throws(() => cgroup.events({ pressure: [threshold] }), { code: UNIMPLEMENTED });
    assert.equal(countFds(), fds);
    await cgroup.destroy();
  });
});

describe('pressure of a v1 group', { skip: v1.skip }, () => {
  it('is not to be had', async () => {
    const cgroup = await create(v1);
    const threshold = { resource: 'memory', kind: 'full', stallUsec: 1000, windowUsec: 1_000_000 } as const;
    assert.throws(() => cgroup.events({ pressure: [threshold] }), { code: UNIMPLEMENTED });
    await cgroup.destroy();
  });
});
