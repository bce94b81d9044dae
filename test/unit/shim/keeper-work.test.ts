import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Code, createDeferred } from '../../../src/base/index.js';
import { type ExitStatus, nodeSpawner, type SpawnedProcess } from '../../../src/oci/index.js';
import { keeperWork } from '../../../src/shim/keeper-work.js';
import { parseWorkError, workerCandidates } from '../../../src/sys/index.js';
import { runWork } from '../../lib/work.js';

describe('work of a keeper’s child', () => {
  let dir = '';
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'lamina-work-'));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  it('writes to the descriptors it is given, in order', async () => {
    const paths = ['a', 'b'].map((name) => join(dir, name));
    const fds = paths.map((path) => openSync(path, 'w'));
    await runWork({ what: 'limits', args: ['write', 'first', 'second'], fds });
    for (const fd of fds) closeSync(fd);
    assert.deepEqual(
      paths.map((path) => readFileSync(path, 'utf8')),
      ['first', 'second'],
    );
  });

  it('stops at the first write that fails, and says which that is and why', async () => {
    writeFileSync(join(dir, 'read-only'), '');
    const fds = [openSync(join(dir, 'a'), 'w'), openSync(join(dir, 'read-only'), 'r'), openSync(join(dir, 'c'), 'w')];
    await assert.rejects(runWork({ what: 'limits', args: ['write', 'x', 'y', 'z'], fds }), {
      code: 'EBADF',
      errno: -9,
      syscall: 'write',
      index: 1,
      message: 'EBADF: bad file descriptor, write',
    });
    for (const fd of fds) closeSync(fd);
    assert.deepEqual(
      ['a', 'c'].map((name) => readFileSync(join(dir, name), 'utf8')),
      ['x', ''],
    );
  });

  it('is killed when it has had its time', async () => {
    const fifo = join(dir, 'fifo');
    execFileSync('mkfifo', [fifo]);
    const fd = openSync(fifo, 'r+');
    // More than a FIFO holds.
    const work = { what: 'limits', args: ['write', 'x'.repeat(100_000)], fds: [fd], timeoutMs: 50 };
    await assert.rejects(runWork(work), { code: Code.DeadlineExceeded, message: 'limits test: killed after 50 ms' });
    closeSync(fd);
  });

  it('waits for what a predecessor engine has begun of the same kind', async () => {
    const fd = openSync(join(dir, 'file'), 'w');
    const ended = createDeferred<ExitStatus>();
    const before: SpawnedProcess[] = [{ pid: 1, exited: ended.promise, kill: () => undefined }];
    const asked: string[] = [];
    const work = keeperWork(
      {
        spawn: nodeSpawner.spawn,
        inheritedRun: (name) => {
          asked.push(name);
          return before.pop();
        },
      },
      'web',
    );
    const done = work({ what: 'limits', args: ['write', 'mine'], fds: [fd] });
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(readFileSync(join(dir, 'file'), 'utf8'), '');
    ended.resolve({ code: 0, signal: undefined, timeNs: 0n });
    await done;
    assert.equal(readFileSync(join(dir, 'file'), 'utf8'), 'mine');
    assert.deepEqual(asked, ['limits web', 'limits web']);
    closeSync(fd);
  });
});

describe('worker', () => {
  it('is looked for beside the bundle, then in the build folder of a checkout', () => {
    assert.deepEqual(workerCandidates('/a/dist/src/sys'), [
      '/a/dist/src/sys/lamina-worker',
      '/a/dist/src/sys/build/lamina-worker',
      '/a/dist/src/build/lamina-worker',
      '/a/dist/build/lamina-worker',
      '/a/build/lamina-worker',
    ]);
  });

  it('says what failed, and what it could not undo', () => {
    const error = parseWorkError('16\0umount\0/a b\x002\0mount on /a: busy\0mount on /b: busy\0');
    assert.equal(error.message, "EBUSY: resource busy or locked, umount '/a b'");
    assert.deepEqual([error.code, error.index, error.path], ['EBUSY', 2, '/a b']);
    assert.deepEqual(error.left, ['mount on /a: busy', 'mount on /b: busy']);
    assert.equal(parseWorkError('3\0write\0\x000\0').path, undefined);
  });

  it('is not believed when it says nothing, or something else', () => {
    for (const output of ['', 'x\0write\0\x000\0', '3\0write']) {
      assert.throws(() => parseWorkError(output), { code: Code.Internal });
    }
  });
});
