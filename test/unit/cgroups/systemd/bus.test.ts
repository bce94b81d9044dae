import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, it } from 'node:test';
import fc from 'fast-check';
import { Code, LaminaError } from '../../../../src/base/index.js';
import { busAddresses, parseBusAddresses } from '../../../../src/cgroups/systemd/address.js';
import { loadBusCodec } from '../../../../src/cgroups/systemd/bus.js';
import { SystemdError } from '../../../../src/cgroups/systemd/errors.js';
import { parseVersion, SystemdManager } from '../../../../src/cgroups/systemd/manager.js';
import { LATE_MS, until, within } from '../../../lib/wait.js';
import { FakeBus, type Reaction } from './fake-bus.js';

const JOB = '/org/freedesktop/systemd1/job/7';
const UNIT = 'p-n.scope';

let bus: FakeBus | undefined;
let manager: SystemdManager | undefined;

/** A manager at a fake bus. */
async function at(react: Reaction, timeoutMs = LATE_MS): Promise<{ bus: FakeBus; manager: SystemdManager }> {
  bus = await FakeBus.start(react);
  manager = new SystemdManager({ environment: bus.environment, timeoutMs });
  return { bus, manager };
}

afterEach(async () => {
  manager?.close();
  await bus?.stop();
  bus = undefined;
  manager = undefined;
});

function fails(code: Code, text: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof LaminaError, String(error));
    assert.match(error.message, text);
    assert.equal(error.code, code);
    return true;
  };
}

describe('addresses', () => {
  it('are the unix sockets of a list', () => {
    assert.deepEqual(parseBusAddresses('unix:path=/a,guid=1;unix:abstract=b;tcp:host=x;unix:path=/c%20d'), [
      '/a',
      '\0b',
      '/c d',
    ]);
    assert.deepEqual(parseBusAddresses('autolaunch:'), []);
    fc.assert(fc.property(fc.string(), (text) => void parseBusAddresses(text)));
  });

  it('of the system: its bus, then for root its own socket', () => {
    const system = { path: '/run/dbus/system_bus_socket', isPrivate: false };
    assert.deepEqual(busAddresses('system', { env: {}, uid: 1000 }), [system]);
    assert.deepEqual(busAddresses('system', { env: {}, uid: 0 }), [
      system,
      { path: '/run/systemd/private', isPrivate: true },
    ]);
  });

  it('of a user: what the environment says', () => {
    const runtime = { XDG_RUNTIME_DIR: '/run/user/7' };
    const own = { path: '/run/user/7/systemd/private', isPrivate: true };
    assert.deepEqual(busAddresses('user', { env: runtime, uid: 7 }), [
      { path: '/run/user/7/bus', isPrivate: false },
      own,
    ]);
    assert.deepEqual(busAddresses('user', { env: { ...runtime, DBUS_SESSION_BUS_ADDRESS: 'unix:path=/x' }, uid: 7 }), [
      { path: '/x', isPrivate: false },
      own,
    ]);
    assert.throws(() => busAddresses('user', { env: {}, uid: 7 }), fails(Code.Unavailable, /XDG_RUNTIME_DIR/));
  });
});

it('the version is the number in front', () => {
  for (const [text, version] of [
    ['262.1-1', 262],
    ['v245.4-1.fc32', 245],
    ['257', 257],
    ['', 0],
    ['next', 0],
  ] as const) {
    assert.equal(parseVersion(text), version);
  }
});

describe('the codec', () => {
  it('throws DataLoss at bytes that are no message, and nothing else', async () => {
    const codec = await loadBusCodec();
    const good = codec.encode({ path: '/a', interface: 'a.b', member: 'M', signature: 'st', body: ['x', 5n] }, 9);
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length), (where, byte, cut) => {
        const bad = Buffer.from(good);
        bad[where] = byte;
        try {
          const decode = codec.decoder(() => undefined);
          decode(bad.subarray(0, cut));
          decode(bad.subarray(cut));
        } catch (error) {
          if (!(error instanceof LaminaError) || error.code !== Code.DataLoss) throw error;
        }
      }),
      { numRuns: 500 },
    );
  });

  it('puts messages together from any pieces', async () => {
    const codec = await loadBusCodec();
    const call = (member: string): Buffer =>
      codec.encode({ path: '/a', interface: 'a.b', member, signature: 'sau', body: ['text', [1, 2]] }, 3);
    const bytes = Buffer.concat([call('One'), call('Two')]);
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      const members: unknown[] = [];
      const decode = codec.decoder((message) => members.push(message.member, message.body));
      decode(bytes.subarray(0, cut));
      decode(bytes.subarray(cut));
      assert.deepEqual(members, ['One', ['text', [1, 2]], 'Two', ['text', [1, 2]]], `cut at ${cut}`);
    }
  });

  it('refuses values that do not fit', async () => {
    const codec = await loadBusCodec();
    const refused = fails(Code.InvalidArgument, /Method/);
    for (const [signature, value] of [
      ['t', -1n],
      ['u', 'x'],
      ['s', 5],
      ['y', 256],
    ] as const) {
      assert.throws(
        () => codec.encode({ path: '/a', interface: 'a.b', member: 'Method', signature, body: [value] }, 1),
        refused,
      );
    }
  });
});

