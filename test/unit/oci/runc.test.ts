import assert from 'node:assert/strict';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Code, LaminaError } from '../../../src/base/index.js';
import { Runc, RuncError, type RuncOptions, type SpawnRequest } from '../../../src/oci/index.js';
import { type FakeRun, FakeSpawner } from './fake-spawner.js';

let dir: string;
let log: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lamina-runc-'));
  log = join(dir, 'log.json');
});
afterEach(() => rmSync(dir, { recursive: true }));

function setUp(script: FakeRun[] = [], options: Partial<RuncOptions> = {}) {
  const spawner = new FakeSpawner(...script);
  return { spawner, runc: new Runc({ spawner, root: dir, log, ...options }) };
}

const writesPid = (path: string): FakeRun => ({ onRun: () => writeFileSync(path, '42') });
const globals = () => ['--root', dir, '--log', log, '--log-format', 'json'];
const errorLine = (msg: string) => `${JSON.stringify({ level: 'error', msg, time: '2026-01-01T00:00:00Z' })}\n`;

async function failureOf(promise: Promise<unknown>): Promise<RuncError> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof RuncError, String(error));
    return error;
  }
  return assert.fail('did not fail');
}

describe('Runc arguments', () => {
  it('creates in the bundle with a pid file there, and returns the pid', async () => {
    const { spawner, runc } = setUp([writesPid(join(dir, 'init.pid'))]);
    assert.equal(await runc.create('web', { bundle: dir }), 42);
    assert.deepEqual(spawner.lastArgs, [
      ...globals(),
      'create',
      '--bundle',
      dir,
      '--pid-file',
      join(dir, 'init.pid'),
      'web',
    ]);
    assert.equal(spawner.requests[0]?.argv[0], 'runc');
    assert.equal(spawner.requests[0]?.cwd, dir);
    assert.equal(spawner.requests[0]?.dieWithParent, true);
  });

  it('passes every option of create', async () => {
    const { spawner, runc } = setUp([writesPid(join(dir, 'p'))], {
      debug: true,
      systemdCgroup: true,
      binary: '/x/runc',
    });
    const options = { bundle: dir, pidFile: join(dir, 'p'), noPivot: true, noNewKeyring: true, extraFds: [7, 9] };
    await runc.create('web', { ...options, consoleSocket: '/c.sock', pidfdSocket: '/p.sock' });
    assert.deepEqual(spawner.lastArgs.slice(0, 3), ['--root', dir, '--debug']);
    assert.ok(spawner.lastArgs.includes('--systemd-cgroup'));
    assert.deepEqual(spawner.lastArgs.slice(spawner.lastArgs.indexOf('--console-socket')), [
      ...['--console-socket', '/c.sock', '--pidfd-socket', '/p.sock'],
      ...['--no-pivot', '--no-new-keyring', '--preserve-fds', '2', 'web'],
    ]);
    const fds = spawner.requests[0]?.fds ?? [];
    assert.deepEqual(fds.slice(-2), [
      [7, 3],
      [9, 4],
    ]);
    // With a console the runtime's own output is captured.
    assert.deepEqual(
      fds.slice(0, -2).map(([, childFd]) => childFd),
      [1, 2],
    );
  });

  it('gives the container the descriptors of stdio and nothing else', async () => {
    const { spawner, runc } = setUp([writesPid(join(dir, 'init.pid'))]);
    await runc.create('web', { bundle: dir, stdio: [undefined, 11, 12] });
    assert.deepEqual(spawner.requests[0]?.fds, [
      [11, 1],
      [12, 2],
    ]);
  });

  it('keeps the daemon notification and activation sockets from the runtime', async () => {
    const { spawner, runc } = setUp([], { env: { A: 'b' } });
    await runc.start('web');
    const env = spawner.requests[0]?.env ?? {};
    assert.deepEqual(
      { ...env, A: undefined },
      {
        A: undefined,
        LISTEN_FDNAMES: undefined,
        LISTEN_FDS: undefined,
        LISTEN_PID: undefined,
        NOTIFY_SOCKET: undefined,
      },
    );
    assert.equal(env['A'], 'b');
  });

  it('hands exec its process in a nameless file, beyond the descriptors of the process', async () => {
    const pidFile = join(dir, 'e1.pid');
    let read = '';
    const onRun: FakeRun['onRun'] = (request) => {
      const fd = request.fds?.find(([, childFd]) => childFd === 4)?.[0] ?? -1;
      const buffer = Buffer.alloc(100);
      read = buffer.toString('utf8', 0, readSync(fd, buffer));
      assert.equal(fstatSync(fd).nlink, 0);
      writeFileSync(pidFile, '43');
    };
    const { spawner, runc } = setUp([{ onRun }]);
    const extra = openSync('/dev/null', 'r');
    try {
      const process = { cwd: '/', args: ['true'] };
      assert.equal(await runc.exec('web', { process, pidFile, extraFds: [extra] }), 43);
    } finally {
      closeSync(extra);
    }
    assert.equal(read, '{"cwd":"/","args":["true"]}');
    assert.deepEqual(spawner.lastArgs, [
      ...globals(),
      'exec',
      '--process',
      '/proc/self/fd/4',
      '--detach',
      '--pid-file',
      pidFile,
      '--preserve-fds',
      '1',
      'web',
    ]);
  });

  it('gives update the resources on standard input, read from the start', async () => {
    let read = '';
    const onRun: FakeRun['onRun'] = (request) => {
      const fd = request.fds?.find(([, childFd]) => childFd === 0)?.[0] ?? -1;
      const buffer = Buffer.alloc(100);
      read = buffer.toString('utf8', 0, readSync(fd, buffer));
    };
    const { spawner, runc } = setUp([{ onRun }]);
    await runc.update('web', { pids: { limit: 3 } });
    assert.deepEqual(spawner.lastArgs, [...globals(), 'update', '--resources=-', 'web']);
    assert.equal(read, '{"pids":{"limit":3}}');
  });

  const simple: readonly [string, (runc: Runc) => Promise<unknown>, readonly string[], string?][] = [
    ['start', (runc) => runc.start('web'), ['start', 'web']],
    ['kill', (runc) => runc.kill('web', 15), ['kill', 'web', '15']],
    ['kill all', (runc) => runc.kill('web', 9, { all: true }), ['kill', '--all', 'web', '9']],
    ['delete', (runc) => runc.delete('web'), ['delete', 'web']],
    ['delete by force', (runc) => runc.delete('web', { force: true }), ['delete', '--force', 'web']],
    ['pause', (runc) => runc.pause('web'), ['pause', 'web']],
    ['resume', (runc) => runc.resume('web'), ['resume', 'web']],
    ['ps', (runc) => runc.ps('web'), ['ps', '--format', 'json', 'web'], '[1,2]'],
    ['state', (runc) => runc.state('web'), ['state', 'web'], '{}'],
    ['list', (runc) => runc.list(), ['list', '--format', 'json'], 'null'],
    ['events', (runc) => runc.events('web'), ['events', '--stats', 'web'], '{}'],
    ['features', (runc) => runc.features(), ['features'], '{}'],
  ];
  for (const [name, call, args, stdout] of simple) {
    it(`runs ${name}`, async () => {
      const { spawner, runc } = setUp([{ stdout: stdout ?? '', stderr: 'level=warning msg="noise"' }]);
      await call(runc);
      assert.deepEqual(spawner.lastArgs, [...globals(), ...args]);
    });
  }

  it('checkpoints and restores with criu', async () => {
    const { spawner, runc } = setUp([{}, writesPid(join(dir, 'init.pid'))]);
    const criu = { imagePath: '/i', workPath: '/w', tcpEstablished: true, emptyNamespaces: ['network'] };
    await runc.checkpoint('web', { ...criu, leaveRunning: true, fileLocks: true, manageCgroupsMode: 'soft' });
    assert.deepEqual(spawner.lastArgs.slice(6), [
      ...['checkpoint', '--image-path', '/i', '--work-path', '/w', '--tcp-established', '--file-locks'],
      ...['--manage-cgroups-mode', 'soft', '--empty-ns', 'network', '--leave-running', 'web'],
    ]);
    assert.equal(await runc.restore('web', { ...criu, bundle: dir }), 42);
    assert.deepEqual(spawner.lastArgs.slice(6), [
      ...['restore', '--image-path', '/i', '--work-path', '/w', '--tcp-established', '--empty-ns', 'network'],
      ...['--detach', '--pid-file', join(dir, 'init.pid'), '--no-subreaper', '--bundle', dir, 'web'],
    ]);
  });

  it('knows where crun differs', async () => {
    const { spawner, runc } = setUp([{}, writesPid(join(dir, 'init.pid'))], { binary: '/usr/bin/crun' });
    await runc.update('web', {});
    assert.ok(spawner.lastArgs.includes('--resources=/dev/stdin'));
    await runc.restore('web', { imagePath: '/i', bundle: dir });
    assert.ok(!spawner.lastArgs.includes('--no-subreaper'));
    await assert.rejects(runc.events('web'), { code: Code.Unimplemented, message: 'crun has no command "events"' });
  });

  for (const id of ['', '-x', '.', '..', 'a/b', 'a b']) {
    it(`refuses the id ${JSON.stringify(id)} without running anything`, async () => {
      const { spawner, runc } = setUp();
      await assert.rejects(runc.create(id, { bundle: dir }), { code: Code.InvalidArgument });
      await assert.rejects(runc.delete(id), { code: Code.InvalidArgument });
      assert.equal(spawner.requests.length, 0);
    });
  }

  it('lists nothing for a root that nobody has used yet', async () => {
    const { spawner, runc } = setUp([], { root: join(dir, 'none') });
    assert.deepEqual(await runc.list(), []);
    assert.equal(spawner.requests.length, 0);
  });

  it('reads versions', async () => {
    const { runc } = setUp([
      { stdout: 'crun version 1.8.1\ncommit: f8a0\nrundir: /run/crun\nspec: 1.0.0\n+SYSTEMD\n' },
    ]);
    assert.deepEqual(await runc.version(), { name: 'crun', version: '1.8.1', commit: 'f8a0', spec: '1.0.0' });
  });

  it('says what was printed instead of JSON', async () => {
    const { runc } = setUp([{ stdout: 'oops' }]);
    await assert.rejects(
      runc.state('web'),
      (error) => error instanceof LaminaError && error.message.includes('"oops"'),
    );
  });
});

