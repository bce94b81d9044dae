import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import * as api from '../../../src/api/index.js';
import { LaminaError } from '../../../src/base/index.js';
import { createClient } from '../../../src/ttrpc/index.js';
import { testRuntimes } from '../../lib/box.js';
import { copyRootfs } from '../../lib/image.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { bareProcess } from '../../lib/spec.js';
import { until } from '../../lib/wait.js';

const SHIMS = { stock: 'containerd-shim-runc-v2', lamina: 'containerd-shim-lamina-v2' } as const;
const skip = requires({ root: true, runc: '1.1', programs: [SHIMS.stock] });

/** Code and text of a call that must fail, ids replaced. */
async function failure(shim: ShimHandle, call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    assert.ok(error instanceof LaminaError);
    return `${error.code}: ${error.message.replaceAll(shim.id, 'ID').replaceAll(shim.bundle, 'BUNDLE')}`;
  }
  throw new Error('the call succeeded');
}

const SLEEP = { args: ['/bin/sleep', '1000'] };

/** What each shim answered to the same wrong call; filled by the suites, compared at the end. */
const answers: Record<keyof typeof SHIMS, Map<string, string>> = { stock: new Map(), lamina: new Map() };

for (const runtime of testRuntimes()) {
  const label = runtime.label;
  describe(`the shim's calls [${label}]`, { skip: skip || runtime.skip }, () => {
    let daemon: FakeDaemon;

    before(async () => {
      daemon = await FakeDaemon.start(SHIMS[label]);
    });
    after(() => daemon.stop());

    /** Ends a container and its shim, whatever state it is in. */
    const finish = async (shim: ShimHandle): Promise<void> => {
      await shim.task.kill({ id: shim.id, execId: '', signal: 9, all: true }).catch(() => undefined);
      await shim.task.wait({ id: shim.id, execId: '' }).catch(() => undefined);
      await shim.task.delete({ id: shim.id, execId: '' }).catch(() => undefined);
      await shim.task.shutdown({ id: shim.id, now: false }).catch(() => undefined);
      shim.connection.close();
    };

    const exec = async (shim: ShimHandle, execId: string, args: readonly string[]): Promise<void> => {
      const spec = api.packJson(api.OCI_TYPE_URL.process, bareProcess(args));
      await shim.task.exec({ id: shim.id, execId, terminal: false, stdin: '', stdout: '', stderr: '', spec });
    };

    it('shows the rootfs to poststop hooks, and unmounts it', async () => {
      const image = join(daemon.dir, 'hooked-image');
      const seen = join(daemon.dir, `seen-${label}`);
      copyRootfs(image);
      writeFileSync(join(image, 'of-the-image'), '');
      const rootfs = [{ type: 'bind', source: image, target: '', options: ['rbind', 'rw'] }];
      for (const hooks of [{}, { poststop: [{ path: '/bin/sh', args: ['sh', '-c', `ls rootfs > ${seen}`] }] }]) {
        const shim = await daemon.launch({ ...SLEEP, hooks });
        await daemon.create(shim, { rootfs });
        assert.ok(existsSync(join(shim.bundle, 'rootfs/of-the-image')));
        await finish(shim);
        assert.ok(!existsSync(join(shim.bundle, 'rootfs/of-the-image')), 'still mounted');
      }
      assert.match(readFileSync(seen, 'utf8'), /^of-the-image$/m);
    });

    it('undoes the mounts of a rootfs that fails half way, and says which one failed', async () => {
      const shim = await daemon.launch(SLEEP);
      const rootfs = [
        { type: 'tmpfs', source: 'tmpfs', target: '', options: ['size=1m'] },
        { type: 'bind', source: '/no/such/source', target: '', options: ['rbind'] },
      ];
      const answer = await failure(shim, daemon.create(shim, { rootfs }));
      assert.match(answer, /^2: failed to mount rootfs component.*(\/no\/such\/source|no such file or directory)/);
      assert.equal(readFileSync('/proc/self/mountinfo', 'utf8').includes(shim.bundle), false);
      assert.match(await failure(shim, shim.task.state({ id: shim.id, execId: '' })), /^5: container not created/);
      await finish(shim);
    });

    it('changes limits of a running container', async () => {
      const shim = await daemon.launch(SLEEP);
      await daemon.create(shim);
      await shim.task.start({ id: shim.id, execId: '' });
      const resources = api.packJson(api.OCI_TYPE_URL.linuxResources, { pids: { limit: 17 } });
      await shim.task.update({ id: shim.id, resources, annotations: {} });
      const { stats } = await shim.task.stats({ id: shim.id });
      assert.ok(stats);
      const metrics =
        api.unpackMessage(api.cgroupsV1.Metrics, stats) ?? api.unpackMessage(api.cgroupsV2.Metrics, stats);
      assert.equal(metrics?.pids?.limit, 17n);
      await finish(shim);
    });

    it('starts, says where it listens, and leaves the address in the bundle', async () => {
      const shim = await daemon.launch(SLEEP);
      assert.equal(shim.address, `unix://${daemon.socketPath(shim.id)}`);
      assert.equal(readFileSync(join(shim.bundle, 'address'), 'utf8').trim(), shim.address);
      const reply = await shim.task.connect({ id: shim.id });
      assert.ok(reply.shimPid > 0);
      assert.equal(reply.taskPid, 0);
      await finish(shim);
      await until('the socket is removed', () => !existsSync(daemon.socketPath(shim.id)));
    });

    it('takes a container through its life, with events in order', async () => {
      const shim = await daemon.launch({ args: ['/bin/sh', '-c', 'exit 42'] });
      const pid = await daemon.create(shim);
      const created = await shim.task.state({ id: shim.id, execId: '' });
      assert.equal(created.status, api.Status.CREATED);
      assert.equal(created.pid, pid);
      assert.ok(created.exitedAt !== undefined && api.isGoZeroTime(created.exitedAt));
      const waiting = shim.task.wait({ id: shim.id, execId: '' });
      assert.equal((await shim.task.start({ id: shim.id, execId: '' })).pid, pid);
      const exit = await waiting;
      assert.equal(exit.exitStatus, 42);
      const again = await shim.task.wait({ id: shim.id, execId: '' });
      assert.deepEqual(again, exit);
      const stopped = await shim.task.state({ id: shim.id, execId: '' });
      assert.equal(stopped.status, api.Status.STOPPED);
      assert.equal(stopped.exitStatus, 42);
      const deleted = await shim.task.delete({ id: shim.id, execId: '' });
      assert.deepEqual({ pid: deleted.pid, status: deleted.exitStatus }, { pid, status: 42 });
      assert.deepEqual(deleted.exitedAt, exit.exitedAt);
      await daemon.waitForTopic(shim.id, '/tasks/delete'.replace('/tasks/', ''));
      assert.deepEqual(daemon.topics(shim.id), ['create', 'start', 'exit', 'delete']);
      await finish(shim);
    });

    it('says how things are to one client while another asks without a pause', async () => {
      const shim = await daemon.launch(SLEEP);
      await daemon.create(shim);
      await shim.task.start({ id: shim.id, execId: '' });
      const observer = createClient(api.taskV2.TaskDefinition, await daemon.connect(shim.address));
      let over = false;
      const observed = (async () => {
        const seen = new Set<api.Status>();
        while (!over) seen.add((await observer.state({ id: shim.id, execId: '' })).status);
        return seen;
      })();
      const status = async (execId = '') => (await shim.task.state({ id: shim.id, execId })).status;
      for (let round = 0; round < 10; round += 1) {
        assert.equal(await status(), api.Status.RUNNING);
        await shim.task.pause({ id: shim.id });
        assert.equal(await status(), api.Status.PAUSED);
        await shim.task.resume({ id: shim.id });
        assert.equal(await status(), api.Status.RUNNING);
        const execId = `exec-${round}`;
        await exec(shim, execId, ['/bin/sh', '-c', `exit ${round}`]);
        assert.equal(await status(execId), api.Status.CREATED);
        const ended = shim.task.wait({ id: shim.id, execId });
        await shim.task.start({ id: shim.id, execId });
        assert.equal((await ended).exitStatus, round);
        const { status: last, exitStatus } = await shim.task.state({ id: shim.id, execId });
        assert.deepEqual({ last, exitStatus }, { last: api.Status.STOPPED, exitStatus: round });
      }
      const end = shim.task.wait({ id: shim.id, execId: '' });
      await shim.task.kill({ id: shim.id, execId: '', signal: 9, all: false });
      await end;
      assert.equal(await status(), api.Status.STOPPED);
      over = true;
      assert.ok((await observed).has(api.Status.RUNNING));
      await finish(shim);
    });

    it('answers every waiter, on every connection', async () => {
      const shim = await daemon.launch(SLEEP);
      await daemon.create(shim);
      const other = createClient(api.taskV2.TaskDefinition, await daemon.connect(shim.address));
      const request = { id: shim.id, execId: '' };
      const waits = [...Array(20)].flatMap(() => [shim.task.wait(request), other.wait(request)]);
      await shim.task.start(request);
      await other.kill({ ...request, signal: 9, all: false });
      const statuses = (await Promise.all(waits)).map((reply) => reply.exitStatus);
      assert.deepEqual(new Set(statuses), new Set([137]));
      await finish(shim);
    });

    it('keeps order and statuses of processes that end at once', async () => {
      const shim = await daemon.launch(SLEEP);
      await daemon.create(shim);
      await shim.task.start({ id: shim.id, execId: '' });
      const ids = Array.from({ length: 12 }, (_, n) => `quick${n}`);
      await Promise.all(
        ids.map(async (execId, n) => {
          await exec(shim, execId, ['/bin/sh', '-c', `exit ${n}`]);
          const waiting = shim.task.wait({ id: shim.id, execId });
          await shim.task.start({ id: shim.id, execId });
          assert.equal((await waiting).exitStatus, n);
          assert.equal((await shim.task.delete({ id: shim.id, execId })).exitStatus, n);
        }),
      );
      await shim.task.kill({ id: shim.id, execId: '', signal: 9, all: true });
      await shim.task.wait({ id: shim.id, execId: '' });
      await until('init’s exit', () =>
        daemon.events.some((item) => item.topic === '/tasks/exit' && item.event['id'] === shim.id),
      );
      const mine = daemon.events.filter((item) => item.event['containerId'] === shim.id);
      for (const execId of ids) {
        const own = mine.filter((item) => item.event['execId'] === execId || item.event['id'] === execId);
        assert.deepEqual(
          own.map((item) => item.topic),
          ['/tasks/exec-added', '/tasks/exec-started', '/tasks/exit'],
        );
      }
      assert.equal(mine.at(-1)?.event['id'], shim.id, 'init’s exit is the last event');
      await finish(shim);
    });

    it('does not shut down while a container is left', async () => {
      const shim = await daemon.launch(SLEEP);
      await daemon.create(shim);
      await shim.task.shutdown({ id: shim.id, now: false });
      assert.equal((await shim.task.state({ id: shim.id, execId: '' })).status, api.Status.CREATED);
      await finish(shim);
    });

    it('takes a second CloseIO', {
      skip: label === 'stock' && 'the stock shim answers "close stdin: ..." with code Unknown',
    }, async () => {
      const shim = await daemon.launch(SLEEP);
      await daemon.create(shim);
      for (const _ of [1, 2]) await shim.task.closeIO({ id: shim.id, execId: '', stdin: true });
      await finish(shim);
    });

    it('reports what is left of a container by the delete verb, more than once', async () => {
      const shim = await daemon.launch(SLEEP);
      const pid = await daemon.create(shim);
      await shim.task.start({ id: shim.id, execId: '' });
      const first = await daemon.deleteVerb(shim);
      assert.equal(first.pid, pid);
      assert.equal(first.exitStatus, 137);
      await daemon.deleteVerb(shim);
      await finish(shim);
    });

    it('answers wrong calls with the known codes and texts', async () => {
      const shim = await daemon.launch(SLEEP);
      const { id, task } = shim;
      const none = { id: 'none', execId: '' };
      const init = { id, execId: '' };
      const note = async (title: string, call: Promise<unknown>): Promise<void> => {
        answers[label].set(title, await failure(shim, call));
      };
      await note('state of an unknown id', task.state(none));
      await note('start of an unknown id', task.start(none));
      await note('kill of an unknown id', task.kill({ ...none, signal: 9, all: false }));
      await note('delete of an unknown id', task.delete(none));
      await note('pids of an unknown id', task.pids({ id: 'none' }));
      await note('stats of an unknown id', task.stats({ id: 'none' }));
      await note('wait for an unknown id', task.wait(none));
      await daemon.create(shim);
      await note('pause when created', task.pause({ id }));
      await note('resume when created', task.resume({ id }));
      await note('state of an unknown exec', task.state({ id, execId: 'nope' }));
      await exec(shim, 'idle', ['/bin/true']);
      await note('exec with an id in use', exec(shim, 'idle', ['/bin/true']));
      await note('kill of an exec that has not started', task.kill({ id, execId: 'idle', signal: 9, all: false }));
      await task.start(init);
      await note('start twice', task.start(init));
      await note('delete when running', task.delete(init));
      await note('resume when running', task.resume({ id }));
      await exec(shim, 'missing', ['/no/such/program']);
      await note('start of an exec without a program', task.start({ id, execId: 'missing' }));
      await task.pause({ id });
      await note('pause twice', task.pause({ id }));
      await note('start when paused', task.start(init));
      await note('delete when paused', task.delete(init));
      await task.resume({ id });
      await task.kill({ ...init, signal: 9, all: false });
      await task.wait(init);
      await note('pause when stopped', task.pause({ id }));
      await note('start when stopped', task.start(init));
      await note('kill when stopped', task.kill({ ...init, signal: 9, all: false }));
      await note('start of an exec when stopped', task.start({ id, execId: 'idle' }));
      await task.delete(init);
      await note('state after delete', task.state(init));
      await finish(shim);
    });
  });
}

/** Where containerd 1.6's shim differs from all later ones, whose answer is ours. */
const LATER_ANSWERS = new Map([
  [
    '2: OCI runtime exec failed: exec failed: cannot exec in a stopped container',
    '9: container ID init process is not running: failed precondition',
  ],
]);

describe('wrong calls', () => {
  it('have the same answers with both shims', {
    skip: skip || testRuntimes().find((r) => r.skip !== false)?.skip || false,
  }, (t) => {
    if (answers.stock.size === 0 || answers.lamina.size === 0) return t.skip('only one shim was tested');
    for (const [title, answer] of answers.stock) {
      assert.equal(answers.lamina.get(title), LATER_ANSWERS.get(answer) ?? answer, title);
    }
  });
});
