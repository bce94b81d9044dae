/**
 * Descriptors run out: in the engine, in a keeper, in the start verb. What needs one is refused
 * with ResourceExhausted and a line in the log, everything else is served; when there are some
 * again, all goes on, and none was lost.
 */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { makeFifo } from '../../lib/fifo-reader.js';
import { descriptorsOf, endShim, isDone, leaveDescriptors, readLog, tryExec } from '../../lib/limits.js';
import { readProcess } from '../../lib/proc.js';
import { engineLog, keepers, theEngine } from '../../lib/processes.js';
import { LAMINA_BIN } from '../../lib/repo.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { until } from '../../lib/wait.js';

const skip = requires({ root: true, runc: '1.1', programs: ['prlimit'] });
const SHIM = 'containerd-shim-lamina-v2';

/** How many descriptors a process has left: with each a start gets a little further. */
const ROOMS = { engine: [0, 2, 3, 4, 5, 6], keeper: [0, 2, 33, 36] };

/**
 * How many descriptors a process has, without statistics files and the way to the daemon, which
 * come and go.
 */
function countOf(pid: number): number {
  return [...descriptorsOf(pid).values()].filter((target) => !/^\/sys\/fs\/cgroup|^socket:/.test(target)).length;
}

describe('descriptors run out', { skip }, () => {
  let daemon: FakeDaemon;
  let shim: ShimHandle;
  let keeper = 0;
  let fifo = '';

  before(async () => {
    daemon = await FakeDaemon.start(SHIM);
    fifo = await makeFifo(join(daemon.dir, 'out'));
    shim = await daemon.launch({ args: ['sleep', '1000'] });
    keeper = readProcess(await daemon.create(shim))?.ppid ?? 0;
    await shim.task.start({ id: shim.id, execId: '' });
  });
  after(() => daemon.stop());

  const kinds = {
    'with FIFOs': () => ({ stdout: fifo, stderr: fifo }),
    'at a terminal': () => ({ stdout: fifo, terminal: true }),
  };
  for (const [kind, streams] of Object.entries(kinds)) {
    for (const [who, rooms] of Object.entries(ROOMS)) {
      it(`in the ${who}, for execs ${kind}`, async () => {
        const engine = await theEngine(daemon);
        const pid = who === 'engine' ? engine : keeper;
        assert.ok(await tryExec(shim, 'before', ['true'], streams()));
        const counts = (): number[] => [countOf(engine), countOf(keeper)];
        const usual = counts();
        readLog(shim.bundle);
        let refused = 0;
        for (const room of rooms) {
          const giveBack = await leaveDescriptors(pid, room);
          try {
            if (!(await tryExec(shim, `room${room}`, ['true'], streams()))) refused += 1;
            await shim.task.state({ id: shim.id, execId: '' });
            await isDone(shim.task.stats({ id: shim.id }));
            await isDone(shim.task.pids({ id: shim.id }));
          } finally {
            await giveBack();
          }
        }
        assert.ok(await tryExec(shim, 'again', ['true'], streams()), 'not even afterwards');
        assert.ok(refused > 0, 'nothing was refused');
        assert.match(readLog(shim.bundle), who === 'engine' ? /EMFILE/ : /descriptors left.*component=keeper/);
        await until('no descriptor was lost', () => counts().every((count, i) => count <= (usual[i] ?? 0)), {
          detail: () => `${usual} before, now ${counts()}`,
        });
        assert.equal(await theEngine(daemon), engine, 'the engine has died of it');
      });
    }
  }

  it('in the engine: another keeper waits until there are some', async () => {
    const engine = await theEngine(daemon);
    const giveBack = await leaveDescriptors(engine, 0);
    let other: ShimHandle;
    let waiting: Promise<unknown>;
    try {
      other = await daemon.launch({ args: ['sleep', '1000'] });
      waiting = other.task.connect({ id: other.id });
      await until('the engine says so', () => engineLog(daemon).includes('cannot take a keeper in: EMFILE'));
      await shim.task.state({ id: shim.id, execId: '' });
    } finally {
      await giveBack();
    }
    await waiting;
    assert.equal(await theEngine(daemon), engine);
    await daemon.create(other);
    await other.task.start({ id: other.id, execId: '' });
    await endShim(other);
  });

  it('in the keeper: a client waits until there are some', async () => {
    readLog(shim.bundle);
    const giveBack = await leaveDescriptors(keeper, 0);
    let answer: Promise<unknown>;
    try {
      const connection = await daemon.connectTask(shim.address);
      answer = connection.connect({ id: shim.id });
      let log = '';
      await until('the keeper says so', () => {
        log += readLog(shim.bundle);
        return log.includes('cannot accept: Too many open files');
      });
      await shim.task.state({ id: shim.id, execId: '' });
    } finally {
      await giveBack();
    }
    await answer;
  });

  it('in the keeper: its container can be ended and removed with the last of them', async () => {
    const last = await daemon.launch({ args: ['sleep', '1000'] });
    const itsKeeper = readProcess(await daemon.create(last))?.ppid ?? 0;
    await last.task.start({ id: last.id, execId: '' });
    await leaveDescriptors(itsKeeper, 30);
    assert.equal(await tryExec(last, 'refused', ['true'], { stdout: fifo }), false);
    await endShim(last);
    await until('its keeper has ended', () => !keepers(daemon).includes(itsKeeper));
  });

  it('in the start verb: it says so and leaves nothing', async () => {
    // A shell, as the limit must be there before the program begins.
    const limited = join(daemon.dir, 'limited');
    writeFileSync(limited, `#!/bin/sh\nulimit -S -n $ROOM\nexec ${join(LAMINA_BIN, SHIM)} "$@"\n`, { mode: 0o755 });
    const other = await FakeDaemon.start(limited);
    try {
      const bundle = await other.bundle({ args: ['true'] });
      let refused = 0;
      for (let room = 3; ; room += 1) {
        const { code, stdout, stderr } = await other.verb(bundle, ['start'], { env: { ROOM: String(room) } });
        if (code === 0) {
          const task = await other.connectTask(stdout.toString());
          await task.connect({ id: bundle.id });
          await task.shutdown({ id: bundle.id, now: false }).catch(() => undefined);
          break;
        }
        refused += 1;
        assert.match(stderr, /Too many open files/);
        assert.equal(stdout.length, 0);
        assert.ok(!existsSync(other.socketPath(bundle.id)), 'a socket is left');
        assert.ok(!existsSync(join(bundle.path, 'address')), 'an address is left');
        assert.deepEqual(keepers(other), []);
      }
      assert.ok(refused > 0, 'nothing was refused');
    } finally {
      await other.stop();
    }
  });

  it('and in the end nothing is left', async () => {
    await endShim(shim);
    await until('all keepers have ended', () => keepers(daemon).length === 0);
  });
});