describe('a bus that misbehaves', () => {
  it('that is not there is Unavailable', async () => {
    const nowhere = { env: { DBUS_SYSTEM_BUS_ADDRESS: 'unix:path=/nowhere/bus' }, uid: 1000 };
    const absent = new SystemdManager({ environment: nowhere });
    await assert.rejects(absent.version(), fails(Code.Unavailable, /connect .*\/nowhere\/bus/));
  });

  it('that takes the connection and never says a word costs the deadline, no more', async () => {
    const hung = await at(() => undefined, 150);
    hung.bus.authenticates = false;
    await assert.rejects(
      within('the call', LATE_MS, hung.manager.version()),
      fails(Code.DeadlineExceeded, /authenticate.*150 ms/),
    );
  });

  it('whose systemd hangs gives DeadlineExceeded, with unit and method', async () => {
    let hangs = false;
    const hung = await at((call, self) => {
      if (!hangs) self.value(call, 's', '262');
    }, 150);
    // So short a deadline may pass while the connection is made.
    await until('they are connected', () => hung.manager.version().then(Boolean, () => false));
    hangs = true;
    const { connections } = hung.bus;
    await assert.rejects(within('the call', LATE_MS, hung.manager.resetFailedUnit(UNIT)), (error) => {
      assert.ok(error instanceof SystemdError);
      assert.equal(error.code, Code.DeadlineExceeded);
      assert.deepEqual([error.unit, error.method, error.subject], [UNIT, 'ResetFailedUnit', UNIT]);
      return true;
    });
    // It was slow only: the connection is as good as ever, and the late answer disturbs nobody.
    const [late] = hung.bus.calls.filter(({ member }) => member === 'ResetFailedUnit');
    if (late !== undefined) hung.bus.reply(late);
    await assert.rejects(hung.manager.controlGroup(), fails(Code.DeadlineExceeded, /ControlGroup/));
    assert.equal(hung.bus.connections, connections);
  });

  it('whose job never ends gives DeadlineExceeded', async () => {
    const { manager: slow } = await at((call, fake) => {
      if (call.member === 'StopUnit') fake.reply(call, 'o', [JOB]);
      else fake.reply(call);
    }, 1000);
    await assert.rejects(
      slow.stopUnit(UNIT),
      fails(Code.DeadlineExceeded, /StopUnit p-n.scope: the job is not done within 1000 ms/),
    );
  });

  it('that answers with garbage loses the connection, and the call is repeated once on a new one', async () => {
    let garbage = 0;
    const { bus: fake, manager: client } = await at((call, self) => {
      garbage += 1;
      if (garbage === 1) call.socket.write(Buffer.alloc(64, 0xff));
      else self.value(call, 's', '262.1');
    });
    assert.equal(await client.version(), 262);
    assert.equal(fake.connections, 2);
  });

  it('that closes in the middle of every call is Unavailable after the second', async () => {
    const { bus: fake, manager: client } = await at((call) => void call.socket.destroy());
    await assert.rejects(client.version(), fails(Code.Unavailable, /connection to systemd lost/));
    assert.equal(fake.connections, 2);
  });

  it('that has closed an idle connection is connected to again', async () => {
    const { bus: fake, manager: client } = await at((call, self) => self.value(call, 's', '257'));
    assert.equal(await client.version(), 257);
    fake.calls[0]?.socket.end();
    await until('the next connection', async () => (await client.version()) === 257 && fake.connections === 2);
  });

  it('that refuses is quoted', async () => {
    const { manager: client } = await at((call, fake) =>
      fake.refuse(call, 'org.freedesktop.DBus.Error.AccessDenied', 'go away'),
    );
    await assert.rejects(client.setUnitProperties(UNIT, []), (error) => {
      assert.ok(error instanceof SystemdError);
      assert.equal(error.code, Code.PermissionDenied);
      assert.equal(error.errorName, 'org.freedesktop.DBus.Error.AccessDenied');
      assert.match(error.message, /SetUnitProperties p-n.scope: go away/);
      return true;
    });
  });

  it('with a full backlog is tried again', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'lamina-bus-'));
    const path = join(directory, 'bus');
    const program = `require('net').createServer().listen({ path: process.argv[1], backlog: 1 }, () => console.log('ready'))`;
    const server: ChildProcess = spawn(process.execPath, ['-e', program, path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const fillers: Socket[] = [];
    const client = new SystemdManager({
      environment: { env: { DBUS_SYSTEM_BUS_ADDRESS: `unix:path=${path}` }, uid: 1 },
      timeoutMs: 1500,
    });
    try {
      await new Promise((resolve) => server.stdout?.once('data', resolve));
      server.kill('SIGSTOP');
      // Connections nobody accepts, until one is refused.
      const isFull = (): Promise<boolean> =>
        new Promise((resolve) => {
          const filler = connect(path, () => resolve(false));
          filler.on('error', () => resolve(true));
          fillers.push(filler);
        });
      await until('the backlog is full', isFull);
      const started = performance.now();
      await assert.rejects(client.version(), fails(Code.Unavailable, /EAGAIN/));
      assert.ok(performance.now() - started > 200, 'it was tried more than once');
      server.kill('SIGCONT');
      // It accepts now, and says nothing.
      await until('there is room', async () => !(await isFull()));
      await assert.rejects(client.version(), fails(Code.DeadlineExceeded, /authenticate/));
    } finally {
      for (const filler of fillers) filler.destroy();
      server.kill('SIGKILL');
      rmSync(directory, { recursive: true });
    }
  });
});

