import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, readSync, writeSync } from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Code, createDeferred } from '../../../src/base/index.js';
import { binding, POLLHUP, POLLIN, POLLOUT, Poller } from '../../../src/sys/index.js';
import { LATE_MS } from '../../lib/wait.js';
import { closeFds, expectNoLeaks } from './leaks.js';

function readOne(fd: number): void {
  readSync(fd, Buffer.alloc(1));
}

describe('poller', () => {
  expectNoLeaks();
  let poller: Poller;
  beforeEach(() => {
    poller = new Poller();
  });
  afterEach(() => poller.close());

  /** Resolves after everything ready by now has been delivered: a fresh pipe's event comes last. */
  async function settle(): Promise<void> {
    for (let i = 0; i < 3; i += 1) {
      const [read, write] = binding().pipe();
      const { promise, resolve } = createDeferred<void>();
      using _watch = poller.watch(read, POLLIN, () => resolve());
      writeSync(write, 'x');
      await promise;
      await nextTurn();
      closeSync(write);
      closeSync(read);
    }
  }

  it('calls again as long as there is something to read', async () => {
    const [read, write] = binding().pipe();
    writeSync(write, 'abc');
    const { promise, resolve } = createDeferred<void>();
    let calls = 0;
    const watch = poller.watch(read, POLLIN, (events) => {
      assert.equal(events & POLLIN, POLLIN);
      readOne(read);
      calls += 1;
      if (calls === 3) resolve();
    });
    await promise;
    await settle();
    assert.equal(calls, 3);
    watch[Symbol.dispose]();
    closeFds([read, write]);
  });

  it('reports the writer leaving', async () => {
    const [read, write] = binding().pipe();
    const { promise, resolve } = createDeferred<number>();
    using watch = poller.watch(read, POLLIN, (events) => {
      watch.setEvents(0);
      resolve(events);
    });
    closeSync(write);
    assert.equal((await promise) & POLLHUP, POLLHUP);
    watch[Symbol.dispose]();
    closeSync(read);
  });

  it('is silent while paused, even about a hang-up, and finds what it missed afterwards', async () => {
    const [read, write] = binding().pipe();
    const { promise, resolve } = createDeferred<void>();
    let calls = 0;
    const watch = poller.watch(read, 0, () => {
      calls += 1;
      watch.setEvents(0);
      resolve();
    });
    writeSync(write, 'x');
    closeSync(write);
    await settle();
    assert.equal(calls, 0);
    watch.setEvents(POLLIN);
    await promise;
    await settle();
    assert.equal(calls, 1);
    watch[Symbol.dispose]();
    closeSync(read);
  });

  it('switches between reading and writing', async () => {
    const [left, right] = binding().socketPair('stream');
    const { promise, resolve } = createDeferred<void>();
    const seen: number[] = [];
    const watch = poller.watch(left, POLLIN, (events) => {
      seen.push(events);
      if (events === POLLIN) {
        readOne(left);
        watch.setEvents(POLLOUT);
      } else {
        watch.setEvents(0);
        resolve();
      }
    });
    writeSync(right, 'x');
    await promise;
    assert.deepEqual(seen, [POLLIN, POLLOUT]);
    watch[Symbol.dispose]();
    closeFds([left, right]);
  });

  it('calls nobody back after dispose, though the event is on its way', async () => {
    const [read, write] = binding().pipe();
    let calls = 0;
    for (let i = 0; i < 50; i += 1) {
      const watch = poller.watch(read, POLLIN, () => {
        calls += 1;
      });
      writeSync(write, 'x');
      // Ready, and no JavaScript has heard of it.
      spinUntilReadable(read);
      watch[Symbol.dispose]();
      await nextTurn();
    }
    await settle();
    assert.equal(calls, 0);
    closeFds([read, write]);
  });

  it('keeps an event from whoever gets the same descriptor number next', async () => {
    let calls = 0;
    for (let i = 0; i < 50; i += 1) {
      const [read, write] = binding().pipe();
      const old = poller.watch(read, POLLIN, () => {
        calls += 1;
      });
      writeSync(write, 'x');
      spinUntilReadable(read);
      old[Symbol.dispose]();
      closeSync(read);
      const again = binding().pipe();
      assert.equal(again[0], read);
      const next = poller.watch(read, POLLIN, () => {
        calls += 1;
      });
      await nextTurn();
      await nextTurn();
      next[Symbol.dispose]();
      closeFds([write, ...again]);
    }
    await settle();
    assert.equal(calls, 0);
  });

  it('keeps an event from a successor that comes within the same batch', async () => {
    const pipes = [binding().pipe(), binding().pipe()] as const;
    const { promise, resolve } = createDeferred<void>();
    let strangers = 0;
    const watches = pipes.map(([read], index) =>
      poller.watch(read, POLLIN, () => {
        // Whichever is first ends the other and puts an idle pipe in its place.
        const other = pipes[1 - index] ?? pipes[0];
        for (const watch of watches) watch[Symbol.dispose]();
        closeSync(other[0]);
        const idle = binding().pipe();
        assert.equal(idle[0], other[0]);
        const successor = poller.watch(idle[0], POLLIN, () => {
          strangers += 1;
        });
        void settle().then(() => {
          successor[Symbol.dispose]();
          closeFds([...idle, other[1], ...(pipes[index] ?? [])]);
          resolve();
        });
      }),
    );
    for (const [, write] of pipes) writeSync(write, 'x');
    for (const [read] of pipes) spinUntilReadable(read);
    await promise;
    assert.equal(strangers, 0);
  });

  it('survives a descriptor that was closed without dispose', async () => {
    const [read, write] = binding().pipe();
    const stale = poller.watch(read, POLLIN, () => assert.fail('called for a closed descriptor'));
    closeSync(read);
    stale[Symbol.dispose]();
    await settle();
    closeSync(write);
  });

  it('refuses to watch a descriptor twice, and what epoll cannot watch', () => {
    const [read, write] = binding().pipe();
    const watch = poller.watch(read, POLLIN, () => undefined);
    assert.throws(() => poller.watch(read, POLLIN, () => undefined), { code: Code.AlreadyExists });
    watch[Symbol.dispose]();
    watch[Symbol.dispose]();
    poller.watch(read, POLLIN, () => undefined)[Symbol.dispose]();
    closeFds([read, write]);
    const file = binding().memfd('regular', Buffer.alloc(0));
    assert.throws(() => poller.watch(file, POLLIN, () => undefined), { code: 'EPERM' });
    closeSync(file);
    assert.throws(() => poller.watch(file, POLLIN, () => undefined), { code: 'EBADF' });
    assert.equal(poller.size, 0);
  });

  it('serves a thousand descriptors in few batches', async () => {
    const { promise, resolve } = createDeferred<void>();
    const pairs: [number, number][] = [];
    let batches = 0;
    let served = 0;
    const native = binding().createPoller((ready) => {
      batches += 1;
      served += ready.length / 2;
      if (served === 1000) resolve();
    });
    native.ref();
    for (let i = 0; i < 1000; i += 1) {
      const pair = binding().socketPair('stream');
      pairs.push(pair);
      native.add(pair[0], POLLIN);
      writeSync(pair[1], 'x');
    }
    await promise;
    assert.ok(batches < 100, `${batches} batches`);
    native.close();
    for (const pair of pairs) closeFds(pair);
  });

  it('refuses a descriptor that cannot be watched directly either, and can be closed twice', () => {
    const file = binding().memfd('regular', Buffer.alloc(0));
    assert.throws(() => binding().watchPriority(file, () => undefined), { code: 'EPERM' });
    closeSync(file);
    for (const fd of [file, -1]) assert.throws(() => binding().watchPriority(fd, () => undefined), { code: 'EBADF' });
    const [read, write] = binding().pipe();
    const watch = binding().watchPriority(read, () => assert.fail('a pipe has no urgent data'));
    writeSync(write, 'x');
    watch.close();
    watch.close();
    closeFds([read, write]);
  });

  it('does nothing after close', async () => {
    const [read, write] = binding().pipe();
    poller.watch(read, POLLIN, () => assert.fail('called after close'));
    writeSync(write, 'x');
    spinUntilReadable(read);
    poller.close();
    poller.close();
    await nextTurn();
    await nextTurn();
    assert.throws(() => poller.watch(read, POLLIN, () => undefined), { code: 'EBADF' });
    closeFds([read, write]);
  });
});

