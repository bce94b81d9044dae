import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, beforeEach, describe, it } from 'node:test';
import { Code, codeOf } from '../../../../src/base/index.js';
import { createSystemdCgroup } from '../../../../src/cgroups/systemd/create.js';
import { systemdManager } from '../../../../src/cgroups/systemd/manager.js';
import { LATE_MS, until } from '../../../lib/wait.js';
import { FakeBus, type Reaction } from './fake-bus.js';

const JOB = '/org/freedesktop/systemd1/job/7';
const UNIT = 'p-n.scope';

/** What a systemd says to everything but what a test is about. */
const answers: Record<string, Reaction> = {
  Get: (call, bus) => {
    if (call.text.includes('ActiveState')) bus.value(call, 's', 'inactive');
    else if (call.text.includes('ControlGroup')) bus.value(call, 's', '/system.slice/p-n.scope');
    else bus.value(call, 's', '262');
  },
  StartTransientUnit: (call, bus) => {
    bus.reply(call, 'o', [JOB]);
    bus.jobRemoved(call.socket, JOB, UNIT, 'done');
  },
  StopUnit: (call, bus) => {
    bus.reply(call, 'o', [JOB]);
    bus.jobRemoved(call.socket, JOB, UNIT, 'done');
  },
};

describe('a create that systemd fails', () => {
  let bus: FakeBus;
  let special: Record<string, Reaction> = {};
  const address = process.env['DBUS_SYSTEM_BUS_ADDRESS'];

  before(async () => {
    bus = await FakeBus.start((call, self) => {
      const react = special[call.member] ?? answers[call.member];
      if (react === undefined) self.reply(call);
      else react(call, self);
    });
    process.env['DBUS_SYSTEM_BUS_ADDRESS'] = bus.environment.env['DBUS_SYSTEM_BUS_ADDRESS'];
  });

  after(async () => {
    if (address === undefined) delete process.env['DBUS_SYSTEM_BUS_ADDRESS'];
    else process.env['DBUS_SYSTEM_BUS_ADDRESS'] = address;
    systemdManager('system').close();
    await bus.stop();
  });

  beforeEach(() => {
    special = {};
    bus.calls.length = 0;
  });

  /** Fails with this code, and leaves no process that holds the scope. */
  async function fails(code: Code, timeoutMs = LATE_MS): Promise<string[]> {
    let opened = false;
    const create = createSystemdCgroup({ path: ':p:n', systemd: { bus: 'system', timeoutMs } }, async () => {
      opened = true;
      throw new Error('no such group');
    });
    await assert.rejects(create, (error) => {
      assert.equal(codeOf(error), code, String(error));
      return true;
    });
    assert.equal(opened, code === Code.Unknown);
    const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').split(' ').filter(Boolean);
    for (const pid of children) {
      const isOurs = (): boolean =>
        existsSync(`/proc/${pid}/comm`) && readFileSync(`/proc/${pid}/comm`, 'utf8') === 'cat\n';
      await until('nobody holds the scope', () => !isOurs());
    }
    return bus.calls.map(({ member }) => member);
  }

  it('by no answer stops the unit that may come yet', async () => {
    special['StartTransientUnit'] = () => undefined;
    const calls = await fails(Code.DeadlineExceeded, 2000);
    assert.deepEqual(
      calls.filter((member) => /Unit$/.test(member)),
      ['StartTransientUnit', 'StopUnit', 'ResetFailedUnit'],
    );
  });

  it('by a job that fails stops what it has made', async () => {
    special['StartTransientUnit'] = (call, self) => {
      self.reply(call, 'o', [JOB]);
      self.jobRemoved(call.socket, JOB, UNIT, 'failed');
    };
    assert.ok((await fails(Code.FailedPrecondition)).includes('StopUnit'));
  });

  it('by refusing does not stop anything', async () => {
    special['StartTransientUnit'] = (call, self) => self.refuse(call, 'org.freedesktop.systemd1.UnitExists', 'exists');
    const calls = await fails(Code.AlreadyExists);
    assert.equal(calls.filter((member) => member === 'StartTransientUnit').length, 2, 'once more after a reset');
    assert.ok(!calls.includes('StopUnit'), 'it is somebody else’s');
  });

  it('for a unit that runs does not start, nor stop, anything', async () => {
    special['Get'] = (call, self) => self.value(call, 's', call.text.includes('ActiveState') ? 'active' : '262');
    const calls = await fails(Code.AlreadyExists);
    assert.deepEqual(
      calls.filter((member) => /Unit$/.test(member)),
      [],
    );
  });

  it('or the group does, stops the unit', async () => {
    assert.ok((await fails(Code.Unknown)).includes('StopUnit'));
  });
});
