import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { type ContainerRecord, fromContainerRecord } from '../../../src/shim/record.js';

const STDIO = { stdin: '/in', stdout: '/out', stderr: '/err', terminal: true };
const EXIT = { code: 3, timeNs: '1795897552072000000' };

/** No field has the value that it has when it is missing. */
const FULL: ContainerRecord = {
  id: 'web',
  bundle: '/run/bundles/web',
  options: {
    binaryName: '/usr/bin/runc',
    root: '/run/runc',
    systemdCgroup: true,
    noPivotRoot: true,
    noNewKeyring: true,
    shimCgroup: '/shims',
    ioUid: 7,
    ioGid: 8,
    criuPath: '/usr/bin/criu',
    criuImagePath: '/images',
    criuWorkPath: '/criu',
  },
  systemdCgroup: true,
  sharesPidNamespace: true,
  copyOutput: true,
  hasPoststopHooks: true,
  checkpoint: '/checkpoints/1',
  isFresh: true,
  cgroup: '0::/web\n',
  oomKills: '2',
  isShort: true,
  limits: { memory: { limit: 1048576 } },
  isSignaling: true,
  state: 'stopped',
  step: 'delete',
  init: { stdio: STDIO, pid: 100, reaped: EXIT, exit: EXIT },
  execs: { sh: { stdio: STDIO, pid: 101, reaped: EXIT, exit: EXIT, state: 'stopped', failed: true, step: 'start' } },
};

function readBack(record: object): ContainerRecord {
  return fromContainerRecord(Buffer.from(JSON.stringify(record)), 'c/web');
}

describe('the record of a container', () => {
  it('is read with everything that was written', () => {
    assert.deepEqual(readBack(FULL), FULL);
  });

  it('is read without what an engine before this one did not know', () => {
    const { isShort: _short, isSignaling: _signaling, hasPoststopHooks: _hooks, ...older } = FULL;
    assert.deepEqual(readBack(older), {
      ...older,
      isShort: undefined,
      isSignaling: undefined,
      hasPoststopHooks: undefined,
    });
  });

  for (const key of ['id', 'bundle', 'options', 'state', 'init', 'execs'] as const) {
    it(`is refused without ${key}, by name`, () => {
      const { [key]: _, ...rest } = FULL;
      assert.throws(() => readBack(rest), { code: Code.DataLoss, message: new RegExp(key) });
    });
  }
});
