/**
 * The clock of the machine is set, by days, forwards and backwards, while containers run: nothing
 * that waits may end sooner or later for it, and what is told with a time has that of the clock as
 * it was then. Only here: this kernel's clock is nobody else's.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { mustRun } from '../../lib/command.js';
import { endShim, tryExec } from '../../lib/limits.js';
import { readProcess } from '../../lib/proc.js';
import { keepers, replaceEngine, theEngine } from '../../lib/processes.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { bareProcess } from '../../lib/spec.js';
import { until } from '../../lib/wait.js';

/**
 * Asked of the kernel itself, as whoever runs this by hand on a machine would set its clock: only
 * guests of test/vm/run.mjs are booted with this.
 */
const isGuest = / lamina\.swap=/.test(readFileSync('/proc/cmdline', 'utf8'));
if (!isGuest) console.log('skipped: this is no guest of test/vm/run.mjs, its clock is not ours to set');
const skip = isGuest ? requires({ root: true, runc: true }) : 'its clock is not ours to set';
const DAY_S = 86_400;
/** Between a process's end and our look at the clock. */
const SLACK_S = 60;

interface Stamp {
  readonly seconds: bigint;
}

/** Asserts that something happened by the clock as it is now. */
function assertNow(stamp: Stamp | undefined, what: string): void {
  const off = Math.abs(Number(stamp?.seconds ?? 0n) - Date.now() / 1000);
  assert.ok(off < SLACK_S, `${what}: ${off} s off the clock`);
}

describe('the clock is set', { skip }, () => {
  let daemon: FakeDaemon;
  let shim: ShimHandle;
  let keeper = 0;
  let aheadS = 0;

  /** @param byS seconds, may be negative */
  async function setClock(byS: number): Promise<void> {
    assert.ok(isGuest);
    await mustRun(['date', '-s', `@${Math.round(Date.now() / 1000 + byS)}`]);
    aheadS += byS;
  }

  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
    // So that pings are due while the clock is set. An engine has three of them to start in.
    daemon.env['LAMINA_PING_MS'] = '1000';
    shim = await daemon.launch({ args: ['sleep', '1000'] });
    keeper = readProcess(await daemon.create(shim))?.ppid ?? 0;
    await shim.task.start({ id: shim.id, execId: '' });
  });
  after(async () => {
    if (aheadS !== 0) await setClock(-aheadS);
    await daemon.stop();
  });

  for (const days of [3, -6, 400, -800]) {
    it(`by ${days} days: no timeout passes, no engine is replaced, exits have the new time`, async () => {
      const { id, task } = shim;
      const engine = await theEngine(daemon);
      const execId = `by${days}`;
      const value = Buffer.from(JSON.stringify(bareProcess(['sh', '-c', 'while [ ! -e /go ]; do sleep 0.1; done'])));
      const exec = { id, execId, terminal: false, stdin: '', stdout: '', stderr: '' };
      await task.exec({ ...exec, spec: { typeUrl: 'json', value } });
      await task.start({ id, execId });
      // With limits of their own on both sides: an hour, that no step may use up.
      const waiting = task.wait({ id, execId }, { timeoutMs: 3_600_000 });
      await setClock(days * DAY_S);
      assert.ok(await tryExec(shim, `go${days}`, ['touch', '/go']));
      const exit = await waiting;
      assert.equal(exit.exitStatus, 0);
      assertNow(exit.exitedAt, 'the exit');
      await task.delete({ id, execId });
      assert.ok(await tryExec(shim, `rm${days}`, ['rm', '/go']));
      const told = daemon.events.findLast(({ event }) => event['id'] === execId);
      assertNow(told?.event['exitedAt'] as Stamp | undefined, 'the exit in the event');
      assertNow({ seconds: BigInt(told?.time.split('.')[0] ?? 0) }, 'the event');
      assert.equal(await theEngine(daemon), engine);
      assert.ok(keepers(daemon).includes(keeper));
    });
  }

  it('and the engine dies at the same time: its successor goes on', async () => {
    const engine = await replaceEngine(daemon);
    await setClock(10 * DAY_S);
    assert.ok(await tryExec(shim, 'next'));
    await setClock(-20 * DAY_S);
    await replaceEngine(daemon);
    assert.ok(await tryExec(shim, 'last'));
    assert.notEqual(await theEngine(daemon), engine);
    const topics = daemon.topics(shim.id);
    assert.equal(
      topics.length,
      new Set(daemon.events.map(({ time, topic, event }) => `${time} ${topic} ${event['id'] ?? event['execId']}`)).size,
      topics.join(' '),
    );
  });

  it('and a container ends before it was made, by the clock: its exit is told, and it is deleted', async () => {
    await setClock(-DAY_S);
    const { id } = shim;
    await endShim(shim);
    await daemon.waitForTopic(id, 'delete');
    const exit = daemon.events.find(({ topic, event }) => topic === '/tasks/exit' && event['id'] === id);
    assert.equal(exit?.event['exitStatus'], 137);
    assertNow(exit?.event['exitedAt'] as Stamp | undefined, 'the exit');
    await until('the keeper has ended', () => !keepers(daemon).includes(keeper));
  });
});
