import assert from 'node:assert/strict';
import { chownSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { mustRun, runCommand } from '../../lib/command.js';
import { requires } from '../../lib/requires.js';
import { until } from '../../lib/wait.js';
import { ROOT, systemctl } from './systemd-machine.js';

const NAME = 'lamt-user';
const SYSTEM_UNITS = '/run/systemd/system';
const USER_UNITS = '/run/systemd/user';

const skip = requires({
  root: true,
  cgroup: 'v2',
  systemd: true,
  programs: ['systemctl', 'useradd', 'userdel', 'dbus-daemon', 'setpriv', 'unshare'],
});

/**
 * What is run as the user: makes a scope, sets it, reloads systemd, ends it; says what it saw as
 * JSON.
 */
function program(): string {
  const module = new URL('../../../src/cgroups/manager.js', import.meta.url).href;
  return `import(${JSON.stringify(module)}).then(async ({ Cgroup }) => {
    const { readFileSync } = await import('node:fs');
    const { execFileSync, spawn } = await import('node:child_process');
    const read = (file) => readFileSync('${ROOT}' + cgroup.path + '/' + file, 'utf8').trim();
    const child = spawn('sleep', ['1000']);
    process.once('exit', () => child.kill('SIGKILL'));
    const resources = { memory: { limit: 64 << 20, swap: 64 << 20 }, pids: { limit: 20 }, cpu: { shares: 512 } };
    const cgroup = await Cgroup.create({ path: ':lamt:mine', driver: 'systemd', pid: child.pid, resources });
    const made = { path: cgroup.path, memory: read('memory.max'), swap: read('memory.swap.max'), weight: read('cpu.weight') };
    await cgroup.set({ memory: { limit: 32 << 20 }, pids: { limit: 30 } });
    if (process.env.RELOAD) execFileSync('systemctl', ['--user', 'daemon-reload']);
    const set = { memory: read('memory.max'), pids: read('pids.max') };
    const found = Cgroup.loadFromPid(child.pid, { driver: 'systemd' });
    await found.set({ pids: { limit: 31 } });
    const adopted = read('pids.max');
    await cgroup.destroy();
    console.log(JSON.stringify({ uid: process.getuid(), made, set, adopted, exists: cgroup.exists() }));
  }).catch((error) => {
    console.log(JSON.stringify({ code: error.code, message: error.message }));
    process.exit(1);
  })`;
}

describe("scopes of a user's systemd", { skip }, () => {
  let uid = 0;
  let gid = 0;
  let runtimeDir = '';
  let service = '';
  let files: string[] = [];

  function writeUnit(path: string, text: string): void {
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, text);
    files.push(path);
  }

  before(async () => {
    files = [];
    await mustRun(['useradd', '--create-home', NAME]);
    [, uid = 0, gid = 0] = (
      new RegExp(`^${NAME}:[^:]*:(\\d+):(\\d+)`, 'm').exec(readFileSync('/etc/passwd', 'utf8')) ?? []
    ).map(Number);
    runtimeDir = `/run/user/${uid}`;
    service = `user@${uid}.service`;
    // What logind would do, which the guest does without.
    mkdirSync(runtimeDir, { recursive: true, mode: 0o700 });
    chownSync(runtimeDir, uid, gid);
    writeUnit(
      `${SYSTEM_UNITS}/${service}.d/lamt.conf`,
      `[Service]\nPAMName=\nEnvironment=XDG_RUNTIME_DIR=${runtimeDir}\n`,
    );
    writeUnit(
      `${SYSTEM_UNITS}/user-runtime-dir@${uid}.service.d/lamt.conf`,
      '[Service]\nExecStart=\nExecStart=/bin/true\nExecStop=\n',
    );
    // What the package dbus-user-session brings.
    writeUnit(`${USER_UNITS}/dbus.socket`, '[Socket]\nListenStream=%t/bus\n');
    writeUnit(
      `${USER_UNITS}/dbus.service`,
      '[Unit]\nRequires=dbus.socket\n[Service]\nType=notify\nNotifyAccess=main\nExecStart=/usr/bin/dbus-daemon --session --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only\n',
    );
    await systemctl('daemon-reload');
    await systemctl('start', service);
    await until("the user's systemd listens", () => existsSync(`${runtimeDir}/systemd/private`));
  });

  after(async () => {
    await systemctl('stop', service, `user-${uid}.slice`);
    for (const path of files) rmSync(path);
    for (const unit of [service, `user-runtime-dir@${uid}.service`])
      rmSync(`${SYSTEM_UNITS}/${unit}.d`, { recursive: true });
    await systemctl('daemon-reload');
    rmSync(runtimeDir, { recursive: true, force: true });
    await mustRun(['userdel', '--remove', NAME]);
    assert.ok(!existsSync(`${ROOT}/user.slice/user-${uid}.slice`), 'the user still has a group');
  });

  /** Runs as the user, with nothing of root's in the environment but what is given. */
  async function asUser(env: Record<string, string>, ...prefix: string[]): Promise<Record<string, unknown>> {
    const identity = ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'];
    const settings = Object.entries({ PATH: process.env['PATH'] ?? '', ...env }).map(
      ([name, value]) => `${name}=${value}`,
    );
    const argv = [...identity, 'env', '-i', ...settings, ...prefix, process.execPath, '-e', program()];
    const { stdout, stderr } = await runCommand(argv);
    try {
      return JSON.parse(stdout);
    } catch {
      throw new Error(`no answer: ${stdout}${stderr}`);
    }
  }

  function expected(asUid: number): object {
    return {
      uid: asUid,
      made: {
        path: `/user.slice/user-${uid}.slice/${service}/user.slice/lamt-mine.scope`,
        memory: String(64 << 20),
        swap: '0',
        weight: '59',
      },
      set: { memory: String(32 << 20), pids: '30' },
      adopted: '31',
      exists: false,
    };
  }

  it('through its own socket, where there is no bus', async () => {
    assert.ok(!existsSync(`${runtimeDir}/bus`));
    assert.deepEqual(await asUser({ XDG_RUNTIME_DIR: runtimeDir, RELOAD: 'yes' }), expected(uid));
  });

  it("through the user's bus", async () => {
    const identity = [
      'setpriv',
      `--reuid=${uid}`,
      `--regid=${gid}`,
      '--clear-groups',
      'env',
      `XDG_RUNTIME_DIR=${runtimeDir}`,
    ];
    await mustRun([...identity, 'systemctl', '--user', 'start', 'dbus.socket']);
    // systemctl would use it, too.
    renameSync(`${runtimeDir}/systemd/private`, `${runtimeDir}/systemd/hidden`);
    assert.deepEqual(
      await asUser({ XDG_RUNTIME_DIR: runtimeDir, DBUS_SESSION_BUS_ADDRESS: `unix:path=${runtimeDir}/bus` }),
      expected(uid),
    );
    assert.deepEqual(await asUser({ XDG_RUNTIME_DIR: runtimeDir }), expected(uid));
  });

  it('as root of a user namespace of its own', async () => {
    assert.deepEqual(
      await asUser({ XDG_RUNTIME_DIR: runtimeDir }, 'unshare', '--user', '--map-root-user'),
      expected(0),
    );
  });

  it('are refused, at once and with the reason, to somebody who has none', async () => {
    const { message } = await asUser({});
    assert.match(String(message), /DBUS_SESSION_BUS_ADDRESS/);
  });
});
