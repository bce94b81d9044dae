import assert from 'node:assert/strict';
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import * as api from '../../../src/api/index.js';
import { testRuntimes } from '../../lib/box.js';
import { mustRun } from '../../lib/command.js';
import { FifoReader, makeFifo } from '../../lib/fifo-reader.js';
import { hostProgram } from '../../lib/image.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { bareProcess } from '../../lib/spec.js';
import { LATE_MS, within } from '../../lib/wait.js';

const SHIMS = { stock: 'containerd-shim-runc-v2', lamina: 'containerd-shim-lamina-v2' } as const;
const skip = requires({ root: true, runc: '1.1', programs: [SHIMS.stock] });

for (const runtime of testRuntimes()) {
  const label = runtime.label;
  describe(`output through FIFOs [${label}]`, { skip: skip || runtime.skip }, () => {
    let daemon: FakeDaemon;
    before(async () => {
      daemon = await FakeDaemon.start(SHIMS[label]);
    });
    after(() => daemon.stop());

    const finish = async (shim: ShimHandle): Promise<void> => {
      const request = { id: shim.id, execId: '' };
      await shim.task.kill({ ...request, signal: 9, all: true }).catch(() => undefined);
      await shim.task.wait(request);
      await shim.task.delete(request);
      await shim.task.shutdown({ id: shim.id, now: false }).catch(() => undefined);
      shim.connection.close();
    };

    it('loses nothing when its reader goes away, twice, and comes back', async () => {
      const expected = await mustRun([hostProgram('probe'), 'drip', '300000']);
      const shim = await daemon.launch({ args: ['/bin/probe', 'drip', '300000'] });
      const stdout = await makeFifo(join(daemon.dir, 'gone-out'));
      // with one of the two missing, the stock shim refuses
      const stderr = await makeFifo(join(daemon.dir, 'gone-err'));
      const errors = new FifoReader(stderr);
      const request = { id: shim.id, execId: '' };
      let reader = new FifoReader(stdout);
      await daemon.create(shim, { stdout, stderr });
      await shim.task.start(request);
      const parts = [await reader.read(100_000)];
      for (const count of [500_000, Number.POSITIVE_INFINITY]) {
        reader.close();
        // Nobody reads now: the container has more to say than the FIFO holds and has to wait.
        assert.equal((await shim.task.state(request)).status, api.Status.RUNNING);
        reader = new FifoReader(stdout);
        parts.push(await reader.read(count));
      }
      reader.close();
      errors.close();
      assert.equal((await shim.task.wait(request)).exitStatus, 0, 'the writer has not been killed by SIGPIPE');
      assert.ok(Buffer.concat(parts).toString('utf8') === expected, 'every byte has arrived, in order');
      await finish(shim);
    });

    it('gives the reader the end of file when init ends, before it is deleted', async () => {
      const shim = await daemon.launch({ args: ['/bin/sh', '-c', 'echo out; echo err >&2'] });
      const [stdout, stderr] = [
        await makeFifo(join(daemon.dir, 'eof-out')),
        await makeFifo(join(daemon.dir, 'eof-err')),
      ];
      const readers = [new FifoReader(stdout), new FifoReader(stderr)];
      await daemon.create(shim, { stdout, stderr });
      await shim.task.start({ id: shim.id, execId: '' });
      const texts = await Promise.all(readers.map(async (reader) => (await reader.read()).toString('utf8')));
      assert.deepEqual(texts, ['out\n', 'err\n']);
      for (const reader of readers) reader.close();
      await finish(shim);
    });

    const dropsIt = label === 'stock' && 'the stock shim drops a CloseIO that comes so early';
    it('ends the input of an exec for which that is asked while it is being started', { skip: dropsIt }, async () => {
      const shim = await daemon.launch({ args: ['/bin/sleep', '1000'] });
      await daemon.create(shim);
      await shim.task.start({ id: shim.id, execId: '' });
      const exec = { id: shim.id, execId: 'cat' };
      const [stdin, stdout] = [await makeFifo(join(daemon.dir, 'cat-in')), await makeFifo(join(daemon.dir, 'cat-out'))];
      const reader = new FifoReader(stdout);
      // Also for reading, so that it opens at once.
      const writer = openSync(stdin, constants.O_RDWR | constants.O_NONBLOCK);
      writeSync(writer, 'input');
      const spec = api.packJson(api.OCI_TYPE_URL.process, bareProcess(['/bin/cat']));
      await shim.task.exec({ ...exec, terminal: false, stdin, stdout, stderr: '', spec });
      const ended = shim.task.wait(exec);
      await Promise.all([shim.task.start(exec), shim.task.closeIO({ ...exec, stdin: true })]);
      closeSync(writer);
      assert.equal((await within('the exec ends', LATE_MS, ended)).exitStatus, 0);
      assert.equal((await reader.read()).toString('utf8'), 'input');
      reader.close();
      await shim.task.delete(exec);
      await finish(shim);
    });

    // The stock shim copies in the background and makes no such promise.
    const noPromise = label === 'stock' && 'the stock shim does not promise it';
    it('holds all output of an exec in the FIFO when Wait returns', { skip: noPromise }, async () => {
      const shim = await daemon.launch({ args: ['/bin/sleep', '1000'] });
      await daemon.create(shim);
      await shim.task.start({ id: shim.id, execId: '' });
      // In each, the reader is waited for in vain.
      for (let round = 0; round < 6; round += 1) {
        const execId = `drip${round}`;
        const stdout = await makeFifo(join(daemon.dir, execId));
        const reader = new FifoReader(stdout);
        const spec = api.packJson(api.OCI_TYPE_URL.process, bareProcess(['/bin/probe', 'drip', '4000']));
        await shim.task.exec({ id: shim.id, execId, terminal: false, stdin: '', stdout, stderr: '', spec });
        const waiting = shim.task.wait({ id: shim.id, execId });
        await shim.task.start({ id: shim.id, execId });
        assert.equal((await waiting).exitStatus, 0);
        const lines = reader.readNow().toString('utf8').split('\n');
        assert.equal(lines.length, 4001, `round ${round}`);
        reader.close();
        await shim.task.delete({ id: shim.id, execId });
      }
      await finish(shim);
    });
  });
}