/** After this the event waits in the poller; no JavaScript has run meanwhile. */
function spinUntilReadable(fd: number): void {
  while (binding().bytesReadable(fd) === 0);
}

describe('poller and the life of the process', () => {
  const module = fileURLToPath(new URL('../../../src/sys/index.js', import.meta.url));
  const run = (body: string) =>
    spawnSync(process.execPath, ['--input-type=module', '-e', `import * as sys from '${module}';\n${body}`], {
      encoding: 'utf8',
      timeout: LATE_MS,
    });

  it('lets Node exit when nothing referenced is watched', () => {
    const result = run(`
      const [read] = sys.binding().pipe();
      const poller = new sys.Poller();
      poller.watch(read, 1, () => {}, { ref: false });
      const [other] = sys.binding().pipe();
      poller.watch(other, 1, () => {})[Symbol.dispose]();
    `);
    assert.equal(result.signal, null);
    assert.equal(result.status, 0, result.stderr);
  });

  it('keeps Node alive for a referenced watch', () => {
    const result = run(`
      import { writeSync } from 'node:fs';
      import { Worker } from 'node:worker_threads';
      const [read, write] = sys.binding().pipe();
      const watch = sys.sharedPoller().watch(read, 1, () => { console.log('called'); watch[Symbol.dispose](); });
      const writer = new Worker('require("node:fs").writeSync(require("node:worker_threads").workerData, "x")',
        { eval: true, execArgv: [], workerData: write });
      writer.unref();
    `);
    assert.equal(result.stdout, 'called\n', result.stderr);
    assert.equal(result.status, 0);
  });

  it('turns an exception of a call-back into an uncaught one, and serves the others', () => {
    const result = run(`
      import { readSync, writeSync } from 'node:fs';
      process.on('uncaughtException', (error) => console.log('uncaught', error.message));
      for (const name of ['one', 'two']) {
        const [read, write] = sys.binding().pipe();
        writeSync(write, 'x');
        const watch = sys.sharedPoller().watch(read, 1, () => { watch[Symbol.dispose](); throw new Error(name); });
      }
    `);
    assert.deepEqual(result.stdout.trim().split('\n').sort(), ['uncaught one', 'uncaught two'], result.stderr);
  });

  it('lets the loop sleep while nothing happens, and while what is ready is paused', () => {
    const result = run(`
      import { writeSync } from 'node:fs';
      const [read] = sys.binding().pipe();
      const [paused, write] = sys.binding().pipe();
      sys.sharedPoller().watch(read, 1, () => {}, { ref: false });
      writeSync(write, 'x');
      const registration = sys.sharedPoller().watch(paused, 1, () => registration.setEvents(0));
      // A loop that does not sleep is never idle; one that does is also busy while other processes
      // have the processor.
      const end = performance.now() + ${LATE_MS} / 2;
      let before = performance.eventLoopUtilization();
      setInterval(() => {
        const slept = performance.eventLoopUtilization(before).utilization < 0.5;
        before = performance.eventLoopUtilization();
        if (!slept && performance.now() < end) return;
        console.log(slept);
        process.exit();
      }, 300);
    `);
    assert.equal(result.stdout, 'true\n', result.stderr);
  });
});
