/**
 * containerd's client closes its FIFOs when it hears of an exit, with what is in them. So it hears
 * of it when they are empty: here a client that reads nothing before the process has ended, then
 * slowly, and closes as soon as it is told.
 */
import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Status } from '../../../src/api/index.js';
import { LAMINA } from '../../lib/box.js';
import { mustRun } from '../../lib/command.js';
import { FifoReader, makeFifo, waitingIn } from '../../lib/fifo-reader.js';
import { hostProgram } from '../../lib/image.js';
import { readProcess } from '../../lib/proc.js';
import { replaceEngine } from '../../lib/processes.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { addExec, killAndDelete, runExec, type Streams, shutdown, statusOf } from '../../lib/task-steps.js';
import { LATE_MS, until, within } from '../../lib/wait.js';

const skip = requires({ root: true, runc: '1.1' }) || LAMINA.skip;
const SLEEP = ['/bin/sleep', '1000'];
/** Fits into a FIFO, also through a terminal. */
const SHORT = 3_000;
/** More than a FIFO holds, and less than that and the pipe before it. */
const LONG = 8_000;
/** What the client reads at a time. */
const PIECE = 2_000;

/** For a daemon whose shims wait so long for readers. */
async function daemonWaiting(readMs: number): Promise<FakeDaemon> {
  const daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
  // Below the table [timeouts].
  appendFileSync(daemon.env['LAMINA_CONFIG'] ?? '', `read_ms = ${readMs}\n`);
  return daemon;
}

const drip = (lines: number): Promise<string> => mustRun([hostProgram('probe'), 'drip', String(lines)]);

/** One who is to read an output, and closes it when told of the exit. */
class Client {
  readonly #readers: readonly FifoReader[];
  readonly #parts: Buffer[][];
  isTold = false;
  readonly told: Promise<number>;

  constructor(shim: ShimHandle, execId: string, paths: readonly string[]) {
    this.#readers = paths.map((path) => new FifoReader(path));
    this.#parts = paths.map(() => []);
    this.told = shim.task.wait({ id: shim.id, execId }).then(({ exitStatus }) => {
      this.isTold = true;
      this.close();
      return exitStatus;
    });
    this.told.catch(() => undefined);
  }

