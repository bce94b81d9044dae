/**
 * Processes run out: for keeper, engine and start verb, and in a container that forks without end.
 * What needs one is refused with ResourceExhausted, the rest is served; when there are some again,
 * all goes on.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import * as api from '../../../src/api/index.js';
import { SIGKILL } from '../../../src/sys/index.js';
import { endShim, isDone, readLog, tryExec } from '../../lib/limits.js';
import { readProcess } from '../../lib/proc.js';
import { engines, keepers, theEngine } from '../../lib/processes.js';
import { LAMINA_BIN } from '../../lib/repo.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { until } from '../../lib/wait.js';

const SHIM = 'containerd-shim-lamina-v2';
const V1 = '/sys/fs/cgroup/pids';
/** Where groups with pids.max are made. */
const PIDS = existsSync(V1) ? V1 : '/sys/fs/cgroup';
const noPids = !existsSync(V1) && !readFileSync(join(PIDS, 'cgroup.subtree_control'), 'utf8').includes('pids');
if (noPids) console.log('skipped: no pids controller for groups below the root');
const skip = requires({ root: true, runc: '1.1' }) || (noPids && 'no pids controller for groups below the root');

/**
 * A group of processes that may not become more. The daemon removes it with everything that carries
 * its marker.
 */
class Crowd {
  readonly dir: string;

  constructor(name: string) {
    this.dir = join(PIDS, name);
    mkdirSync(this.dir);
  }

  take(pid: number): void {
    writeFileSync(join(this.dir, 'cgroup.procs'), String(pid));
  }

  set max(count: number | 'max') {
    writeFileSync(join(this.dir, 'pids.max'), String(count));
  }
}

