/**
 * What a container can see and reach of the shim that runs it: "What a container can reach" in
 * docs/security.md.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, readlinkSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { readProcess } from '../../lib/proc.js';
import { stateDir, theEngine } from '../../lib/processes.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { bareProcess } from '../../lib/spec.js';
import { until } from '../../lib/wait.js';

const skip = requires({ root: true, runc: '1.1' });
const SIGKILL = 9;

/** Runs to its end, in the container, whatever is asked for by name. */
const SCRIPT = `
  {
    echo "== fd"; ls -l /proc/self/fd
    echo "== init"; ls -l /proc/1/fd
    echo "== mounts"; cat /proc/self/mountinfo
    echo "== unix"; cat /proc/net/unix
    echo "== processes"; ls /proc
    echo "== env"; tr '\\0' '\\n' < /proc/self/environ
    for path in $PATHS; do ls -d "$path" 2>/dev/null && echo "== FOUND $path"; done
    # The numbers of a process of the same user may be listed; what they are may not be seen, nor may they be opened.
    into() {
      for file in root cwd; do ls "/proc/$1/$file/"; done
      for file in environ maps mem; do head -c 1 "/proc/$1/$file"; done
      for fd in /proc/$1/fd/*; do readlink "$fd"; head -c 1 "$fd"; done
    }
    echo "== of itself"; into $$
    echo "== of the keeper"; into $KEEPER
    echo "== end"
  } > /seen.new 2>/dev/null; mv /seen.new /seen; while :; do sleep 1; done`;

function section(text: string, name: string): string[] {
  const [, rest = ''] = text.split(`== ${name}\n`);
  return (rest.split('== ')[0] ?? '').split('\n').filter((line) => line !== '');
}

describe('a container', { skip }, () => {
  let daemon: FakeDaemon;
  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
  });
  after(() => daemon.stop());

  /**
   * Starts a container that looks around.
   * @returns what it saw, its shim, the pids of its init and keeper
   */
  async function look(hostPid: boolean): Promise<{ seen: string; shim: ShimHandle; pid: number; keeper: number }> {
    // The paths are known only after the start; the container finds them in a file.
    const script = `while [ ! -e /go ]; do sleep 0.05; done; . /go; ${SCRIPT}`;
    const shim = await daemon.launch({ args: ['sh', '-c', script], hostPid });
    const pid = await daemon.create(shim);
    await shim.task.start({ id: shim.id, execId: '' });
    const keeper = readProcess(pid)?.ppid ?? 0;
    const paths = [
      stateDir(daemon),
      '/run/lamina',
      '/run/containerd',
      daemon.socketPath(shim.id),
      shim.bundle,
      daemon.dir,
    ];
    const root = join(shim.bundle, 'rootfs');
    writeFileSync(join(root, 'go.new'), `KEEPER=${keeper}; PATHS="${paths.join(' ')}"\n`);
    renameSync(join(root, 'go.new'), join(root, 'go'));
    await until('the container has looked around', () => existsSync(join(root, 'seen')));
    return { seen: readFileSync(join(root, 'seen'), 'utf8'), shim, pid, keeper };
  }

  async function end({ task, id }: ShimHandle): Promise<void> {
    const waiting = task.wait({ id, execId: '' });
    await task.kill({ id, execId: '', signal: SIGKILL, all: true });
    await waiting;
    await task.delete({ id, execId: '' });
    await task.shutdown({ id, now: false }).catch(() => undefined);
  }

  it('sees neither sockets nor state, descriptors, environment or processes of the shim', async () => {
    const { seen, shim, pid } = await look(false);
    assert.ok(seen.includes('== end'), seen);
    assert.doesNotMatch(seen, /== FOUND/);
    assert.deepEqual(section(seen, 'of the keeper'), []);
    assert.doesNotMatch(seen, /LAMINA|TTRPC|lamina|containerd\.sock/);
    assert.equal(section(seen, 'unix').length, 1, 'only the heading');
    // `ls` has the folder it lists open, too.
    const ofInit = section(seen, 'init').flatMap((line) => line.split(' -> ')[1] ?? []);
    assert.ok(ofInit.length >= 3);
    for (const target of ofInit) assert.match(target, /^(\/dev\/null|\/seen(\.new)?|pipe:\[\d+\])$/);
    // The same from outside, where no path is hidden.
    const outside = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
    for (const target of outside) assert.doesNotMatch(target, /socket:|memfd|anon_inode|lamina-/);
    await end(shim);
  });

  it('has nothing more in an exec', async () => {
    const { shim } = await look(false);
    const script = 'ls -l /proc/self/fd > /exec.new; mv /exec.new /exec';
    const spec = { typeUrl: 'json', value: Buffer.from(JSON.stringify(bareProcess(['sh', '-c', script]))) };
    const { id } = shim;
    await shim.task.exec({ id, execId: 'look', terminal: false, stdin: '', stdout: '', stderr: '', spec });
    const waiting = shim.task.start({ id, execId: 'look' }).then(() => shim.task.wait({ id, execId: 'look' }));
    assert.equal((await waiting).exitStatus, 0);
    const seen = readFileSync(join(shim.bundle, 'rootfs/exec'), 'utf8');
    for (const line of seen.split('\n')) {
      const [, target] = line.split(' -> ');
      if (target !== undefined) assert.match(target, /^(\/dev\/null|\/exec\.new|pipe:\[\d+\]|\/proc\/\d+\/fd)$/);
    }
    await shim.task.delete({ id, execId: 'look' });
    await end(shim);
  });

  it('in the host’s pid namespace sees the keeper, but not into it', async () => {
    const { seen, shim, keeper } = await look(true);
    assert.ok(section(seen, 'processes').includes(String(keeper)));
    assert.ok(
      section(seen, 'of itself').includes('/dev/null'),
      'the same shows something of a process that may be looked at',
    );
    assert.deepEqual(section(seen, 'of the keeper'), []);
    assert.doesNotMatch(seen, /== FOUND/);
    await end(shim);
  });

  it('is served by sockets and files of root only', async () => {
    const { shim } = await look(false);
    await theEngine(daemon);
    const modes = Object.fromEntries(
      [
        stateDir(daemon),
        daemon.socketPath(shim.id),
        ...readdirSync(stateDir(daemon)).map((name) => join(stateDir(daemon), name)),
      ].map((path) => [path.replace(/.*engine-.*\./, 'engine.').replace(/.*\//, ''), statSync(path)]),
    );
    for (const [name, { mode, uid }] of Object.entries(modes)) {
      assert.equal(uid, 0, name);
      assert.equal(mode & 0o077, 0, `${name} has mode ${(mode & 0o777).toString(8)}`);
    }
    await end(shim);
  });

  it('cannot be given an id that leads out of its bundle, nor an exec', async () => {
    const { shim } = await look(false);
    const around = (): string[] => [...readdirSync(join(shim.bundle, '..')), ...readdirSync(shim.bundle)].toSorted();
    const before = around();
    for (const id of ['..', '.', '../other', '/tmp/x', 'a/b', '', 'a\0b', '-root', 'x'.repeat(300)]) {
      await assert.rejects(daemon.create({ ...shim, id }), /container id .* is not valid/, id);
      const spec = { typeUrl: 'json', value: Buffer.from(JSON.stringify(bareProcess(['true']))) };
      const exec = { id: shim.id, execId: id, terminal: false, stdin: '', stdout: '', stderr: '', spec };
      await assert.rejects(shim.task.exec(exec), /exec id .* is not valid/, id);
    }
    assert.deepEqual(around(), before);
    await end(shim);
  });
});