  close(): void {
    for (const reader of this.#readers) reader.close();
  }

  /** Reads slowly until it is told. @returns what it has got of each stream */
  async read(exitStatus = 3): Promise<string[]> {
    await until('the exit is told', () => {
      if (this.isTold) return true;
      for (const [n, reader] of this.#readers.entries()) this.#parts[n]?.push(reader.readNow(PIECE));
      return false;
    });
    assert.equal(await this.told, exitStatus);
    return this.#parts.map((parts) => Buffer.concat(parts).toString());
  }
}

describe('an exit is told when the output was read', { skip }, () => {
  let daemon: FakeDaemon;
  let count = 0;
  before(async () => {
    // Whoever is told while something is unread has been told too early, however slow this machine
    // is.
    daemon = await daemonWaiting(3_600_000);
  });
  after(() => daemon.stop());

  const fifo = (): Promise<string> => {
    count += 1;
    return makeFifo(join(daemon.dir, `fifo${count}`));
  };

  const create = async (args: readonly string[], streams: Partial<Streams> = {}): Promise<ShimHandle> => {
    const shim = await daemon.launch({ args, terminal: streams.terminal ?? false });
    await daemon.create(shim, streams);
    return shim;
  };

  const running = async (args: readonly string[], streams: Partial<Streams> = {}): Promise<ShimHandle> => {
    const shim = await create(args, streams);
    await shim.task.start({ id: shim.id, execId: '' });
    return shim;
  };

  /** Starts the process and lets it end. Its exit is known to the shim then and may not be told. */
  const startAndEnd = async (shim: ShimHandle, execId: string): Promise<void> => {
    const { pid } = await shim.task.start({ id: shim.id, execId });
    await until(`process ${pid} was reaped`, () => readProcess(pid) === undefined);
    assert.equal(await statusOf(shim, execId), Status.RUNNING);
    assert.equal((await shim.task.state({ id: shim.id, execId: '' })).status, Status.RUNNING);
  };

  const remove = async (shim: ShimHandle): Promise<void> => {
    await shim.task.delete({ id: shim.id, execId: '' });
    await shutdown(shim);
  };

  for (const how of ['undisturbed', 'when the engine dies meanwhile']) {
    const disturb = async (): Promise<void> => {
      if (how !== 'undisturbed') await replaceEngine(daemon);
    };

    it(`of init, ${how}`, async () => {
      const [stdout, stderr] = [await fifo(), await fifo()];
      const script = `probe drip ${SHORT}; probe drip ${LONG} >&2; exit 3`;
      const shim = await create(['/bin/sh', '-c', script], { stdout, stderr });
      const client = new Client(shim, '', [stdout, stderr]);
      await startAndEnd(shim, '');
      await disturb();
      assert.equal(await statusOf(shim), Status.RUNNING);
      assert.deepEqual(await client.read(), [await drip(SHORT), await drip(LONG)]);
      await daemon.waitForTopic(shim.id, 'exit');
      await remove(shim);
    });

    it(`of an exec, ${how}`, async () => {
      const shim = await running(SLEEP);
      const [stdout, stderr] = [await fifo(), await fifo()];
      const script = `probe drip ${LONG}; probe drip ${LONG} >&2; exit 3`;
      await addExec(shim, 'x', ['/bin/sh', '-c', script], { stdout, stderr });
      const client = new Client(shim, 'x', [stdout, stderr]);
      await startAndEnd(shim, 'x');
      await disturb();
      assert.equal(await statusOf(shim, 'x'), Status.RUNNING);
      assert.deepEqual(await client.read(), [await drip(LONG), await drip(LONG)]);
      await shim.task.delete({ id: shim.id, execId: 'x' });
      assert.equal(await killAndDelete(shim), 137);
      await shutdown(shim);
    });

    it(`at terminals, ${how}`, async () => {
      const script = `probe drip ${SHORT}; exit 3`;
      const [ofInit, ofExec] = [await fifo(), await fifo()];
      const shim = await create(['/bin/sh', '-c', `read go; ${script}`], {
        stdin: await fifo(),
        stdout: ofInit,
        terminal: true,
      });
      const expected = (await drip(SHORT)).replaceAll('\n', '\r\n');
      await shim.task.start({ id: shim.id, execId: '' });
      await addExec(shim, 'tty', ['/bin/sh', '-c', script], { stdout: ofExec, terminal: true });
      const client = new Client(shim, 'tty', [ofExec]);
      await startAndEnd(shim, 'tty');
      await disturb();
      assert.equal(await statusOf(shim, 'tty'), Status.RUNNING);
      assert.deepEqual(await client.read(), [expected]);
      await shim.task.delete({ id: shim.id, execId: 'tty' });
      assert.equal(await killAndDelete(shim), 137);
      await shutdown(shim);

      const other = await create(['/bin/sh', '-c', script], { stdout: await fifo(), terminal: true });
      const { stdout } = await other.task.state({ id: other.id, execId: '' });
      const reader = new Client(other, '', [stdout]);
      await startAndEnd(other, '');
      await disturb();
      assert.deepEqual(await reader.read(), [expected]);
      await remove(other);
    });
  }

  it('of execs that have ended before the runtime has told of them', async () => {
    const shim = await running(SLEEP);
    for (const execId of ['a', 'b', 'c', 'd', 'e', 'f']) {
      const [stdout, stderr] = [await fifo(), await fifo()];
      await addExec(shim, execId, ['/bin/sh', '-c', 'echo out; echo err >&2; exit 3'], { stdout, stderr });
      const client = new Client(shim, execId, [stdout, stderr]);
      await startAndEnd(shim, execId);
      assert.deepEqual(await client.read(), ['out\n', 'err\n']);
      await shim.task.delete({ id: shim.id, execId });
    }
    assert.equal(await killAndDelete(shim), 137);
    await shutdown(shim);
  });

  it('of init after those of its execs', async () => {
    const shim = await running(SLEEP);
    const stdout = await fifo();
    await addExec(shim, 'x', ['/bin/sh', '-c', 'echo out; exec sleep 1000'], { stdout });
    const client = new Client(shim, 'x', [stdout]);
    await shim.task.start({ id: shim.id, execId: 'x' });
    const ended = shim.task.wait({ id: shim.id, execId: '' });
    const { pid } = await shim.task.state({ id: shim.id, execId: 'x' });
    await until('the exec has written', () => waitingIn(stdout) > 0);
    await shim.task.kill({ id: shim.id, execId: '', signal: 9, all: false });
    await until('the exec was reaped', () => readProcess(pid) === undefined);
    assert.equal(await statusOf(shim), Status.RUNNING);
    // What has ended cannot be signaled, told or not.
    await assert.rejects(shim.task.kill({ id: shim.id, execId: 'x', signal: 9, all: false }), /already finished/);
    assert.deepEqual(await client.read(137), ['out\n']);
    assert.equal((await ended).exitStatus, 137);
    await daemon.waitForTopic(shim.id, 'exit');
    await shim.task.delete({ id: shim.id, execId: 'x' });
    await remove(shim);
  });

  it('at once where nobody has opened the FIFO, or nobody has it open any more', async () => {
    for (const wasOpen of [false, true]) {
      const [stdout, stderr] = [await fifo(), await fifo()];
      const shim = await create(['/bin/sh', '-c', 'echo out; echo err >&2; exit 3'], { stdout, stderr });
      if (wasOpen) for (const path of [stdout, stderr]) new FifoReader(path).close();
      await shim.task.start({ id: shim.id, execId: '' });
      const { exitStatus } = await within('the exit is told', LATE_MS, shim.task.wait({ id: shim.id, execId: '' }));
      assert.equal(exitStatus, 3);
      // Nothing was taken away from whoever comes to read it now.
      const reader = new FifoReader(stdout);
      assert.equal((await reader.read()).toString(), 'out\n');
      reader.close();
      await remove(shim);
    }
  });

  it('at once where the reader leaves while it is waited for', async () => {
    const stdout = await fifo();
    const shim = await create(['/bin/sh', '-c', 'echo out; exit 3'], { stdout });
    const reader = new FifoReader(stdout);
    await startAndEnd(shim, '');
    reader.close();
    const { exitStatus } = await within('the exit is told', LATE_MS, shim.task.wait({ id: shim.id, execId: '' }));
    assert.equal(exitStatus, 3);
    await remove(shim);
  });

  it('whatever others have not read', async () => {
    const stdout = await fifo();
    const shim = await running(['/bin/sh', '-c', 'echo out; exec sleep 1000'], { stdout });
    const reader = new FifoReader(stdout);
    assert.equal(await runExec(shim, 'x', ['/bin/sh', '-c', 'exit 4']), 4);
    assert.equal((await reader.read(4)).toString(), 'out\n');
    reader.close();
    assert.equal(await killAndDelete(shim), 137);
    await shutdown(shim);
  });
});

describe('a reader that does not read', { skip }, () => {
  let daemon: FakeDaemon;
  before(async () => {
    daemon = await daemonWaiting(300);
  });
  after(() => daemon.stop());

  it('delays the exit, and does not keep it', async () => {
    const [stdout, ofExec] = [await makeFifo(join(daemon.dir, 'out')), await makeFifo(join(daemon.dir, 'x'))];
    const shim = await daemon.launch({ args: ['/bin/sh', '-c', 'echo out; exec sleep 1000'] });
    await daemon.create(shim, { stdout });
    await shim.task.start({ id: shim.id, execId: '' });
    const readers = [stdout, ofExec].map((path) => new FifoReader(path));
    await addExec(shim, 'x', ['/bin/sh', '-c', 'echo out; exit 4'], { stdout: ofExec });
    await shim.task.start({ id: shim.id, execId: 'x' });
    const { exitStatus } = await within('the exec ends', LATE_MS, shim.task.wait({ id: shim.id, execId: 'x' }));
    assert.equal(exitStatus, 4);
    assert.equal(await within('init ends', LATE_MS, killAndDelete(shim)), 137);
    for (const reader of readers) {
      assert.equal((await reader.read(4)).toString(), 'out\n');
      reader.close();
    }
    await shutdown(shim);
  });
});
