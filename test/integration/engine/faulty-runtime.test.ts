/**
 * The runtime crashes or tells nonsense. Each time there is an error that says so, and nothing is
 * left or lost by it.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { Status } from '../../../src/api/index.js';
import { Code } from '../../../src/base/index.js';
import { LAMINA } from '../../lib/box.js';
import { nothingLeft } from '../../lib/leftovers.js';
import { isAlive } from '../../lib/proc.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { addExec, failureOf, statusOf } from '../../lib/task-steps.js';
import { until } from '../../lib/wait.js';
import { assertLogged, assertNoneLeft, assertWell, end, FaultyRuntime, type Verb } from './faulty-runtime.js';

const skip = requires({ root: true, runc: '1.1', programs: ['bash'] }) || LAMINA.skip;
const SLEEP = { args: ['/bin/sleep', '1000'] };
const VERBS: readonly Verb[] = ['create', 'start', 'exec', 'delete', 'state'];

describe('a runtime that fails in ways of its own', { skip }, () => {
  let daemon: FakeDaemon;
  let runtime: FaultyRuntime;
  let stranger: ChildProcess;

  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
    runtime = new FaultyRuntime(daemon);
    stranger = spawn('sleep', ['1000'], { stdio: 'ignore' });
  });
  afterEach(() => {
    for (const verb of VERBS) runtime.on(verb, undefined);
    assert.equal(stranger.exitCode ?? stranger.signalCode, null, 'a process was killed that is nobody’s business');
  });
  after(async () => {
    stranger.kill('SIGKILL');
    await daemon.stop();
  });

  const create = (shim: ShimHandle, terminal = false): Promise<number> =>
    daemon.create(shim, { options: runtime.options, terminal });

  const running = async (): Promise<ShimHandle> => {
    const shim = await daemon.launch(SLEEP);
    await create(shim);
    await shim.task.start({ id: shim.id, execId: '' });
    return shim;
  };

  const node = (script: string): string => {
    const path = join(runtime.dir, `${Math.random().toString(36).slice(2)}.mjs`);
    writeFileSync(path, script);
    return `${process.execPath} ${path}`;
  };

  describe('at create', () => {
    let shim: ShimHandle;
    before(async () => {
      shim = await daemon.launch(SLEEP);
    });

    /** One create that fails; it does not hold against the next. */
    const failed = async (script: string, terminal = false): Promise<{ code: number; message: string }> => {
      const isOurs = !script.includes('exit 3');
      runtime.on('create', script);
      const { code, message } = await failureOf(create(shim, terminal));
      await nothingLeft(daemon, shim.id);
      assert.deepEqual(daemon.topics(shim.id), []);
      if (isOurs) await assertLogged(shim, /call failed/);
      return { code, message: message.replaceAll(shim.bundle, 'BUNDLE').replaceAll(shim.id, 'ID') };
    };

    it('crashes', async () => {
      const { code, message } = await failed('kill -SEGV $$');
      assert.equal(code, Code.Unknown);
      assert.match(message, /^OCI runtime create failed: .*signal: 11/);
    });

    it('crashes when all is done', async () => {
      const { code, message } = await failed('real; kill -KILL $$');
      assert.equal(code, Code.Unknown);
      assert.match(message, /^OCI runtime create failed: .*signal: 9/);
    });

    it('does nothing, and says that all is well', async () => {
      const { code, message } = await failed('exit 0');
      assert.equal(code, Code.DataLoss);
      assert.equal(
        message,
        'OCI runtime create failed: it reported success, but read BUNDLE/init.pid: no such file or directory',
      );
    });

    it('writes no pid into the pid file', async () => {
      const { code, message } = await failed(`real; printf 'x\\0\\377' >"$(flag --pid-file)"`);
      assert.equal(code, Code.DataLoss);
      assert.match(message, /^OCI runtime create failed: .*BUNDLE\/init\.pid: "x.*" is not a pid$/);
    });

    it('writes the pid of a stranger into the pid file', async () => {
      const { code, message } = await failed(`real; echo ${stranger.pid} >"$(flag --pid-file)"`);
      assert.equal(code, Code.DataLoss);
      assert.match(message, new RegExp(`process ${stranger.pid}, which is no new child of the keeper`));
    });

    it('fills its log with noise', async () => {
      const { code, message } = await failed(`head -c 400000 /dev/urandom >>"$(flag --log)"; exit 3`);
      assert.equal(code, Code.Unknown);
      assert.match(
        message,
        /^OCI runtime create failed: unable to retrieve OCI runtime error \(BUNDLE\/log\.json: \d+ unreadable log entries\): exit status 3$/,
      );
    });

    it('sends no terminal', async () => {
      const { code, message } = await failed('sleep 1000 & echo $! >"$(flag --pid-file)"', true);
      assert.equal(code, Code.DataLoss);
      assert.match(message, /success, but receive console on .*: the runtime has ended and sent nothing/);
    });

    it('sends words in place of a terminal', async () => {
      const send = node(
        `import net from 'node:net'; net.connect(process.argv[2]).end('no terminal');`.replaceAll('\n', ' '),
      );
      const { code, message } = await failed(
        `${send} "$(flag --console-socket)"; sleep 1000 & echo $! >"$(flag --pid-file)"`,
        true,
      );
      assert.equal(code, Code.DataLoss);
      assert.match(message, /the runtime sent 0 descriptors and 11 bytes instead of one descriptor and a name/);
    });

    it('sends something else than a terminal', async () => {
      const sys = new URL('../../../src/sys/index.js', import.meta.url).href;
      const send = node(`
        import { openSync } from 'node:fs';
        const { binding } = await import('${sys}');
        const connection = binding().connectUnix(process.argv[2], 'stream');
        binding().sendMessage(connection, Buffer.from('/dev/null'), [openSync('/dev/null', 'r+')]);
      `);
      const { code, message } = await failed(
        `${send} "$(flag --console-socket)"; sleep 1000 & echo $! >"$(flag --pid-file)"`,
        true,
      );
      assert.equal(code, Code.DataLoss);
      assert.match(message, /the runtime has sent something else than a terminal/);
    });

    it('does as it should, after all that', async () => {
      await create(shim);
      await shim.task.start({ id: shim.id, execId: '' });
      await assertWell(daemon, shim);
    });
  });

  describe('at start', () => {
    const created = async (): Promise<ShimHandle> => {
      const shim = await daemon.launch(SLEEP);
      await create(shim);
      return shim;
    };

    for (const [what, script] of [
      ['crashes', 'kill -KILL $$'],
      ['crashes when all is done', 'real; kill -KILL $$'],
    ] as const) {
      it(`${what}: init does not run on`, async () => {
        const shim = await created();
        runtime.on('start', script);
        const { code, message } = await failureOf(shim.task.start({ id: shim.id, execId: '' }));
        assert.equal(code, Code.Unknown);
        assert.match(message, /^OCI runtime start failed: .*signal: 9/);
        assert.equal((await shim.task.wait({ id: shim.id, execId: '' })).exitStatus, 137);
        assert.equal(await statusOf(shim), Status.STOPPED);
        await assertLogged(shim, /start was interrupted/);
        await shim.task.delete({ id: shim.id, execId: '' });
        await daemon.waitForTopic(shim.id, 'delete');
        assert.deepEqual(daemon.topics(shim.id), ['create', 'exit', 'delete']);
        await end(daemon, shim);
      });
    }

    it('fails without a word: the next try may succeed', async () => {
      const shim = await created();
      runtime.on('start', 'exit 5');
      const { code, message } = await failureOf(shim.task.start({ id: shim.id, execId: '' }));
      assert.equal(code, Code.Unknown);
      assert.match(message, /^OCI runtime start failed: .*exit status 5$/);
      assert.equal(await statusOf(shim), Status.CREATED);
      runtime.on('start', undefined);
      await shim.task.start({ id: shim.id, execId: '' });
      await assertWell(daemon, shim);
    });

    it('prints without end', async () => {
      const shim = await created();
      runtime.on('start', 'while :; do head -c 1000000 /dev/zero; done');
      const { code, message } = await failureOf(shim.task.start({ id: shim.id, execId: '' }));
      assert.equal(code, Code.ResourceExhausted);
      assert.match(message, /start \S+ printed more than 16 MiB and was killed/);
      assert.equal((await shim.task.wait({ id: shim.id, execId: '' })).exitStatus, 137);
      await shim.task.delete({ id: shim.id, execId: '' });
      await end(daemon, shim);
    });

    it('takes its time: all else is answered meanwhile', async () => {
      const [shim, other] = [await created(), await running()];
      runtime.on('start', 'mkdir "$dir/held"; while [ ! -e "$dir/go" ]; do sleep 0.02; done; real');
      const starting = shim.task.start({ id: shim.id, execId: '' });
      await until('the runtime is held', () => runtime.has('held'));
      assert.equal(await statusOf(shim), Status.CREATED);
      await shim.task.pids({ id: shim.id });
      await shim.task.stats({ id: shim.id });
      await assertWell(daemon, other);
      // Who asks while it starts, is told once it has.
      const state = statusOf(shim);
      runtime.touch('go');
      await starting;
      assert.ok(([Status.CREATED, Status.RUNNING] as number[]).includes(await state));
      assert.equal(await statusOf(shim), Status.RUNNING);
      runtime.remove('held');
      runtime.remove('go');
      await assertWell(daemon, shim);
    });
  });

  describe('at exec', () => {
    let shim: ShimHandle;
    before(async () => {
      shim = await running();
    });

    const failed = async (script: (init: number) => string): Promise<{ code: number; message: string }> => {
      const { pid } = await shim.task.state({ id: shim.id, execId: '' });
      await addExec(shim, 'x', ['/bin/sleep', '1000']);
      runtime.on('exec', script(pid));
      const { code, message } = await failureOf(shim.task.start({ id: shim.id, execId: 'x' }));
      runtime.on('exec', undefined);
      assert.equal((await shim.task.wait({ id: shim.id, execId: 'x' })).exitStatus, 255);
      await shim.task.delete({ id: shim.id, execId: 'x' });
      assert.ok(isAlive(pid), 'init was killed');
      assert.equal(await statusOf(shim), Status.RUNNING);
      return { code, message: message.replaceAll(shim.bundle, 'BUNDLE') };
    };

    it('crashes', async () => {
      const { code, message } = await failed(() => 'kill -ABRT $$');
      assert.equal(code, Code.Unknown);
      assert.match(message, /^OCI runtime exec failed: .*signal: 6/);
    });

    it('does nothing, and says that all is well', async () => {
      const { code, message } = await failed(() => 'exit 0');
      assert.equal(code, Code.DataLoss);
      assert.match(message, /^OCI runtime exec failed: it reported success, but read BUNDLE\/x\.pid: no such file/);
    });

    it('writes the pid of a stranger into the pid file', async () => {
      const { code, message } = await failed(() => `echo ${stranger.pid} >"$(flag --pid-file)"`);
      assert.equal(code, Code.DataLoss);
      assert.match(message, /which is no new child of the keeper/);
    });

    it('writes the pid of init into the pid file', async () => {
      const { code, message } = await failed((init) => `echo ${init} >"$(flag --pid-file)"`);
      assert.equal(code, Code.DataLoss);
      assert.match(message, /which is no new child of the keeper/);
    });

    for (const [whose, pid] of [
      ['a stranger', () => stranger.pid ?? 0],
      ['init', (init: number) => init],
    ] as const) {
      it(`writes the pid of ${whose} into the pid file, and crashes`, async () => {
        const { code } = await failed((init) => `echo ${pid(init)} >"$(flag --pid-file)"; kill -KILL $$`);
        assert.equal(code, Code.Unknown);
      });
    }

    it('crashes when all is done: what it has started is ended', async () => {
      await addExec(shim, 'x', ['/bin/sleep', '2000']);
      runtime.on('exec', 'real; kill -KILL $$');
      const { code } = await failureOf(shim.task.start({ id: shim.id, execId: 'x' }));
      assert.equal(code, Code.Unknown);
      await until('the exec is gone', async () => (await shim.task.pids({ id: shim.id })).processes.length === 1);
      await shim.task.delete({ id: shim.id, execId: 'x' });
    });

    it('does as it should, after all that', () => assertWell(daemon, shim));
  });

  describe('at delete', () => {
    const stopped = async (): Promise<ShimHandle> => {
      const shim = await running();
      await shim.task.kill({ id: shim.id, execId: '', signal: 9, all: true });
      await shim.task.wait({ id: shim.id, execId: '' });
      return shim;
    };

    it('crashes: the next try does it', async () => {
      const shim = await stopped();
      runtime.on('delete', 'kill -KILL $$');
      const { code, message } = await failureOf(shim.task.delete({ id: shim.id, execId: '' }));
      assert.equal(code, Code.Unknown);
      assert.match(message, /^failed to delete task: .*signal: 9/);
      assert.equal(await statusOf(shim), Status.STOPPED);
      runtime.on('delete', undefined);
      assert.equal((await shim.task.delete({ id: shim.id, execId: '' })).exitStatus, 137);
      await daemon.waitForTopic(shim.id, 'delete');
      assert.deepEqual(daemon.topics(shim.id), ['create', 'start', 'exit', 'delete']);
      await end(daemon, shim);
    });

    it('does not end init, and says that all is well', async () => {
      const shim = await daemon.launch(SLEEP);
      const init = await create(shim);
      runtime.on('delete', 'exit 0');
      assert.equal((await shim.task.delete({ id: shim.id, execId: '' })).exitStatus, 137);
      assert.equal(isAlive(init), false);
      await assertLogged(shim, /left its init/);
      runtime.on('delete', undefined);
      await daemon.deleteVerb(shim);
      await end(daemon, shim);
    });
  });

  it('leaves no program behind', () => assertNoneLeft(daemon));
});
