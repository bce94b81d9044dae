import assert from 'node:assert/strict';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { Code } from '../../../../src/base/index.js';
import { attachDevicePolicy, type DevicePolicy, DeviceProgramError } from '../../../../src/cgroups/devices/index.js';
import { inUserNamespace } from '../../../../src/sys/index.js';
import { expectNoLeaks } from '../../sys/leaks.js';
import { type FakeOptions, FakePrograms } from './fake-programs.js';

const DENY_ALL: DevicePolicy = { allowByDefault: false, exceptions: [] };
const ALLOW_ALL: DevicePolicy = { allowByDefault: true, exceptions: [] };
const NEW = 101;

/**
 * What may be attached when a policy comes: nothing, ours, others' too, and with the flags of older
 * managers.
 */
const SITUATIONS: readonly FakeOptions[] = [
  {},
  { attached: [1] },
  { attached: [1], replace: false },
  { attached: [1, 2] },
  { attached: [1, 2, 3], replace: false },
  { attached: [1], flags: 0 },
  { attached: [1], flags: 1 },
];

const sorted = (ids: readonly number[]): number[] => [...ids].sort((a, b) => a - b);

describe('attaching a device policy', {
  skip: inUserNamespace() ? 'errors are passed over in a user namespace' : false,
}, () => {
  expectNoLeaks();
  const dir = mkdtempSync(join(tmpdir(), 'lamina-test-'));
  after(() => rmdirSync(dir));

  it('leaves it alone in its place, without a moment with none, and can be undone', (context) => {
    for (const situation of SITUATIONS) {
      const programs = new FakePrograms(context, situation);
      const { attached = [] } = situation;
      const applied = attachDevicePolicy(dir, DENY_ALL);
      assert.equal(applied.enforced, true);
      assert.deepEqual(programs.attached, [NEW]);
      applied.undo();
      assert.deepEqual(sorted(programs.attached), attached);
      assert.deepEqual(programs.open(), []);
      const steps = attached.length === 0 ? programs.history.slice(0, -1) : programs.history;
      assert.ok(steps.every((ids) => ids.length > 0));
      applied.undo();
      assert.deepEqual(sorted(programs.attached), attached);
    }
  });

  it('takes the only other one’s place in one step where the kernel can', (context) => {
    const programs = new FakePrograms(context, { attached: [1] });
    attachDevicePolicy(dir, DENY_ALL)[Symbol.dispose]();
    assert.deepEqual(programs.history, [[NEW]]);
    const older = new FakePrograms(context, { attached: [1], replace: false });
    attachDevicePolicy(dir, DENY_ALL)[Symbol.dispose]();
    assert.deepEqual(older.history, [[1, NEW], [NEW]]);
  });

  it('holds no descriptor once disposed, and is not undone any more', (context) => {
    const programs = new FakePrograms(context, { attached: [1, 2] });
    const applied = attachDevicePolicy(dir, DENY_ALL);
    applied[Symbol.dispose]();
    assert.deepEqual(programs.open(), []);
    applied.undo();
    assert.deepEqual(programs.attached, [NEW]);
  });

  it('leaves everything as it was, whichever call is refused', (context) => {
    for (const situation of SITUATIONS) {
      for (let refused = 1; ; refused += 1) {
        const refuse = (_call: string, count: number): string | undefined => (count === refused ? 'EIO' : undefined);
        const programs = new FakePrograms(context, { ...situation, refuse });
        const before = [...programs.attached];
        let error: unknown;
        try {
          attachDevicePolicy(dir, DENY_ALL)[Symbol.dispose]();
        } catch (thrown) {
          error = thrown;
        }
        assert.deepEqual(programs.open(), []);
        if (error === undefined) {
          assert.deepEqual(programs.attached, [NEW]);
          assert.ok(refused > 3, 'nothing was refused');
          break;
        }
        assert.ok(error instanceof DeviceProgramError);
        assert.equal(error.op, programs.calls[refused - 1]);
        assert.equal(error.errno, 'EIO');
        assert.equal(error.path, dir);
        assert.deepEqual(sorted(programs.attached), before);
        assert.ok(before.length === 0 || programs.history.every((ids) => ids.length > 0));
      }
    }
  });

  it('says so when what was changed cannot be put back', (context) => {
    let isBroken = false;
    const refuse = (call: string): string | undefined => {
      isBroken ||= call === 'detach';
      return isBroken ? 'EIO' : undefined;
    };
    const programs = new FakePrograms(context, { attached: [1, 2], refuse });
    assert.throws(() => attachDevicePolicy(dir, DENY_ALL), {
      message: /^detach device program .*; not restored: detach/,
    });
    assert.deepEqual(programs.attached, [1, 2, NEW]);
    assert.deepEqual(programs.open(), []);
  });

  it('loads again after a signal, and without a limit on locked memory after EPERM', (context) => {
    const refuse = (call: string, count: number, unlimited: boolean): string | undefined => {
      if (call !== 'load') return undefined;
      return count < 10 ? 'EAGAIN' : unlimited ? undefined : 'EPERM';
    };
    const programs = new FakePrograms(context, { refuse });
    attachDevicePolicy(dir, DENY_ALL)[Symbol.dispose]();
    assert.equal(programs.calls.filter((call) => call === 'load').length, 11);

    const never = new FakePrograms(context, { refuse: () => 'EAGAIN' });
    assert.throws(() => attachDevicePolicy(dir, DENY_ALL), { op: 'load', errno: 'EAGAIN' });
    assert.equal(never.calls.length, 30);
  });

  it('passes over programs that are gone, or not ours to open, in a group with several', (context) => {
    let opened = 0;
    const refuse = (call: string): string | undefined => {
      if (call === 'open') opened += 1;
      if (call === 'open' && opened <= 2) return opened === 1 ? 'EPERM' : 'ENOENT';
      return undefined;
    };
    const programs = new FakePrograms(context, { attached: [1, 2, 3], refuse });
    const applied = attachDevicePolicy(dir, DENY_ALL);
    assert.deepEqual(sorted(programs.attached), [1, 2, NEW]);
    applied.undo();
    assert.deepEqual(sorted(programs.attached), [1, 2, 3]);

    const single = new FakePrograms(context, {
      attached: [1],
      flags: 1,
      refuse: (call) => (call === 'open' ? 'EPERM' : undefined),
    });
    assert.throws(() => attachDevicePolicy(dir, DENY_ALL), { op: 'open', code: Code.PermissionDenied });
    assert.deepEqual(single.attached, [1]);
  });

  it('does without when the kernel refuses and everything is allowed anyway', (context) => {
    const programs = new FakePrograms(context, { refuse: () => 'EPERM' });
    const applied = attachDevicePolicy(dir, ALLOW_ALL);
    assert.equal(applied.enforced, false);
    applied.undo();
    applied[Symbol.dispose]();
    const allButOne: DevicePolicy = {
      allowByDefault: true,
      exceptions: [{ type: 'c', major: 1, minor: 5, access: 'r' }],
    };
    assert.throws(() => attachDevicePolicy(dir, allButOne), { op: 'load', code: Code.PermissionDenied });
    assert.deepEqual(programs.attached, []);
  });

  it('names a directory that is not there', () => {
    assert.throws(() => attachDevicePolicy(join(dir, 'none'), ALLOW_ALL), {
      name: 'CgroupFileError',
      code: Code.NotFound,
    });
  });
});
