import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import { Code, isErrno, LaminaError } from '../../../src/base/index.js';
import {
  addonCandidates,
  binding,
  loadBinding,
  type NativeBinding,
  type NativePoller,
} from '../../../src/sys/index.js';
import { closeFds, expectNoLeaks } from './leaks.js';

// Typed so that the compiler refuses a missing and a surplus key: what is left to compare is this
// list and the addon.
const PARAMETERS: Readonly<Record<keyof NativeBinding, number>> = {
  acceptUnix: 1,
  bpfAttachDevice: 4,
  bpfDetachDevice: 2,
  bpfLoadDevice: 2,
  bpfOpenProgram: 1,
  bpfQueryDevice: 1,
  bytesReadable: 1,
  connectUnix: 2,
  createPoller: 1,
  dupFd: 1,
  eventfd: 0,
  flock: 2,
  inotifyAdd: 3,
  inotifyInit: 0,
  inotifyRead: 1,
  inotifyRemove: 2,
  listenUnix: 4,
  memfd: 2,
  openPty: 0,
  peerCredentials: 1,
  pidfdExitStatus: 1,
  pidfdOpen: 1,
  pidfdSendSignal: 2,
  pidfdSignalGroup: 3,
  pipe: 0,
  readEventfd: 1,
  recvMessage: 2,
  seekToEnd: 1,
  sendMessage: 3,
  setNonBlocking: 2,
  setSubreaper: 1,
  releaseProgram: 0,
  setWindowSize: 3,
  socketPair: 1,
  watchPriority: 2,
  windowSize: 1,
};
const POLLER_METHODS: Readonly<Record<keyof NativePoller, true>> = {
  add: true,
  close: true,
  rearm: true,
  ref: true,
  remove: true,
  unref: true,
};

const isTypeError = (error: unknown): boolean =>
  error instanceof TypeError && 'code' in error && error.code === 'ERR_INVALID_ARG_TYPE';

describe('native binding', () => {
  expectNoLeaks();

  it('exports exactly what its interface declares', () => {
    assert.deepEqual(new Set(Object.keys(binding())), new Set(Object.keys(PARAMETERS)));
    const poller = binding().createPoller(() => undefined);
    assert.deepEqual(new Set(Object.keys(poller)), new Set(Object.keys(POLLER_METHODS)));
    poller.close();
  });

  it('refuses missing arguments of every function with ERR_INVALID_ARG_TYPE', () => {
    for (const [name, parameters] of Object.entries(PARAMETERS)) {
      if (parameters === 0) continue;
      const call: unknown = Reflect.get(binding(), name);
      assert.ok(typeof call === 'function');
      assert.throws(() => Reflect.apply(call, undefined, []), isTypeError, name);
    }
  });

  it('refuses numbers that are no descriptors, and strings with null bytes', () => {
    const invalid = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' };
    assert.throws(() => binding().dupFd(1.5), invalid);
    assert.throws(() => binding().dupFd(Number.NaN), invalid);
    assert.throws(() => binding().dupFd(2 ** 40), invalid);
    assert.throws(() => binding().connectUnix('/tmp/a\0b', 'stream'), invalid);
    assert.throws(() => binding().connectUnix('/tmp/a', 'datagram'), invalid);
  });

  it('refuses a poller method called on something else', () => {
    const poller = binding().createPoller(() => undefined);
    assert.throws(() => Reflect.apply(poller.add, {}, [0, 1]), isTypeError);
    assert.throws(() => Reflect.apply(poller.add, undefined, [0, 1]), isTypeError);
    poller.close();
  });

  it('throws errors that look like those of node:fs', () => {
    assert.throws(
      () => binding().connectUnix('/nowhere/socket', 'stream'),
      (error) => {
        assert.ok(isErrno(error, 'ENOENT'));
        assert.equal(error.errno, -2);
        assert.equal(error.syscall, 'connect');
        assert.equal(error.path, '/nowhere/socket');
        assert.equal(error.message, "ENOENT: no such file or directory, connect '/nowhere/socket'");
        return true;
      },
    );
    assert.throws(() => binding().dupFd(-1), { code: 'EBADF', errno: -9, syscall: 'fcntl' });
  });

  it('can be loaded by a worker, which may end while its poller waits', async () => {
    const script = `
      const { parentPort, workerData } = require('node:worker_threads');
      const lamina = require(workerData);
      const [read, write] = lamina.pipe();
      const poller = lamina.createPoller((ready) => parentPort.postMessage({ ready, read, write }));
      poller.add(read, 1);
      poller.ref();
      require('node:fs').writeSync(write, 'x');
    `;
    const { LAMINA_ADDON: override } = process.env;
    const addon = addonCandidates(join(import.meta.dirname, '../../../src/sys'), override).at(-1);
    const worker = new Worker(script, { eval: true, workerData: addon });
    const [message] = await once(worker, 'message');
    await worker.terminate();
    assert.deepEqual(message.ready, [message.read, 1]);
    // Fails if the worker's own descriptors, unlike these, had gone with it.
    closeFds([message.read, message.write]);
  });
});

describe('loading the addon', () => {
  it('looks beside the module, then in build/ above it', () => {
    assert.deepEqual(addonCandidates('/a/dist/src/sys', undefined), [
      '/a/dist/src/sys/lamina.node',
      '/a/dist/src/sys/build/lamina.node',
      '/a/dist/src/build/lamina.node',
      '/a/dist/build/lamina.node',
      '/a/build/lamina.node',
    ]);
  });

  it('looks nowhere else when LAMINA_ADDON names it', () => {
    assert.deepEqual(addonCandidates('/a', '/b/c.node'), ['/b/c.node']);
  });

  it('names every path it tried', () => {
    const isClear = (error: unknown): boolean =>
      error instanceof LaminaError &&
      error.code === Code.Unavailable &&
      error.message.includes('/nowhere/a.node, /nowhere/b.node');
    assert.throws(() => loadBinding(['/nowhere/a.node', '/nowhere/b.node']), isClear);
  });

  it('names the file that is there but is no addon', () => {
    const dir = mkdtempSync(join(tmpdir(), 'lamina-test-'));
    const path = join(dir, 'lamina.node');
    try {
      writeFileSync(path, 'not a library');
      assert.throws(() => loadBinding([path]), { code: Code.Unavailable, subject: path });
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
