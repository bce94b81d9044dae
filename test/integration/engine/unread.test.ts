/**
 * Nobody reads what a container writes, or has ever opened its FIFOs. It waits; nothing else does,
 * and not a byte is lost.
 */
import assert from 'node:assert/strict';
import { closeSync, constants, mkdirSync, openSync, readdirSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { Status } from '../../../src/api/index.js';
import { isErrno } from '../../../src/base/index.js';
import { LAMINA } from '../../lib/box.js';
import { FifoReader, makeFifo, waitingIn } from '../../lib/fifo-reader.js';
import { nothingLeft } from '../../lib/leftovers.js';
import { listProcesses, readProcLink } from '../../lib/proc.js';
import { replaceEngine } from '../../lib/processes.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { addExec, killAndDelete, runExec, type Streams, shutdown, statusOf } from '../../lib/task-steps.js';
import { until } from '../../lib/wait.js';

const skip = requires({ root: true, runc: '1.1' }) || LAMINA.skip;
const SLEEP = ['/bin/sleep', '1000'];
/**
 * Half of what a FIFO holds: how much more fits in depends on the sizes of what is written. The
 * rest comes without us.
 */
const FULL_BYTES = 32_768;

/** Lines with rising numbers, without end, to one or both streams. */
function counting(...streams: (1 | 2)[]): string[] {
  const loops = streams.map((stream) => `(i=0; while :; do echo "line $i"; i=$((i+1)); done >&${stream}) &`);
  return ['/bin/sh', '-c', `${loops.join(' ')} wait`];
}

/** The lines' numbers have no gap, from the first to the last whole one. */
function assertUnbroken(text: string): void {
  const lines = text.split('\n').slice(0, -1);
  assert.ok(lines.length > 1000, `${lines.length} lines`);
  for (const [n, line] of lines.entries()) assert.equal(line, `line ${n}`);
}

async function untilFull(path: string): Promise<void> {
  await until(`${path} is full`, () => waitingIn(path) >= FULL_BYTES, { detail: () => `${waitingIn(path)} bytes` });
}

/** Processes that have this file open. */
function holdersOf(path: string): string[] {
  const holds = (pid: number): boolean => {
    try {
      return readdirSync(`/proc/${pid}/fd`).some((fd) => readProcLink(pid, `fd/${fd}`) === path);
    } catch {
      return false; // gone meanwhile
    }
  };
  return listProcesses()
    .filter(({ pid }) => pid !== process.pid && holds(pid))
    .map(({ pid, commandLine }) => `${pid} ${commandLine}`);
}

describe('FIFOs that nobody reads', { skip }, () => {
  let daemon: FakeDaemon;
  let dir: string;

  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
    // What Delete waits for output that nobody reads.
    const timeouts = '[timeouts]\nengine_idle_ms = 1000\nkeeper_idle_ms = 5000\ndrain_ms = 500\n';
    writeFileSync(daemon.env['LAMINA_CONFIG'] ?? '', timeouts);
  });
  after(() => daemon.stop());
  beforeEach(() => {
    dir = join(daemon.dir, `fifos-${Math.random().toString(36).slice(2)}`);
    mkdirSync(dir);
  });

  const fifo = (name: string): Promise<string> => makeFifo(join(dir, name));

  const run = async (args: readonly string[], streams: Partial<Streams> = {}, group = ''): Promise<ShimHandle> => {
    const annotations: Record<string, string> = group === '' ? {} : { 'io.containerd.runc.v2.group': group };
    const shim = await daemon.launch({ args, annotations, terminal: streams.terminal ?? false });
    await daemon.create(shim, streams);
    await shim.task.start({ id: shim.id, execId: '' });
    return shim;
  };

  /** A whole life, with an exec, of a container beside. */
  const assertLives = async (group = ''): Promise<void> => {
    const shim = await run(SLEEP, {}, group);
    assert.equal(await runExec(shim, 'x', ['/bin/sh', '-c', 'exit 3']), 3);
    assert.equal(await killAndDelete(shim), 137);
    if (group === '') await shutdown(shim);
  };

  const assertAnswers = async (shim: ShimHandle): Promise<void> => {
    assert.equal(await statusOf(shim), Status.RUNNING);
    assert.notEqual((await shim.task.pids({ id: shim.id })).processes.length, 0);
    assert.ok((await shim.task.stats({ id: shim.id })).stats !== undefined);
    assert.equal(await runExec(shim, `x${Math.random().toString(36).slice(2)}`, ['/bin/sh', '-c', 'exit 4']), 4);
  };

  const assertEnds = async (shim: ShimHandle, fifos: readonly string[]): Promise<void> => {
    assert.equal(await killAndDelete(shim), 137);
    await nothingLeft(daemon, shim.id);
    for (const path of fifos) await until(`nobody holds ${path}`, () => holdersOf(path).length === 0);
    await daemon.waitForTopic(shim.id, 'delete');
    await shutdown(shim);
  };

  it('hold up the container only; all it wrote is there for who reads later, also after the engine’s death', async () => {
    const group = `pod-${daemon.marker}`;
    const [stdout, stderr, execOut] = [await fifo('out'), await fifo('err'), await fifo('exec')];
    const shim = await run(counting(1, 2), { stdout, stderr }, group);
    await addExec(shim, 'silent', counting(1), { stdout: execOut });
    await shim.task.start({ id: shim.id, execId: 'silent' });
    for (const path of [stdout, stderr, execOut]) await untilFull(path);
    await assertAnswers(shim);
    await assertLives(group);
    await assertLives();
    await replaceEngine(daemon);
    await assertAnswers(shim);
    await assertLives(group);

    const readers = [stdout, stderr, execOut].map((path) => new FifoReader(path));
    // More than FIFO and pipe hold: it goes on.
    for (const reader of readers) assertUnbroken((await reader.read(300_000)).toString());
    for (const path of [stdout, stderr, execOut]) await untilFull(path);
    for (const reader of readers) reader.close();
    await shim.task.kill({ id: shim.id, execId: 'silent', signal: 9, all: false });
    assert.equal((await shim.task.wait({ id: shim.id, execId: 'silent' })).exitStatus, 137);
    await shim.task.delete({ id: shim.id, execId: 'silent' });
    await assertEnds(shim, [stdout, stderr, execOut]);
  });

  it('are full when the container is killed: their reader gets what fitted in, and then the end', async () => {
    const [stdout, stderr] = [await fifo('out'), await fifo('err')];
    const shim = await run(counting(1, 2), { stdout, stderr });
    for (const path of [stdout, stderr]) await untilFull(path);
    const readers = [stdout, stderr].map((path) => new FifoReader(path));
    await assertEnds(shim, []);
    for (const reader of readers) {
      assertUnbroken((await reader.read()).toString());
      assert.ok(reader.isAtEnd);
      reader.close();
    }
  });

  it('were never opened by anybody', async () => {
    const [stdin, stdout, stderr] = [await fifo('in'), await fifo('out'), await fifo('err')];
    const shim = await run(['/bin/sh', '-c', 'echo out; echo err >&2; exec cat'], { stdin, stdout, stderr });
    await addExec(shim, 'cat', ['/bin/cat'], { stdin: await fifo('in2'), stdout: await fifo('out2') });
    await shim.task.start({ id: shim.id, execId: 'cat' });
    await assertAnswers(shim);
    await replaceEngine(daemon);
    await assertAnswers(shim);
    // The writer comes late, and goes: input was never at its end before.
    const writer = openSync(stdin, constants.O_WRONLY);
    writeSync(writer, 'in\n');
    closeSync(writer);
    const reader = new FifoReader(stdout);
    assert.equal((await reader.read(7)).toString(), 'out\nin\n');
    reader.close();
    await assertEnds(shim, [stdin, stdout, stderr, join(dir, 'in2'), join(dir, 'out2')]);
  });

  it('belong to terminals', async () => {
    const [stdin, stdout] = [await fifo('in'), await fifo('out')];
    const shim = await run(counting(1), { stdin, stdout, terminal: true });
    await addExec(shim, 'tty', counting(1), { stdout: await fifo('out2'), terminal: true });
    await shim.task.start({ id: shim.id, execId: 'tty' });
    for (const path of [stdout, join(dir, 'out2')]) await untilFull(path);
    await shim.task.resizePty({ id: shim.id, execId: '', width: 100, height: 40 });
    await assertAnswers(shim);
    await replaceEngine(daemon);
    await assertAnswers(shim);
    const reader = new FifoReader(stdout);
    assertUnbroken((await reader.read(200_000)).toString().replaceAll('\r\n', '\n'));
    reader.close();
    await assertEnds(shim, [stdin, stdout, join(dir, 'out2')]);
  });

  it('are pipes to a logging binary that does not read', async () => {
    const logger = join(dir, 'logger');
    writeFileSync(logger, `#!/bin/sh\necho $$ >${dir}/pid\nexec 5>&-\nexec sleep 1000\n`, { mode: 0o755 });
    const shim = await run(counting(1, 2), { stdout: `binary://${logger}` });
    await assertAnswers(shim);
    await replaceEngine(daemon);
    await assertAnswers(shim);
    await assertEnds(shim, []);
  });

  it('are the shim’s own log', async () => {
    const shim = await daemon.launch({ args: SLEEP });
    const log = openSync(join(shim.bundle, 'log'), constants.O_WRONLY | constants.O_NONBLOCK);
    const fill = (): boolean => {
      try {
        writeSync(log, '.'.repeat(512));
        return false;
      } catch (error) {
        assert.ok(isErrno(error, 'EAGAIN'));
        return true;
      }
    };
    while (!fill());
    await daemon.create(shim);
    await shim.task.start({ id: shim.id, execId: '' });
    await assertAnswers(shim);
    await replaceEngine(daemon);
    await assertAnswers(shim);
    closeSync(log);
    await assertEnds(shim, []);
  });
});
