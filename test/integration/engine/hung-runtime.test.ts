/**
 * The runtime does not return. It is killed in time, with an error that says so, and nothing is
 * left or lost by it.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { LAMINA } from '../../lib/box.js';
import { nothingLeft } from '../../lib/leftovers.js';
import { isAlive, readProcess } from '../../lib/proc.js';
import { replaceEngine } from '../../lib/processes.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { addExec, failureOf, statusOf } from '../../lib/task-steps.js';
import { until } from '../../lib/wait.js';
import { assertLogged, assertNoneLeft, assertWell, end, FaultyRuntime, type Verb } from './faulty-runtime.js';

const skip = requires({ root: true, runc: '1.1', programs: ['bash'] }) || LAMINA.skip;
const SLEEP = { args: ['/bin/sleep', '1000'] };
const TIMEOUTS = '[timeouts]\nengine_idle_ms = 1000\nkeeper_idle_ms = 5000\n';

describe('a runtime that fails in ways of its own', { skip }, () => {
  let daemon: FakeDaemon;

  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
  });
  after(() => daemon.stop());

  describe('hangs', () => {
    /**
     * Stopped, as the last fault it can have: no signal but SIGKILL would end it. It has a child,
     * too.
     */
    const HANG = 'sleep 1000 & echo "$$ $!" >"$dir/hung-$verb"; kill -STOP $$; wait';

    /** What a call of one verb does that never returns, and how the container goes on. */
    interface Hang {
      readonly verb: Verb;
      readonly prepare: (shim: ShimHandle, faulty: FaultyRuntime) => Promise<unknown>;
      readonly call: (shim: ShimHandle, faulty: FaultyRuntime) => Promise<unknown>;
      readonly after: (shim: ShimHandle, faulty: FaultyRuntime) => Promise<unknown>;
    }
    const make = (shim: ShimHandle, faulty: FaultyRuntime) => daemon.create(shim, { options: faulty.options });
    const start = async (shim: ShimHandle, faulty: FaultyRuntime): Promise<void> => {
      await make(shim, faulty);
      await shim.task.start({ id: shim.id, execId: '' });
    };
    const hangs: readonly Hang[] = [
      {
        verb: 'create',
        // An engine that can be replaced.
        prepare: async (shim) => assert.equal((await failureOf(statusOf(shim))).code, Code.NotFound),
        call: make,
        after: async (shim, faulty) => {
          await nothingLeft(daemon, shim.id);
          await start(shim, faulty);
          await assertWell(daemon, shim);
        },
      },
      {
        verb: 'start',
        prepare: make,
        call: (shim) => shim.task.start({ id: shim.id, execId: '' }),
        after: async (shim) => {
          assert.equal((await shim.task.wait({ id: shim.id, execId: '' })).exitStatus, 137);
          await shim.task.delete({ id: shim.id, execId: '' });
          await end(daemon, shim);
        },
      },
      {
        verb: 'exec',
        prepare: async (shim, faulty) => {
          await start(shim, faulty);
          await addExec(shim, 'x', ['/bin/sleep', '2000']);
        },
        call: (shim) => shim.task.start({ id: shim.id, execId: 'x' }),
        after: async (shim) => {
          await until('the exec is gone', async () => (await shim.task.pids({ id: shim.id })).processes.length === 1);
          await shim.task.delete({ id: shim.id, execId: 'x' });
          await assertWell(daemon, shim);
        },
      },
      {
        verb: 'delete',
        prepare: async (shim, faulty) => {
          await start(shim, faulty);
          await shim.task.kill({ id: shim.id, execId: '', signal: 9, all: true });
          await shim.task.wait({ id: shim.id, execId: '' });
        },
        call: (shim) => shim.task.delete({ id: shim.id, execId: '' }),
        after: async (shim) => {
          assert.equal((await shim.task.delete({ id: shim.id, execId: '' })).exitStatus, 137);
          await daemon.waitForTopic(shim.id, 'delete');
          assert.deepEqual(daemon.topics(shim.id), ['create', 'start', 'exit', 'delete']);
          await end(daemon, shim);
        },
      },
    ];

    const assertTimedOut = async (shim: ShimHandle, verb: Verb, faulty: FaultyRuntime, call: Promise<unknown>) => {
      const { code, message } = await failureOf(call);
      assert.equal(code, Code.DeadlineExceeded);
      assert.match(message, new RegExp(`: ${faulty.path} ${verb} ${shim.id} did not end within 2 s and was killed`));
      const pids = faulty.read(`hung-${verb}`).split(' ').map(Number);
      await until('runtime and child are gone', () => pids.every((pid) => !isAlive(pid)), {
        detail: () => JSON.stringify(pids.map(readProcess)),
      });
      await assertLogged(shim, /did not end within/);
    };

    for (const moment of ['at once', 'when all is done']) {
      it(`${moment}: it is killed in time, at every verb`, async () => {
        // One each: what is left of a create is removed by a delete.
        const cases = [];
        for (const hang of hangs) {
          const faulty = new FaultyRuntime(daemon, `hangs-${hang.verb}-${moment.replaceAll(' ', '-')}`);
          const shim = await daemon.launch(SLEEP);
          await hang.prepare(shim, faulty);
          faulty.on(hang.verb, moment === 'at once' ? HANG : `real; ${HANG}`);
          cases.push({ ...hang, shim, faulty });
        }
        // The limit is the next engine's, and for nothing else: honest runs may take their time.
        const config = daemon.env['LAMINA_CONFIG'] ?? '';
        writeFileSync(config, `${TIMEOUTS}runtime_ms = 2000\n`);
        await replaceEngine(daemon);
        await Promise.all(
          cases.map(({ verb, call, shim, faulty }) => assertTimedOut(shim, verb, faulty, call(shim, faulty))),
        );
        writeFileSync(config, TIMEOUTS);
        await replaceEngine(daemon);
        for (const { verb, after: goOn, shim, faulty } of cases) {
          faulty.on(verb, undefined);
          await goOn(shim, faulty);
        }
      });
    }
  });

  it('leaves no program behind', () => assertNoneLeft(daemon));
});
