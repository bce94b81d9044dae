/**
 * Device policies in force on real cgroup2 groups, also where cgroup2 is mounted beside v1 and has
 * no controllers.
 */
import assert from 'node:assert/strict';
import { execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { dirname, join } from 'node:path';
import { after, afterEach, describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { Code } from '../../../src/base/index.js';
import {
  attachDevicePolicy,
  compileDeviceProgram,
  containerDevicePolicy,
  type DevicePolicy,
  DeviceProgramError,
  simplifyDeviceRules,
} from '../../../src/cgroups/devices/index.js';
import { Cgroup, currentLayout } from '../../../src/cgroups/index.js';
import type { DeviceRule } from '../../../src/oci/index.js';
import { binding } from '../../../src/sys/index.js';
import { requires } from '../../lib/requires.js';
import { LATE_MS, within } from '../../lib/wait.js';
import { V1Devices } from '../../unit/cgroups/devices/model.js';
import { simplifyUnlessRefused } from '../../unit/cgroups/devices/refused.js';
import type { Answer, Request } from './device-user.js';
import { TestGroup } from './group.js';

const DENY_ALL: DeviceRule = { allow: false, access: 'rwm' };
const ALLOW_NULL: DeviceRule = { allow: true, type: 'c', major: 1, minor: 3, access: 'rwm' };
const WRITE_ZERO: DeviceRule = { allow: true, type: 'c', major: 1, minor: 5, access: 'w' };
const NULL_ONLY = simplifyDeviceRules([DENY_ALL, ALLOW_NULL]);
const ALLOW_ALL: DevicePolicy = { allowByDefault: true, exceptions: [] };
const USER = join(dirname(fileURLToPath(import.meta.url)), 'device-user.js');
const { O_RDONLY, O_WRONLY, O_RDWR } = fs.constants;
const MULTI = 2;
const noSystemd = requires({ systemd: true });

function run(program: string, args: readonly string[]): Promise<{ stdout: string }> {
  return promisify(execFile)(program, args, { timeout: LATE_MS });
}

function v2Root(): string | undefined {
  const layout = currentLayout();
  return layout.mode === 'legacy' ? undefined : layout.unified?.mountPoint;
}

/** Why nothing can be tried here. */
function missing(): string | false {
  const reason = requires({ root: true, programs: ['unshare', 'mknod'] });
  if (reason !== false) return reason;
  if (v2Root() === undefined) return 'no cgroup2 is mounted';
  try {
    fs.closeSync(binding().bpfLoadDevice(compileDeviceProgram(ALLOW_ALL), false));
    return false;
  } catch (error) {
    console.log(`skipped: device programs: ${String(error)}`);
    return `this kernel does not load device programs: ${String(error)}`;
  }
}

/** A process in a group that opens devices as told. */
class DeviceUser {
  readonly #child = fork(USER, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });

  constructor(dir: string) {
    fs.writeFileSync(`${dir}/cgroup.procs`, String(this.#child.pid));
  }

  async ask(request: Request): Promise<Answer> {
    this.#child.send(request);
    const [answer] = await within(JSON.stringify(request), LATE_MS, once(this.#child, 'message'));
    return answer;
  }

  async open(path: string, flags: number): Promise<string> {
    const [outcome = ''] = (await this.ask({ open: [{ path, flags }] })).outcomes;
    return outcome;
  }
}

function programsOf(dir: string): { flags: number; ids: number[] } {
  const fd = fs.openSync(dir, 'r');
  try {
    const { flags, ids } = binding().bpfQueryDevice(fd);
    return { flags, ids: ids.sort((a, b) => a - b) };
  } finally {
    fs.closeSync(fd);
  }
}

/** Attaches a program as another manager would. */
function attachForeign(dir: string, policy: DevicePolicy, flags = MULTI): void {
  const group = fs.openSync(dir, 'r');
  const program = binding().bpfLoadDevice(compileDeviceProgram(policy), false);
  try {
    binding().bpfAttachDevice(group, program, flags, -1);
  } finally {
    fs.closeSync(program);
    fs.closeSync(group);
  }
}

function heldPrograms(): string[] {
  return fs.readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`).includes('bpf-prog');
    } catch {
      // The directory's own descriptor, closed since.
      return false;
    }
  });
}

describe('device policy on cgroup2', { skip: missing() }, () => {
  const root = v2Root() ?? '';
  const scratch = fs.mkdtempSync('/tmp/lamina-test-');
  const groups: TestGroup[] = [];
  after(() => fs.rmSync(scratch, { recursive: true }));
  afterEach(async () => {
    for (const group of groups.splice(0).reverse()) await group.remove();
    assert.deepEqual(heldPrograms(), [], 'descriptors of programs left open');
  });

  function makeGroup(parent = root): string {
    const dir = `${parent}/lamina-test-${process.pid}-${groups.length}`;
    groups.push(new TestGroup([dir]));
    return dir;
  }

  it('denies what it does not allow, whole or in part, and making nodes', async () => {
    const dir = makeGroup();
    const user = new DeviceUser(dir);
    assert.equal(await user.open('/dev/zero', O_RDONLY), 'ok');
    const policy = simplifyDeviceRules([DENY_ALL, ALLOW_NULL, WRITE_ZERO]);
    using applied = attachDevicePolicy(dir, policy);
    assert.equal(applied.enforced, true);
    assert.equal(await user.open('/dev/null', O_RDWR), 'ok');
    assert.equal(await user.open('/dev/zero', O_WRONLY), 'ok');
    assert.equal(await user.open('/dev/zero', O_RDONLY), 'EPERM');
    assert.equal(await user.open('/dev/zero', O_RDWR), 'EPERM');
    assert.equal(await user.open('/dev/full', O_RDONLY), 'EPERM');
    const makeNode = async (name: string, numbers: [number, number]): Promise<string> => {
      const { outcomes } = await user.ask({ mknod: { path: join(scratch, name), numbers } });
      return outcomes.join();
    };
    assert.equal(await makeNode('null', [1, 3]), 'ok');
    assert.match(await makeNode('zero', [1, 5]), /not permitted/);
    assert.ok(!fs.existsSync(join(scratch, 'zero')));
  });

  it('lets a container use the default devices', async () => {
    const dir = makeGroup();
    const user = new DeviceUser(dir);
    using _ = attachDevicePolicy(dir, containerDevicePolicy([DENY_ALL]));
    for (const name of ['null', 'zero', 'full', 'random', 'urandom']) {
      assert.equal(await user.open(`/dev/${name}`, O_RDWR), 'ok', name);
    }
    assert.equal(await user.open('/dev/kmsg', O_RDONLY), 'EPERM');
    const { outcomes } = await user.ask({ mknod: { path: join(scratch, 'kmsg'), numbers: [1, 11] } });
    assert.deepEqual(outcomes, ['ok']);
  });

  it('is what Cgroup.create and set put in force, the default devices added, and no descriptor stays', async () => {
    const layout = currentLayout();
    assert.ok(layout.mode !== 'legacy');
    const unified = { mode: 'unified', unified: layout.unified } as const;
    const path = `/lamina-test-${process.pid}-created`;
    const group = await Cgroup.create({ path, layout: unified, resources: { devices: [DENY_ALL] } });
    try {
      const user = new DeviceUser(`${root}${path}`);
      assert.equal(await user.open('/dev/null', O_RDWR), 'ok');
      assert.equal(await user.open('/dev/kmsg', O_RDONLY), 'EPERM');
      for (let i = 0; i < 3; i += 1) await group.set({ devices: [{ allow: true, access: 'rwm' }] });
      assert.equal(await user.open('/dev/kmsg', O_RDONLY), 'ok');
      assert.deepEqual(group.resources.devices, [{ allow: true, access: 'rwm' }]);
      assert.deepEqual(heldPrograms(), []);
    } finally {
      await group.kill();
      await group.destroy();
    }
  });

  it('replaces the programs of others, and brings them back when undone', async () => {
    for (const [count, flags] of [
      [0, MULTI],
      [1, MULTI],
      [2, MULTI],
      [1, 0],
      [1, 1],
    ] as const) {
      const dir = makeGroup();
      const user = new DeviceUser(dir);
      for (let made = 0; made < count; made += 1) attachForeign(dir, NULL_ONLY, flags);
      const foreign = programsOf(dir);
      assert.equal(foreign.ids.length, count);

      const applied = attachDevicePolicy(dir, simplifyDeviceRules([DENY_ALL, WRITE_ZERO]));
      assert.equal(programsOf(dir).ids.length, 1);
      assert.ok(!foreign.ids.includes(programsOf(dir).ids[0] ?? 0));
      assert.equal(await user.open('/dev/zero', O_WRONLY), 'ok');
      assert.equal(await user.open('/dev/null', O_RDONLY), 'EPERM');

      applied.undo();
      assert.deepEqual(programsOf(dir), foreign);
      assert.equal(await user.open('/dev/zero', O_WRONLY), count === 0 ? 'ok' : 'EPERM');
      assert.equal(await user.open('/dev/null', O_RDONLY), 'ok');
    }
  });

  for (const others of [1, 2]) {
    it(`changes policies 400 times and more, with ${others} of others, refusing and letting through nothing in between`, async () => {
      const dir = makeGroup();
      const user = new DeviceUser(dir);
      for (let made = 0; made < others; made += 1) attachForeign(dir, NULL_ONLY);
      const policy = simplifyDeviceRules([DENY_ALL, ALLOW_NULL, WRITE_ZERO]);
      await user.ask({ loop: { allowed: '/dev/null', denied: '/dev/zero' } });
      const { rounds: roundsBefore } = await user.ask({ count: true });
      let { rounds, refused, slipped } = await user.ask({ count: true });
      // On one processor the process that tries may hardly run while the policies change: then they
      // go on changing.
      const end = performance.now() + LATE_MS;
      for (
        let hundreds = 0;
        hundreds < 2 || (performance.now() < end && rounds - roundsBefore <= 1000);
        hundreds += 1
      ) {
        for (let change = 0; change < 100; change += 1) {
          const applied = attachDevicePolicy(dir, policy);
          await turn();
          applied.undo();
          await turn();
        }
        ({ rounds, refused, slipped } = await user.ask({ count: true }));
      }
      assert.ok(rounds - roundsBefore > 1000, `only ${rounds - roundsBefore} rounds meanwhile`);
      assert.deepEqual({ refused, slipped }, { refused: 0, slipped: 0 });
    });
  }

  it('decides every opening as v1 does, by programs the verifier takes', async () => {
    const dir = makeGroup();
    const user = new DeviceUser(dir);
    const devices = { null: 3, zero: 5, full: 7, urandom: 9 };
    const openings = Object.entries(devices).flatMap(([name, minor]) =>
      [O_RDONLY, O_WRONLY, O_RDWR].map((flags) => ({ path: `/dev/${name}`, minor, flags })),
    );
    const bits = new Map([
      [O_RDONLY, 2],
      [O_WRONLY, 4],
      [O_RDWR, 6],
    ]);
    const rule = fc.record({
      allow: fc.boolean(),
      type: fc.constantFrom('c', 'c', 'c', 'c', 'b', 'a'),
      major: fc.constantFrom(1, 1, 1, -1, 2, 0xffff_ffff),
      minor: fc.constantFrom(...Object.values(devices), -1, 4),
      access: fc.constantFrom('r', 'w', 'rw', 'rm', 'rwm'),
    });
    const property = fc.asyncProperty(fc.array(rule, { maxLength: 6 }), async (rules) => {
      const policy = simplifyUnlessRefused(rules);
      fc.pre(policy !== undefined);
      const kernel = new V1Devices();
      for (const each of rules) kernel.write(each);
      attachDevicePolicy(dir, policy)[Symbol.dispose]();
      const { outcomes } = await user.ask({ open: openings });
      const expected = openings.map(({ minor, flags }) => {
        const allowed = kernel.allows({ type: 'c', major: 1, minor, bits: bits.get(flags) ?? 0 });
        return allowed ? 'ok' : 'EPERM';
      });
      assert.deepEqual(outcomes, expected);
    });
    await fc.assert(property, { numRuns: 150 });
    assert.equal(programsOf(dir).ids.length, 1);
  });

  it('takes hundreds of exceptions', async () => {
    const dir = makeGroup();
    const user = new DeviceUser(dir);
    const rules = Array.from({ length: 1000 }, (_, minor) => ({ ...ALLOW_NULL, major: 200, minor, access: 'r' }));
    using _ = attachDevicePolicy(dir, simplifyDeviceRules([...rules, { ...ALLOW_NULL, type: 'c', access: 'w' }]));
    assert.equal(await user.open('/dev/null', O_WRONLY), 'ok');
    assert.equal(await user.open('/dev/null', O_RDONLY), 'EPERM');
  });

  it('says what the kernel refused and leaves the group as it was', () => {
    const parent = makeGroup();
    attachForeign(parent, ALLOW_ALL, 0);
    const dir = `${parent}/below`;
    fs.mkdirSync(dir);
    assert.throws(
      () => attachDevicePolicy(dir, NULL_ONLY),
      (error) => {
        assert.ok(error instanceof DeviceProgramError);
        assert.equal(error.op, 'attach');
        assert.equal(error.errno, 'EPERM');
        assert.equal(error.code, Code.PermissionDenied);
        assert.equal(error.message, `attach device program of ${dir}: ${(error.cause as Error).message}`);
        return true;
      },
    );
    assert.deepEqual(programsOf(dir).ids, []);
    const applied = attachDevicePolicy(dir, ALLOW_ALL);
    assert.equal(applied.enforced, false);
    applied.undo();
    assert.throws(() => attachDevicePolicy('/tmp', NULL_ONLY), { op: 'query', errno: 'EBADF', subject: '/tmp' });
  });

  it('stays in force in a unit without a policy of systemd’s, whatever systemd does', { skip: noSystemd }, async () => {
    const unit = `lamina-test-${process.pid}.service`;
    const start = ['--unit', unit, '--property', 'Delegate=yes', '--property', 'DevicePolicy=auto', 'sleep', '600'];
    await run('systemd-run', start);
    try {
      const { stdout: group } = await run('systemctl', ['show', '--property', 'ControlGroup', '--value', unit]);
      const dir = `${root}${group.trim()}`;
      const user = new DeviceUser(dir);
      const deny: DeviceRule = { allow: false, type: 'c', major: 1, minor: 5, access: 'r' };
      attachDevicePolicy(dir, simplifyDeviceRules([{ allow: true, access: 'rwm' }, deny]))[Symbol.dispose]();
      for (const command of [
        ['daemon-reload'],
        ['set-property', '--runtime', unit, 'TasksMax=100'],
        ['daemon-reexec'],
      ]) {
        await run('systemctl', command);
        assert.equal(await user.open('/dev/zero', O_RDONLY), 'EPERM', command.join(' '));
        assert.equal(await user.open('/dev/zero', O_WRONLY), 'ok', command.join(' '));
      }
    } finally {
      await run('systemctl', ['stop', unit]);
    }
  });

  it('does without in a user namespace', async () => {
    const dir = makeGroup();
    const library = join(dirname(USER), '../../../src/cgroups/devices/index.js');
    const script = `import(${JSON.stringify(library)}).then(({ attachDevicePolicy }) => {
      const policy = { allowByDefault: false, exceptions: [] };
      console.log(attachDevicePolicy(${JSON.stringify(dir)}, policy).enforced);
    })`;
    const unshare = ['--user', '--map-root-user', process.execPath, '-e', script];
    const { stdout } = await run('unshare', unshare);
    assert.equal(stdout, 'false\n');
    assert.deepEqual(programsOf(dir).ids, []);
  });

  it('says that the group is gone, and then has nothing to undo', () => {
    const dir = makeGroup();
    attachForeign(dir, NULL_ONLY);
    const applied = attachDevicePolicy(dir, ALLOW_ALL);
    fs.rmdirSync(dir);
    applied.undo();
    assert.throws(() => attachDevicePolicy(dir, ALLOW_ALL), { name: 'CgroupFileError', code: Code.NotFound });
  });
});
