/**
 * The disk that bundles, our own state, the runtime's state and temporary files are on (/run) is
 * full. What has to write is refused with ResourceExhausted and undone; containers run on, end and
 * are deleted; when there is room again, all goes on.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import * as api from '../../../src/api/index.js';
import { endShim, isDone, readLog, tryExec } from '../../lib/limits.js';
import { listProcesses, readProcess, readProcFile } from '../../lib/proc.js';
import { engines, keepers, killEngine, stateFiles, theEngine } from '../../lib/processes.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { SmallDisk } from '../../lib/small-disk.js';
import { until } from '../../lib/wait.js';

const skip = requires({ root: true, runc: '1.1' });

describe('the disk is full', { skip }, () => {
  let daemon: FakeDaemon;
  let disk: SmallDisk;
  let options: api.Any;
  let shim: ShimHandle;

  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
    disk = await SmallDisk.mount(join(daemon.dir, 'run'));
    for (const name of ['bundles', 'lamina', 'tmp', 'runc']) mkdirSync(join(disk.dir, name), { mode: 0o700 });
    symlinkSync(join(disk.dir, 'bundles'), join(daemon.dir, 'bundles'));
    daemon.env['LAMINA_STATE_DIR'] = join(disk.dir, 'lamina');
    daemon.env['TMPDIR'] = join(disk.dir, 'tmp');
    const root = join(disk.dir, 'runc');
    options = api.packMessage(api.runc.Options, api.runc.Options.fromPartial({ root }));
    shim = await daemon.launch({ args: ['sleep', '1000'] });
    await daemon.create(shim, { options });
    await shim.task.start({ id: shim.id, execId: '' });
  });
  after(async () => {
    disk.free();
    try {
      await until('engine and keepers have ended', () => engines(daemon).length + keepers(daemon).length === 0);
    } finally {
      await disk.unmount();
      await daemon.stop();
    }
  });

  /** Runs a step while the disk is full. */
  async function full<T>(fill: (disk: SmallDisk) => void, step: () => Promise<T>): Promise<T> {
    fill(disk);
    try {
      return await step();
    } finally {
      disk.free();
    }
  }

  /** Whatever there is of a container: its processes, what the runtime knows of it. */
  function tracesOf(id: string): string[] {
    const root = join(disk.dir, 'runc', daemon.namespace);
    const processes = listProcesses().filter(({ pid }) => readProcFile(pid, 'cgroup').includes(id));
    return [
      ...processes.map(({ pid, commandLine }) => `${pid} ${commandLine}`),
      ...readdirSync(root).filter((name) => name === id),
      ...['pids', 'memory', 'unified', ''].filter((kind) =>
        existsSync(join('/sys/fs/cgroup', kind, daemon.namespace, id)),
      ),
    ];
  }

  const fills = {
    'no byte': (target: SmallDisk) => target.fill(),
    'no name': (target: SmallDisk) => target.fillNames(),
  };
  for (const [what, fill] of Object.entries(fills)) {
    it(`at the start verb (${what}): it says so and leaves nothing`, async () => {
      const bundle = await daemon.bundle({ args: ['true'] });
      const before = keepers(daemon);
      const files = readdirSync(bundle.path);
      const refused = await full(fill, () => daemon.verb(bundle, ['start']));
      assert.equal(refused.code, 1);
      assert.match(refused.stderr, /address: No space left on device/);
      assert.equal(refused.stdout.length, 0);
      assert.deepEqual(readdirSync(bundle.path), files);
      assert.ok(!existsSync(daemon.socketPath(bundle.id)), 'a socket is left');
      assert.deepEqual(keepers(daemon), before);
      const { stdout } = await daemon.verb(bundle, ['start']);
      const task = await daemon.connectTask(stdout.toString());
      await task.connect({ id: bundle.id });
      await task.shutdown({ id: bundle.id, now: false }).catch(() => undefined);
    });
  }

  it('at Create: it is refused and undone, wherever the room ends', async () => {
    const other = await daemon.launch({ args: ['sleep', '1000'] });
    const results: boolean[] = [];
    for (let pages = 0; results.at(-1) !== true; pages += 1) {
      const isMade = await full(
        (target) => target.fill(pages),
        () => isDone(daemon.create(other, { options })),
      );
      results.push(isMade);
      if (!isMade)
        await until('nothing is left', () => tracesOf(other.id).length === 0, {
          detail: () => tracesOf(other.id).join('\n'),
        });
    }
    assert.ok(results.length > 2, 'hardly ever refused');
    assert.match(readLog(other.bundle), /level=warning msg="call failed".*method=Create.*(ENOSPC|no space left)/);
    await other.task.start({ id: other.id, execId: '' });
    await endShim(other);
  });

  it('at exec: it is refused, wherever the room ends; nothing of it runs on', async () => {
    const processes = async (): Promise<number> => (await shim.task.pids({ id: shim.id })).processes.length;
    const results: boolean[] = [];
    for (let pages = 0; results.at(-1) !== true; pages += 1) {
      results.push(
        await full(
          (target) => target.fill(pages),
          () => tryExec(shim, `pages${pages}`),
        ),
      );
      await until('only init runs', async () => (await processes()) === 1);
    }
    assert.ok(results.length > 1, 'never refused');
  });

  it('at start, exit and Delete: all is done', async () => {
    const other = await daemon.launch({ args: ['sh', '-c', 'exit 42'] });
    await daemon.create(other, { options });
    const { id, task } = other;
    await full(
      (target) => target.fill(),
      async () => {
        const waiting = task.wait({ id, execId: '' });
        await task.start({ id, execId: '' });
        assert.equal((await waiting).exitStatus, 42);
        await daemon.waitForTopic(id, 'exit');
        assert.match(readLog(other.bundle), /level=warning msg="write the exit record.*(ENOSPC|no space left)/);
        assert.equal((await task.delete({ id, execId: '' })).exitStatus, 42);
      },
    );
    await daemon.waitForTopic(id, 'delete');
    assert.deepEqual(tracesOf(id), []);
    await task.shutdown({ id, now: false }).catch(() => undefined);
  });

  it('when the engine dies (no byte): its successor serves', async () => {
    await full(
      (target) => target.fill(),
      async () => {
        const [before] = await killEngine(daemon);
        assert.equal((await shim.task.state({ id: shim.id, execId: '' })).status, api.Status.RUNNING);
        assert.notEqual(await theEngine(daemon), before);
      },
    );
    assert.ok(await tryExec(shim, 'after-bytes'));
  });

  it('when the engine dies (no name): calls wait for its successor, which comes once there is room', async () => {
    // Its socket must be gone, too: it is in the way of nobody.
    let waiting: Promise<api.taskV2.StateResponse> | undefined;
    readLog(shim.bundle);
    await full(
      (target) => target.fillNames(),
      async () => {
        await killEngine(daemon);
        waiting = shim.task.state({ id: shim.id, execId: '' });
        let log = '';
        await until(
          'a new engine, or the keeper says why there is none',
          () => {
            log += readLog(shim.bundle);
            return engines(daemon).length > 0 || /no engine: .*No space left on device/.test(log);
          },
          { detail: () => log },
        );
      },
    );
    assert.equal((await waiting)?.status, api.Status.RUNNING);
    assert.ok(await tryExec(shim, 'after-names'));
  });

  it('and in the end nothing is left', async () => {
    const keeper = readProcess((await shim.task.state({ id: shim.id, execId: '' })).pid)?.ppid;
    await endShim(shim);
    await until('the keeper has ended', () => keeper !== undefined && !keepers(daemon).includes(keeper));
    await until('the engine has ended', () => engines(daemon).length === 0 && stateFiles(daemon).length === 0);
    assert.deepEqual(readdirSync(join(disk.dir, 'tmp')), []);
  });
});