describe('jobs', () => {
  /** A systemd whose jobs end as they should, with a result. */
  function jobs(result: string, react: Reaction = () => undefined): Reaction {
    return (call, fake) => {
      if (/^(StartTransient|Start|Stop)Unit$/.test(call.member)) {
        // The end may be told before the answer to the call.
        fake.jobRemoved(call.socket, JOB, UNIT, result);
        fake.reply(call, 'o', [JOB]);
      } else if (call.member === 'AddMatch' || call.member === 'ResetFailedUnit') fake.reply(call);
      else react(call, fake);
    };
  }

  it('are listened for before they are asked for, and no longer than that', async () => {
    const { bus: fake, manager: client } = await at(jobs('done'));
    assert.equal(await client.startTransientUnit(UNIT, []), true);
    await until('the match is taken back', () => fake.calls.some(({ member }) => member === 'RemoveMatch'));
    assert.deepEqual(
      fake.calls.map(({ member }) => member),
      ['Hello', 'AddMatch', 'StartTransientUnit', 'RemoveMatch'],
    );
  });

  for (const result of ['canceled', 'timeout', 'failed', 'dependency', 'skipped']) {
    it(`that end with "${result}" are errors, and the unit is reset`, async () => {
      const { bus: fake, manager: client } = await at(jobs(result));
      await assert.rejects(client.startTransientUnit(UNIT, []), (error) => {
        assert.ok(error instanceof SystemdError);
        assert.deepEqual([error.result, error.code, error.unit], [result, Code.FailedPrecondition, UNIT]);
        return true;
      });
      assert.ok(fake.calls.some(({ member }) => member === 'ResetFailedUnit'));
    });
  }

  it('of a unit that exists are tried once more after a reset', async () => {
    let starts = 0;
    const exists = 'org.freedesktop.systemd1.UnitExists';
    const refusing =
      (count: number): Reaction =>
      (call, fake) => {
        if (call.member === 'StartTransientUnit') starts += 1;
        if (call.member === 'StartTransientUnit' && starts <= count) fake.refuse(call, exists, 'exists');
        else jobs('done')(call, fake);
      };
    const once = await at(refusing(1));
    assert.equal(await once.manager.startTransientUnit(UNIT, []), true);
    assert.equal(starts, 2);
    once.manager.close();
    await once.bus.stop();
    starts = 0;
    const always = await at(refusing(9));
    await assert.rejects(always.manager.startTransientUnit(UNIT, []), fails(Code.AlreadyExists, /exists/));
    assert.equal(starts, 2);
    assert.equal(await always.manager.startTransientUnit('a.slice', []), false, 'a slice may be there');
    assert.ok(
      always.bus.calls.some(({ member }) => member === 'StartUnit'),
      'if only as a file',
    );
  });

  it('whose end was missed with the connection are asked after', async () => {
    for (const [state, isFine] of [
      ['active', true],
      ['failed', false],
    ] as const) {
      const { manager: client, bus: fake } = await at((call, self) => {
        if (call.member === 'StartTransientUnit') {
          self.reply(call, 'o', [JOB]);
          call.socket.end();
        } else if (call.member === 'GetJob') self.refuse(call, 'org.freedesktop.systemd1.NoSuchJob', 'no such job');
        else if (call.member === 'Get') self.value(call, 's', state);
        else self.reply(call);
      });
      const started = client.startTransientUnit(UNIT, []);
      if (isFine) assert.equal(await started, true);
      else await assert.rejects(started, fails(Code.FailedPrecondition, /ended with "failed"/));
      assert.equal(fake.calls.filter(({ member }) => member === 'StartTransientUnit').length, 1, 'not started twice');
      client.close();
      await fake.stop();
      bus = undefined;
    }
  });
});

it('an idle connection does not keep a process alive', async () => {
  const { bus: fake } = await at((call, self) => self.value(call, 's', '262'));
  const module = new URL('../../../../src/cgroups/systemd/manager.js', import.meta.url).href;
  const program = `import(${JSON.stringify(module)}).then(async ({ SystemdManager }) => {
    console.log(await new SystemdManager({ environment: { env: process.env, uid: 1 } }).version());
  })`;
  const child = spawn(process.execPath, ['-e', program], {
    env: fake.environment.env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (text: Buffer) => {
    output += String(text);
  });
  const status = await within('exit', 20_000, new Promise((resolve) => child.once('close', resolve)));
  assert.deepEqual([status, output.trim()], [0, '262']);
});
