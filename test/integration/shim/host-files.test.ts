/**
 * Whatever a client names as output, a process gets a pipe or a FIFO and never the host's own file
 * or device.
 */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import * as api from '../../../src/api/index.js';
import { type Runtime, testRuntimes } from '../../lib/box.js';
import { readLog } from '../../lib/limits.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { SmallDisk } from '../../lib/small-disk.js';
import { addExec, failureOf, shutdown } from '../../lib/task-steps.js';
import { until } from '../../lib/wait.js';

const SHIMS = { stock: 'containerd-shim-runc-v2', lamina: 'containerd-shim-lamina-v2' } as const;
const skip = requires({ root: true, runc: '1.1', programs: [SHIMS.stock] });
const USER = 1000;

/** Says what its streams are, opens them again, and tries to change what is behind them. */
const ATTACK = [
  'for n in 1 2; do echo "$n $(readlink /proc/self/fd/$n)"; done',
  'for n in 1 2; do chmod 4755 /proc/self/fd/$n; cat </dev/null >/proc/self/fd/$n; done 2>/dev/null',
  'echo again >/proc/self/fd/1',
  'echo error >&2',
].join('; ');

for (const runtime of testRuntimes()) files(runtime);

function files(runtime: Runtime): void {
  describe(`output to something of the host's [${runtime.label}]`, { skip: skip || runtime.skip }, () => {
    let daemon: FakeDaemon;
    let dir: string;
    before(async () => {
      daemon = await FakeDaemon.start(SHIMS[runtime.label]);
      dir = join(daemon.dir, 'files');
      mkdirSync(dir);
    });
    after(() => daemon.stop());

    /** A container of a user whose init attacks its streams. */
    const attacker = async (args = ['/bin/sh', '-c', ATTACK]): Promise<ShimHandle> => {
      const shim = await daemon.launch({ args });
      const path = join(shim.bundle, 'config.json');
      const spec = JSON.parse(readFileSync(path, 'utf8')) as { process: { user: object } };
      spec.process.user = { uid: USER, gid: USER };
      writeFileSync(path, JSON.stringify(spec));
      return shim;
    };

    const run = async (shim: ShimHandle, stdout: string, stderr: string): Promise<void> => {
      const request = { id: shim.id, execId: '' };
      await daemon.create(shim, { stdout, stderr });
      await shim.task.start(request);
      assert.equal((await shim.task.wait(request)).exitStatus, 0);
      await shim.task.delete(request);
      await shutdown(shim);
    };

    const hostFile = (name: string): string => {
      const path = join(dir, name);
      writeFileSync(path, 'before\n');
      chmodSync(path, 0o640);
      return path;
    };

    const untouched = (path: string): void => {
      const { mode, uid, gid } = statSync(path);
      assert.deepEqual({ mode: mode & 0o7777, uid, gid }, { mode: 0o640, uid: 0, gid: 0 }, path);
    };

    for (const scheme of ['file://', '']) {
      it(`appends to a file that is named ${scheme === '' ? 'by its path' : `as ${scheme}`}, and lends it to nobody`, async () => {
        const path = hostFile(`log${scheme.length}`);
        await run(await attacker(), scheme + path, scheme + path);
        const text = readFileSync(path, 'utf8');
        const lines = text.trim().split('\n');
        assert.equal(lines[0], 'before', text);
        assert.deepEqual(lines.slice(3).sort(), ['again', 'error'], text);
        for (const line of lines.slice(1, 3)) assert.match(line, /^[12] pipe:\[\d+\]$/);
        untouched(path);
      });
    }

    it('gives an exec no file either', async () => {
      const path = hostFile('exec');
      const shim = await attacker(['/bin/sleep', '1000']);
      await daemon.create(shim);
      await shim.task.start({ id: shim.id, execId: '' });
      const request = { id: shim.id, execId: 'x' };
      await addExec(shim, 'x', ['/bin/sh', '-c', ATTACK], { stdout: `file://${path}`, stderr: `file://${path}` });
      await shim.task.start(request);
      assert.equal((await shim.task.wait(request)).exitStatus, 0);
      await shim.task.delete(request);
      const lines = readFileSync(path, 'utf8').trim().split('\n');
      assert.deepEqual([lines[0], ...lines.slice(3).sort()], ['before', 'again', 'error']);
      for (const line of lines.slice(1, 3)) assert.match(line, /^[12] pipe:\[\d+\]$/);
      untouched(path);
      await shim.task.kill({ id: shim.id, execId: '', signal: 9, all: true });
      await shim.task.wait({ id: shim.id, execId: '' });
      await shim.task.delete({ id: shim.id, execId: '' });
      await shutdown(shim);
    });

    it('keeps a device to the host: the process writes to a pipe', async () => {
      const path = hostFile('device');
      // What is written goes to the device; what the process has is told through its stderr.
      const shim = await attacker(['/bin/sh', '-c', 'exec 3>&1; readlink /proc/self/fd/3 >&2; echo lost']);
      await run(shim, '/dev/null', path);
      assert.match(readFileSync(path, 'utf8'), /^before\npipe:\[\d+\]\n$/);
    });

    const isStock = runtime.label === 'stock';
    it('refuses a directory, a socket and what is not there, and names them', {
      skip: isStock && 'a stock shim whose create has failed stays',
    }, async () => {
      const socket = join(dir, 'socket');
      const server = createServer().listen(socket);
      for (const path of [dir, socket, join(dir, 'nothing')]) {
        const shim = await attacker();
        const { message } = await failureOf(daemon.create(shim, { stdout: path, stderr: path }));
        assert.ok(message.includes(path), message);
        await shutdown(shim);
      }
      server.close();
    });

    it('waits for room on a full disk, and loses nothing', {
      skip: isStock && 'the stock shim gives up, and the process waits for ever',
    }, async () => {
      const disk = await SmallDisk.mount(join(dir, 'disk'));
      try {
        const path = join(disk.dir, 'log');
        writeFileSync(path, '');
        disk.fill();
        const shim = await attacker(['/bin/sh', '-c', 'seq 1 40000']);
        await daemon.create(shim, { stdout: path, stderr: path });
        await shim.task.start({ id: shim.id, execId: '' });
        await until('the keeper says why', () => readLog(shim.bundle).includes('waiting for room'));
        assert.equal((await shim.task.state({ id: shim.id, execId: '' })).status, api.Status.RUNNING);
        disk.free();
        assert.equal((await shim.task.wait({ id: shim.id, execId: '' })).exitStatus, 0);
        const numbers = readFileSync(path, 'utf8').trim().split('\n');
        assert.ok(numbers.length === 40_000 && numbers.every((number, index) => Number(number) === index + 1));
        await shim.task.delete({ id: shim.id, execId: '' });
        await shutdown(shim);
      } finally {
        await disk.unmount();
      }
    });

    it('writes all of a large output, in order', async () => {
      const path = join(dir, 'large');
      const shim = await attacker(['/bin/sh', '-c', 'seq 1 200000']);
      await run(shim, `file://${path}`, `file://${path}`);
      const numbers = readFileSync(path, 'utf8').trim().split('\n');
      assert.equal(numbers.length, 200_000);
      assert.ok(numbers.every((number, index) => Number(number) === index + 1));
    });
  });
}
