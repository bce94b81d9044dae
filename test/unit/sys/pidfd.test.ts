import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { describe, it } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { binding, Pidfd } from '../../../src/sys/index.js';
import { expectNoLeaks } from './leaks.js';

const { SIGKILL, SIGTERM } = constants.signals;

async function start(script: string): Promise<[ChildProcess, number]> {
  const child = spawn('/bin/sh', ['-c', script], { stdio: ['pipe', 'ignore', 'ignore'] });
  await once(child, 'spawn');
  assert.ok(child.pid !== undefined);
  return [child, child.pid];
}

/** Whether this kernel tells the exit status of a reaped process (6.15). */
async function tellsExitStatus(): Promise<boolean> {
  const [child, pid] = await start('read line');
  using pidfd = Pidfd.open(pid);
  const closed = once(child, 'close');
  child.stdin?.end();
  await closed;
  return pidfd.exitStatus() !== null;
}

describe('pidfd', () => {
  expectNoLeaks();

  it('signals a process and sees it end', async () => {
    const [child, pid] = await start('exec sleep 1000');
    using pidfd = Pidfd.open(pid);
    const exit = once(child, 'close');
    const exited = pidfd.exited;
    assert.equal(pidfd.signal(0), true);
    assert.equal(pidfd.exitStatus(), null);
    assert.equal(pidfd.signal(SIGKILL), true);
    await exited;
    await pidfd.exited;
    assert.deepEqual(await exit, [null, 'SIGKILL']);
    assert.equal(pidfd.signal(SIGTERM), false);
  });

  it('knows the exit status after the reaping, in wait(2) format', async (t) => {
    if (!(await tellsExitStatus())) {
      t.skip('needs Linux 6.15: PIDFD_GET_INFO with exit status');
      return;
    }
    for (const [script, status] of [
      ['read line; exit 42', 42 << 8],
      ['read line; kill -9 $$', 9],
    ] as const) {
      const [child, pid] = await start(script);
      using pidfd = Pidfd.open(pid);
      const closed = once(child, 'close');
      child.stdin?.end();
      await closed;
      assert.equal(pidfd.exitStatus(), status);
    }
  });

  it('refuses a process that does not exist, and an unknown signal', () => {
    assert.throws(() => Pidfd.open(2 ** 22 + 1), { code: 'ESRCH', syscall: 'pidfd_open' });
    using self = Pidfd.open(process.pid);
    assert.throws(() => self.signal(1000), { code: 'EINVAL' });
    assert.throws(() => binding().pidfdSignalGroup(self.fd, 0, 1000), { syscall: 'pidfd_send_signal' });
  });

  it('rejects the wait when it is closed first, and refuses further use', async () => {
    const pidfd = Pidfd.open(process.pid);
    const exited = pidfd.exited;
    pidfd[Symbol.dispose]();
    pidfd[Symbol.dispose]();
    await assert.rejects(exited, { code: Code.Canceled });
    assert.throws(() => pidfd.signal(0), { code: Code.FailedPrecondition });
  });
});
