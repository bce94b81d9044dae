import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, readSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createDeferred } from '../../../src/base/index.js';
import {
  acceptUnix,
  binding,
  connectUnix,
  listenUnix,
  POLLIN,
  peerCredentials,
  sharedPoller,
} from '../../../src/sys/index.js';
import { closeFds, expectNoLeaks } from './leaks.js';

describe('unix sockets', () => {
  expectNoLeaks();

  it('pass a descriptor to whoever connects, as a console socket does', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'lamina-test-'));
    const path = join(dir, 'console');
    const listener = listenUnix(path, { type: 'stream' });
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const { promise, resolve } = createDeferred<number>();
    const watch = sharedPoller().watch(listener, POLLIN, () => {
      const fd = acceptUnix(listener);
      if (fd !== null) resolve(fd);
    });
    const client = connectUnix(path, 'stream');
    const server = await promise;
    watch[Symbol.dispose]();
    assert.equal(peerCredentials(server).pid, process.pid);

    const [master, slave] = binding().openPty();
    assert.equal(binding().recvMessage(server, 64), null);
    assert.equal(binding().sendMessage(client, Buffer.from(slave), [master]), true);
    closeSync(master);
    const received = binding().recvMessage(server, 64);
    assert.equal(received?.data.toString(), slave);
    const [console] = received?.fds ?? [];
    assert.ok(console !== undefined);
    binding().setWindowSize(console, 80, 24);
    assert.deepEqual(binding().windowSize(console), [80, 24]);
    closeFds([console, client]);
    assert.equal(binding().recvMessage(server, 64)?.data.length, 0);
    closeFds([server, listener]);
    rmSync(dir, { recursive: true });
  });

  it('refuse a stream message that is taken only in part', () => {
    const [left, right] = binding().socketPair('stream');
    writeSync(left, 'x');
    assert.throws(() => binding().sendMessage(left, Buffer.alloc(32 * 1024 * 1024), []), { code: 'EMSGSIZE' });
    assert.equal(readSync(right, Buffer.alloc(1)), 1);
    closeFds([left, right]);
  });
});