describe('Runc failures', () => {
  it('reports the last error logged in this run, not an older one', async () => {
    writeFileSync(log, errorLine('stale'));
    const { runc } = setUp([{ code: 1, log: errorLine('first') + errorLine('runc create failed: last') }]);
    const error = await failureOf(runc.create('web', { bundle: dir }));
    assert.equal(error.message, 'OCI runtime create failed: runc create failed: last');
    assert.deepEqual(
      error.logEntries.map((entry) => entry.msg),
      ['first', 'runc create failed: last'],
    );
    assert.equal(error.exitCode, 1);
    assert.equal(error.signal, undefined);
    assert.equal(error.subject, 'web');
    assert.equal(error.command, 'create');
    assert.equal(error.code, Code.Unknown);
  });

  it('prefers the log to the same words printed', async () => {
    const { runc } = setUp([{ code: 1, log: errorLine('still running'), stderr: 'still running\n' }]);
    const error = await failureOf(runc.delete('web'));
    assert.equal(error.message, 'failed to delete task: still running');
    assert.equal(error.stderrTail, 'still running');
  });

  it('falls back to the output when only older errors are logged', async () => {
    writeFileSync(log, errorLine('stale'));
    const { runc } = setUp([{ code: 3, stderr: 'panic: nil\n' }]);
    assert.equal((await failureOf(runc.start('web'))).message, 'OCI runtime start failed: panic: nil: exit status 3');
  });

  it('says why the log tells nothing', async () => {
    const { runc } = setUp([{ code: 1 }, { code: 1, log: 'not json\n', stderr: 'x' }]);
    const why = `unable to retrieve OCI runtime error (open ${log}: no such file or directory)`;
    assert.equal((await failureOf(runc.start('web'))).message, `OCI runtime start failed: ${why}: exit status 1`);
    assert.match(
      (await failureOf(runc.pause('web'))).message,
      /^OCI runtime pause failed: unable .*\(.*unreadable log entries.*\): x: exit status 1$/,
    );
  });

  it('names the signal that ended a run', async () => {
    const { runc } = setUp([{ signal: 11, stderr: 'boom' }], { log: join(dir, 'l') });
    writeFileSync(join(dir, 'l'), '');
    const error = await failureOf(runc.resume('web'));
    assert.equal(error.message, 'OCI runtime resume failed: boom: signal: 11');
    assert.equal(error.exitCode, undefined);
    assert.equal(error.signal, 11);
  });

  const kills: readonly [string, Code, string][] = [
    ['os: process already finished', Code.NotFound, 'process already finished'],
    ['container not running', Code.NotFound, 'process already finished'],
    ['unable to signal init: No such process', Code.NotFound, 'process already finished'],
    ['container does not exist', Code.NotFound, 'no such container'],
    [
      'unable to signal init: invalid argument',
      Code.InvalidArgument,
      'unknown error after kill: unable to signal init: invalid argument',
    ],
    ['error opening file `/r/web/status`: No such file or directory', Code.NotFound, 'no such container'],
    ['weird', Code.Unknown, 'unknown error after kill: weird'],
  ];
  for (const [text, code, message] of kills) {
    it(`maps a kill refused with "${text}"`, async () => {
      const { runc } = setUp([{ code: 1, log: errorLine(text) }]);
      const error = await failureOf(runc.kill('web', 9));
      assert.deepEqual([error.code, error.message], [code, message]);
    });
  }

  it('gives a code to what runtimes say of unknown and existing containers', async () => {
    const { runc } = setUp([
      { code: 1, log: errorLine('container does not exist') },
      { code: 1, log: errorLine('container `web` does not exist') },
      { code: 1, log: errorLine('runc create failed: container with given ID already exists') },
      { code: 1, log: errorLine('runc create failed: stat /x: file does not exist') },
    ]);
    assert.equal((await failureOf(runc.state('web'))).code, Code.NotFound);
    assert.equal((await failureOf(runc.start('web'))).code, Code.NotFound);
    assert.equal((await failureOf(runc.create('web', { bundle: dir }))).code, Code.AlreadyExists);
    assert.equal((await failureOf(runc.create('web', { bundle: dir }))).code, Code.Unknown);
  });

  for (const words of [
    'write state.json: no space left on device',
    'fork/exec /proc/self/exe: resource temporarily unavailable',
    'open exec.fifo: too many open files',
  ]) {
    it(`tells want of something on this machine from other failures: ${words}`, async () => {
      const { runc } = setUp([{ code: 1, log: errorLine(words) }]);
      assert.equal((await failureOf(runc.start('web'))).code, Code.ResourceExhausted);
    });
  }

  it('takes the deletion of an unknown container for done', async () => {
    const { runc } = setUp([{}, { code: 1, log: errorLine('container does not exist') }]);
    assert.equal(await runc.delete('web'), true);
    assert.equal(await runc.delete('web'), false);
  });

  it('names a missing program and where it was looked for, and never says NotFound', async () => {
    const missing = new LaminaError(Code.NotFound, 'execve: ENOENT');
    const { runc } = setUp([{ spawnError: missing }, { spawnError: missing }], {
      binary: 'runk',
      env: { PATH: '/a:/b' },
    });
    const error = await failureOf(runc.kill('web', 9));
    assert.equal(error.message, 'OCI runtime kill failed: exec: "runk": executable file not found in $PATH (/a:/b)');
    assert.equal(error.code, Code.FailedPrecondition);
    assert.equal(error.cause, missing);
  });

  it('gives concurrent runs logs of their own', async () => {
    const { spawner, runc } = setUp([{ hangs: true }, { code: 1, log: errorLine('mine') }]);
    const first = runc.start('web');
    const error = await failureOf(runc.pause('web'));
    assert.equal(error.message, 'OCI runtime pause failed: mine');
    const logs = spawner.requests.map((request) => request.argv[request.argv.indexOf('--log') + 1] ?? '');
    assert.equal(logs[0], log);
    assert.notEqual(logs[1], log);
    assert.equal(existsSync(logs[1] ?? ''), false);
    spawner.release();
    await first;
  });

  it('makes a temporary log itself, under a name that nobody can know', async () => {
    let seen = '';
    const onRun = ({ argv }: SpawnRequest): void => {
      const { mode, size } = statSync(argv[argv.indexOf('--log') + 1] ?? '');
      seen = `${(mode & 0o777).toString(8)} ${size}`;
    };
    const spawner = new FakeSpawner({ onRun }, { onRun });
    const runc = new Runc({ spawner });
    await runc.start('web');
    assert.equal(seen, '600 0');
    await runc.start('web');
    const [first = '', second = ''] = spawner.requests.map(({ argv }) => argv[argv.indexOf('--log') + 1] ?? '');
    assert.notEqual(first, second);
    assert.deepEqual([existsSync(first), existsSync(second)], [false, false]);
  });

  it('kills what prints without end', async () => {
    const { spawner, runc } = setUp([{ hangs: true, stdout: 'x'.repeat((16 << 20) + 1) }]);
    const error = await failureOf(runc.start('web'));
    assert.equal(error.code, Code.ResourceExhausted);
    assert.equal(error.message, 'OCI runtime start failed: runc start web printed more than 16 MiB and was killed');
    assert.equal(error.stderrTail.length, 4096);
    assert.deepEqual(spawner.kills, [9]);
  });

  it('leaves it to the spawner which process an interrupted exec may have left', async () => {
    const pidFile = join(dir, 'e.pid');
    const strays: number[] = [];
    const { spawner, runc } = setUp([{ signal: 9, onRun: () => writeFileSync(pidFile, `${process.pid}`) }]);
    Object.assign(spawner, { killStray: async (pid: number) => void strays.push(pid) });
    await failureOf(runc.exec('web', { process: { cwd: '/' }, pidFile }));
    assert.deepEqual(strays, [process.pid]);
  });

  it('kills what hangs and says how long it waited', async () => {
    const { spawner, runc } = setUp([{ hangs: true }], { timeoutMs: 20 });
    const error = await failureOf(runc.start('web'));
    assert.equal(error.code, Code.DeadlineExceeded);
    assert.equal(error.message, 'OCI runtime start failed: runc start web did not end within 0.02 s and was killed');
    assert.deepEqual(spawner.kills, [9]);
  });

  it('deletes what an interrupted create left, and says so when that fails', async () => {
    const leavesState: FakeRun = { hangs: true, onRun: () => mkdirSync(join(dir, 'web')) };
    const { spawner, runc } = setUp([
      leavesState,
      { onRun: () => rmSync(join(dir, 'web'), { recursive: true }) },
      leavesState,
    ]);
    const error = await failureOf(runc.create('web', { bundle: dir, timeoutMs: 20 }));
    assert.deepEqual(spawner.lastArgs.slice(-3), ['delete', '--force', 'web']);
    assert.match(error.message, /did not end within 0.02 s and was killed$/);

    const second = await failureOf(runc.create('web', { bundle: dir, timeoutMs: 20 }));
    assert.match(second.message, /was killed; removing the half-made container failed too: .*web is still there$/);
    assert.equal(second.code, Code.DeadlineExceeded);
  });

  it('never takes the pid of an earlier process for the new one', async () => {
    const pidFile = join(dir, 'e.pid');
    writeFileSync(pidFile, '42');
    const { runc } = setUp();
    await assert.rejects(runc.exec('web', { process: { cwd: '/' }, pidFile }), {
      // NotFound would tell clients that the container is gone.
      code: Code.DataLoss,
      message: `OCI runtime exec failed: it reported success, but read ${pidFile}: no such file or directory`,
    });
  });

  it('never deletes a container that was there before', async () => {
    mkdirSync(join(dir, 'web'));
    const { spawner, runc } = setUp([{ signal: 9 }]);
    await failureOf(runc.create('web', { bundle: dir }));
    assert.equal(spawner.requests.length, 1);
  });
});
