import assert from 'node:assert/strict';
import { closeSync, createReadStream, existsSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Code, isErrno } from '../../../src/base/index.js';
import {
  bundlePaths,
  ConsoleSocket,
  type Process,
  RuncError,
  withArgs,
  withCapabilities,
  withEnv,
  withHostname,
  withMemoryLimit,
  withPidsLimit,
  withRootfs,
  withTty,
  withUser,
} from '../../../src/oci/index.js';
import { requires } from '../../lib/requires.js';
import { OciFixture } from './fixture.js';

const skip = requires({ root: true, runc: '1.1', programs: ['busybox'] });
const SIGKILL = 9;
const shell = (script: string): Process => ({ cwd: '/', args: ['sh', '-c', script], env: ['PATH=/bin'] });

describe('Runc with the real runc', { skip }, () => {
  let fixture: OciFixture;
  beforeEach(() => {
    fixture = new OciFixture();
  });
  afterEach(async () => {
    assert.deepEqual(await fixture.close(), []);
  });

  /** Starts a container that sleeps; returns its pid. */
  async function startSleeper(): Promise<number> {
    fixture.configure(withArgs('sleep', '1000'));
    const pid = await fixture.runc().create('c', { bundle: fixture.bundle });
    await fixture.runc().start('c');
    return pid;
  }

  /** Also a time in which runc does any one thing for sure, on this machine as it is now. */
  async function measureStart(): Promise<{ pid: number; timeoutMs: number }> {
    const began = performance.now();
    const pid = await startSleeper();
    return { pid, timeoutMs: Math.max(2000, 5 * Math.round(performance.now() - began)) };
  }

  async function killAndDelete(pid: number): Promise<void> {
    await fixture.runc().kill('c', SIGKILL);
    await fixture.ended(pid);
    assert.equal(await fixture.runc().delete('c'), true);
  }

  const refused =
    (message: string | RegExp, code: Code = Code.Unknown) =>
    (error: unknown) => {
      assert.ok(error instanceof RuncError, String(error));
      if (typeof message === 'string') assert.equal(error.message, message);
      else assert.match(error.message, message);
      assert.equal(error.code, code);
      return true;
    };

  it('takes a container through its whole life', async () => {
    const runc = fixture.runc();
    fixture.configure(
      withArgs('sh', '-c', 'echo "$HELLO from $HOSTNAME"; echo trouble >&2; exec sleep 1000'),
      withEnv({ HELLO: 'hello' }),
      withHostname('box'),
      withRootfs('rootfs', { readonly: true }),
      withMemoryLimit(64 * 1024 * 1024),
      withPidsLimit(50),
      withUser({ uid: 12, gid: 34 }),
      withCapabilities('CAP_KILL'),
    );
    const paths = bundlePaths(fixture.bundle);
    const out = openSync(join(fixture.dir, 'out'), 'w');
    const err = openSync(join(fixture.dir, 'err'), 'w');
    const pid = await runc.create('c', { bundle: fixture.bundle, stdio: [undefined, out, err] });
    closeSync(out);
    closeSync(err);
    assert.equal(readFileSync(paths.initPid, 'utf8'), String(pid));
    assert.equal((await runc.state('c')).status, 'created');
    assert.ok(fixture.cgroups().length > 0);

    await runc.start('c');
    const execPid = await runc.exec('c', { process: shell('exec sleep 999'), pidFile: paths.execPid('e') });
    const state = await runc.state('c');
    assert.deepEqual([state.id, state.status, state.pid, state.bundle], ['c', 'running', pid, fixture.bundle]);
    assert.deepEqual(
      (await runc.ps('c')).sort((a, b) => a - b),
      [pid, execPid].sort((a, b) => a - b),
    );
    assert.deepEqual(
      (await runc.list()).map(({ id }) => id),
      ['c'],
    );

    await runc.pause('c');
    assert.equal((await runc.state('c')).status, 'paused');
    await runc.resume('c');
    assert.equal((await runc.state('c')).status, 'running');

    await runc.update('c', { memory: { limit: 32 * 1024 * 1024 }, pids: { limit: 20 } });
    const stats = JSON.stringify(await runc.events('c'));
    assert.match(stats, /"limit":33554432/);
    assert.match(stats, /"limit":20/);

    await assert.rejects(
      runc.delete('c'),
      refused(/^failed to delete task: cannot delete container c that is not stopped: running$/),
    );
    await runc.kill('c', SIGKILL);
    await fixture.ended(pid);
    await assert.rejects(runc.kill('c', SIGKILL), refused('process already finished', Code.NotFound));
    assert.equal((await runc.state('c')).status, 'stopped');
    assert.equal(await runc.delete('c'), true);
    assert.equal(await runc.delete('c'), false);
    await assert.rejects(runc.state('c'), refused('OCI runtime state failed: container does not exist', Code.NotFound));
    await assert.rejects(runc.kill('c', SIGKILL), refused('no such container', Code.NotFound));
    assert.deepEqual(fixture.cgroups(), []);
    assert.equal(readFileSync(join(fixture.dir, 'out'), 'utf8'), 'hello from box\n');
    assert.equal(readFileSync(join(fixture.dir, 'err'), 'utf8'), 'trouble\n');
    assert.ok(!existsSync(join(fixture.root, 'c')));
  });

  it('runs further processes with their own streams, and names what cannot be run', async () => {
    const pid = await startSleeper();
    const runc = fixture.runc();
    const out = openSync(join(fixture.dir, 'out'), 'w');
    const pidFile = bundlePaths(fixture.bundle).execPid('e');
    const execPid = await runc.exec('c', {
      process: shell('echo out; cat'),
      pidFile,
      stdio: [undefined, out, out],
    });
    closeSync(out);
    await fixture.ended(execPid);
    assert.equal(readFileSync(join(fixture.dir, 'out'), 'utf8').trim(), 'out');

    const nope = { cwd: '/', args: ['nope'], env: ['PATH=/bin'] };
    const text =
      'OCI runtime exec failed: exec failed: unable to start container process: exec: "nope": executable file not found in $PATH';
    await assert.rejects(runc.exec('c', { process: nope, pidFile }), refused(text));
    await runc.pause('c');
    await assert.rejects(
      runc.exec('c', { process: shell('true'), pidFile }),
      refused(/cannot exec in a paused container/),
    );
    await runc.resume('c');
    await killAndDelete(pid);
    await assert.rejects(
      runc.exec('c', { process: shell('true'), pidFile }),
      refused(/container does not exist/, Code.NotFound),
    );
  });

  it('maps extra descriptors into the process', async () => {
    fixture.configure(withArgs('sh', '-c', 'echo three >&3; echo four >&4'));
    const fds = ['3', '4'].map((name) => openSync(join(fixture.dir, name), 'w'));
    const pid = await fixture.runc().create('c', { bundle: fixture.bundle, extraFds: fds });
    for (const fd of fds) closeSync(fd);
    await fixture.runc().start('c');
    await fixture.ended(pid);
    await fixture.runc().delete('c');
    assert.equal(
      readFileSync(join(fixture.dir, '3'), 'utf8') + readFileSync(join(fixture.dir, '4'), 'utf8'),
      'three\nfour\n',
    );
  });

  it('receives the console of a container with a terminal', async () => {
    fixture.configure(withArgs('sh', '-c', 'stty size; exec sleep 1000'), withTty({ columns: 101, rows: 31 }));
    const socket = new ConsoleSocket({ poller: fixture.poller });
    const received = socket.receive();
    const pid = await fixture.runc().create('c', { bundle: fixture.bundle, consoleSocket: socket.path });
    const { fd, name } = await received;
    assert.match(name, /^\/dev\/p/);
    await fixture.runc().start('c');
    assert.equal(await firstLine(fd), '31 101');
    await killAndDelete(pid);
  });

  it('deletes a running container by force', async () => {
    await startSleeper();
    assert.equal(await fixture.runc().delete('c', { force: true }), true);
    assert.deepEqual(fixture.cgroups(), []);
  });

  it('passes on why a container cannot be created', async () => {
    const runc = fixture.runc();
    const create = () => runc.create('c', { bundle: fixture.bundle });
    fixture.configure(withArgs('/no/such/program'));
    // runc 1.3 says in the middle that it was "during container init".
    const text =
      /^OCI runtime create failed: runc create failed: unable to start container process: .*exec: "\/no\/such\/program": stat \/no\/such\/program: no such file or directory$/;
    await assert.rejects(create(), refused(text));

    writeFileSync(join(fixture.bundle, 'config.json'), '{"ociVersion":');
    await assert.rejects(create(), refused(/^OCI runtime create failed: .*(unexpected EOF|EOF|JSON)/));
    rmSync(join(fixture.bundle, 'config.json'));
    await assert.rejects(create(), refused(/^OCI runtime create failed: .*config\.json/));

    fixture.configure(withRootfs('nowhere'));
    await assert.rejects(create(), refused(/^OCI runtime create failed: .*nowhere/));
    await assert.rejects(
      runc.create('c', { bundle: '/no/bundle' }),
      refused(/\/no\/bundle: no such directory$/, Code.InvalidArgument),
    );
  });

  it('refuses an id that is taken and leaves its container alone', async () => {
    const pid = await startSleeper();
    const text = 'OCI runtime create failed: runc create failed: container with given ID already exists';
    await assert.rejects(fixture.runc().create('c', { bundle: fixture.bundle }), refused(text, Code.AlreadyExists));
    await assert.rejects(
      fixture.runc().start('c'),
      refused(/^OCI runtime start failed: cannot start an already running container$/),
    );
    assert.equal((await fixture.runc().state('c')).status, 'running');
    await killAndDelete(pid);
  });

  it('names a missing runtime', async () => {
    fixture.configure();
    const create = (binary: string) => fixture.runc({ binary }).create('c', { bundle: fixture.bundle });
    const text = `OCI runtime create failed: exec: "no-such-runc": executable file not found in $PATH (${process.env['PATH']})`;
    await assert.rejects(create('no-such-runc'), refused(text, Code.FailedPrecondition));
    const absolute = 'OCI runtime create failed: exec: "/no/runc": no such file or directory';
    await assert.rejects(create('/no/runc'), refused(absolute, Code.FailedPrecondition));
  });

  it('kills a runtime that hangs, and its children', async () => {
    fixture.configure();
    const pids = join(fixture.dir, 'pids');
    const binary = fixture.script(`sleep 1000 & echo $$ $! >${pids}; wait`);
    const text = `OCI runtime create failed: ${binary} create c did not end within 3 s and was killed`;
    const create = fixture.runc({ binary }).create('c', { bundle: fixture.bundle, timeoutMs: 3000 });
    await assert.rejects(create, refused(text, Code.DeadlineExceeded));
    for (const pid of readFileSync(pids, 'utf8').trim().split(' ')) await fixture.ended(Number(pid));
  });

  it('ends the process of an exec that hung', async () => {
    const { pid, timeoutMs } = await measureStart();
    const binary = fixture.script('runc "$@" || exit; exec sleep 1000');
    const pidFile = bundlePaths(fixture.bundle).execPid('e');
    const exec = fixture.runc({ binary }).exec('c', { process: shell('exec sleep 1000'), pidFile, timeoutMs });
    await assert.rejects(exec, refused(/ exec c did not end within \S+ s and was killed$/, Code.DeadlineExceeded));
    await fixture.ended(Number(readFileSync(pidFile, 'utf8')));
    await killAndDelete(pid);
  });

  it('removes the container of a create that hung', async () => {
    const { pid, timeoutMs } = await measureStart();
    await killAndDelete(pid);
    const binary = fixture.script('runc "$@" || exit; case "$*" in *" create "*) exec sleep 1000;; esac');
    const pidFile = bundlePaths(fixture.bundle).initPid;
    const create = fixture.runc({ binary }).create('c', { bundle: fixture.bundle, timeoutMs });
    await assert.rejects(create, refused(/did not end within \S+ s and was killed$/, Code.DeadlineExceeded));
    await fixture.ended(Number(readFileSync(pidFile, 'utf8')));
    assert.deepEqual(await fixture.runc().list(), []);
    assert.deepEqual(fixture.cgroups(), []);
  });
});

/** The first line from a terminal's master, which is closed then. */
function firstLine(fd: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const stream = createReadStream('', { fd });
    stream.on('data', (chunk) => {
      text += String(chunk);
      if (!text.includes('\n')) return;
      resolve(text.split('\r\n', 1)[0] ?? '');
      stream.destroy();
    });
    // EIO: the container closed its end.
    stream.on('error', (error) => (isErrno(error, 'EIO') ? resolve(text) : reject(error)));
  });
}