describe('processes run out', { skip }, () => {
  let daemon: FakeDaemon;
  let shim: ShimHandle;
  let crowd: Crowd;
  let keeper = 0;

  before(async () => {
    daemon = await FakeDaemon.start(SHIM);
    shim = await daemon.launch({ args: ['sleep', '1000'] });
    keeper = readProcess(await daemon.create(shim))?.ppid ?? 0;
    await shim.task.start({ id: shim.id, execId: '' });
    crowd = new Crowd(`${daemon.marker}-crowd`);
    for (const pid of [keeper, await theEngine(daemon)]) crowd.take(pid);
  });
  after(async () => {
    crowd.max = 'max';
    await daemon.stop();
  });

  it('for keeper and engine: what starts a program is refused, everything else is done', async () => {
    const { id, task } = shim;
    const engine = await theEngine(daemon);
    readLog(shim.bundle);
    crowd.max = 1;
    try {
      assert.equal(await tryExec(shim, 'refused'), false);
      const { pid } = await task.state({ id, execId: '' });
      assert.deepEqual(
        (await task.pids({ id })).processes.map((process) => process.pid),
        [pid],
      );
      await task.stats({ id });
      await task.pause({ id });
      await task.resume({ id });
      await daemon.waitForTopic(id, 'resumed');
    } finally {
      crowd.max = 'max';
    }
    assert.match(readLog(shim.bundle), /level=warning msg="call failed".*method=Start.*clone/);
    assert.ok(await tryExec(shim, 'done'));
    assert.equal(await theEngine(daemon), engine);
  });

  it('for keeper and engine: a container can be killed, and deleted when there are some again', async () => {
    const other = await daemon.launch({ args: ['sleep', '1000'] });
    const itsKeeper = readProcess(await daemon.create(other))?.ppid ?? 0;
    const { id, task } = other;
    await task.start({ id, execId: '' });
    crowd.take(itsKeeper);
    const waiting = task.wait({ id, execId: '' });
    crowd.max = 1;
    try {
      await task.kill({ id, execId: '', signal: SIGKILL, all: true });
      assert.equal((await waiting).exitStatus, 128 + SIGKILL);
      await daemon.waitForTopic(id, 'exit');
      assert.equal(await isDone(task.delete({ id, execId: '' })), false);
      assert.equal((await task.state({ id, execId: '' })).status, api.Status.STOPPED);
    } finally {
      crowd.max = 'max';
    }
    assert.equal((await task.delete({ id, execId: '' })).exitStatus, 128 + SIGKILL);
    await daemon.waitForTopic(id, 'delete');
    await task.shutdown({ id, now: false }).catch(() => undefined);
  });

  it('when the engine dies: calls wait for its successor', async () => {
    const { id, task } = shim;
    const engine = await theEngine(daemon);
    readLog(shim.bundle);
    crowd.max = 1;
    let waiting: Promise<api.taskV2.StateResponse>;
    try {
      process.kill(engine, 'SIGKILL');
      await until('the engine is gone', () => !engines(daemon).includes(engine));
      waiting = task.state({ id, execId: '' });
      let log = '';
      await until(
        'the keeper says why there is no other',
        () => {
          log += readLog(shim.bundle);
          return /no engine: clone: Resource temporarily unavailable/.test(log);
        },
        { detail: () => log },
      );
    } finally {
      crowd.max = 'max';
    }
    assert.equal((await waiting).status, api.Status.RUNNING);
    assert.ok(await tryExec(shim, 'after'));
  });

  it('for the start verb: it says so and leaves nothing', async () => {
    const alone = new Crowd(`${daemon.marker}-alone`);
    const limited = join(daemon.dir, 'limited');
    const shell = `#!/bin/sh\necho 0 >${alone.dir}/cgroup.procs\nexec ${join(LAMINA_BIN, SHIM)} "$@"\n`;
    writeFileSync(limited, shell, { mode: 0o755 });
    const other = await FakeDaemon.start(limited);
    try {
      alone.max = 1;
      const bundle = await other.bundle({ args: ['true'] });
      const { code, stdout, stderr } = await other.verb(bundle, ['start']);
      assert.equal(code, 1);
      assert.match(stderr, /fork: Resource temporarily unavailable/);
      assert.equal(stdout.length, 0);
      assert.ok(!existsSync(other.socketPath(bundle.id)), 'a socket is left');
      assert.ok(!existsSync(join(bundle.path, 'address')), 'an address is left');
      assert.deepEqual(keepers(other), []);
    } finally {
      await other.stop();
    }
  });

  for (const hostPid of [false, true]) {
    it(`in a container that forks without end (${hostPid ? 'in the host’s' : 'with its own'} pid namespace): it is killed and deleted, others are served`, async () => {
      // A shell that cannot fork ends: then another can.
      const script = 'f() { while :; do f & done; }; f 2>/dev/null & exec sleep 1000';
      const bomb = await daemon.launch({ args: ['sh', '-c', script], hostPid, resources: { pids: { limit: 40 } } });
      const { id, task } = bomb;
      const pid = await daemon.create(bomb);
      const group = /^\d+:(?:pids)?:(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1] ?? '';
      await task.start({ id, execId: '' });
      const events = join(PIDS, group, 'pids.events');
      await until('it is at its limit', () => Number(/max (\d+)/.exec(readFileSync(events, 'utf8'))?.[1]) > 0);
      assert.ok(await tryExec(shim, `beside-${hostPid}`));
      assert.equal((await task.state({ id, execId: '' })).status, api.Status.RUNNING);
      assert.ok((await task.pids({ id })).processes.length <= 40);
      await task.stats({ id });
      await endShim(bomb);
      await daemon.waitForTopic(id, 'delete');
      assert.deepEqual(
        daemon.topics(id).filter((topic) => topic === 'exit'),
        ['exit'],
      );
      assert.ok(!existsSync(join(PIDS, group)), 'its cgroup is left');
      assert.ok(await tryExec(shim, `behind-${hostPid}`));
    });
  }

  it('and in the end nothing is left', async () => {
    await endShim(shim);
    await until('all keepers have ended', () => keepers(daemon).length === 0);
  });
});
