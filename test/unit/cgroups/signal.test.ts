import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { Code, LaminaError } from '../../../src/base/index.js';
import { CgroupNotFoundError } from '../../../src/cgroups/errors.js';
import { type SignalTarget, signalProcesses } from '../../../src/cgroups/signal.js';
import { SIGTERM } from '../../../src/sys/index.js';

/** Above the largest pid there can be. */
const NOBODY = 2 ** 22 + 7;
/** Asks whether a process is there, and does nothing to it. */
const NO_SIGNAL = 0;

/**
 * A target that records what is done to it; each listing takes the next of `listings`, the last
 * stays.
 */
function recorder(listings: number[][], faults: Partial<SignalTarget> = {}): { target: SignalTarget; calls: string[] } {
  const calls: string[] = [];
  const target: SignalTarget = {
    path: '/web',
    pids: async () => {
      calls.push('pids');
      return (listings.length > 1 ? listings.shift() : listings[0]) ?? [];
    },
    freeze: async () => void calls.push('freeze'),
    thaw: async () => void calls.push('thaw'),
    thawAll: async () => void calls.push('thawAll'),
    isPaused: () => false,
    ...faults,
  };
  return { target, calls };
}

function failWith(error: Error): () => Promise<never> {
  return async () => {
    throw error;
  };
}

describe('signalProcesses', () => {
  it('walks the frozen group once and thaws it; who has ended does not count', async () => {
    const { target, calls } = recorder([[process.pid, NOBODY]]);
    assert.equal(await signalProcesses(target, NO_SIGNAL), 1);
    assert.deepEqual(calls, ['freeze', 'pids', 'pids', 'thaw']);
  });

  it('neither freezes nor thaws a paused group', async () => {
    const { target, calls } = recorder([[process.pid]], { isPaused: () => true });
    assert.equal(await signalProcesses(target, NO_SIGNAL), 1);
    assert.deepEqual(calls, ['pids', 'pids']);
  });

  for (const code of [Code.DeadlineExceeded, Code.Unimplemented]) {
    it(`walks a group that does not freeze (code ${code}) until nobody is new, and signals nobody twice`, async () => {
      const [own, parent] = [process.pid, process.ppid];
      const listings = [[own], [own], [own, parent], [own, parent], [parent, own]];
      const { target, calls } = recorder(listings, { freeze: failWith(new LaminaError(code, 'no')) });
      assert.equal(await signalProcesses(target, NO_SIGNAL), 2);
      assert.deepEqual(calls, ['pids', 'pids', 'pids', 'pids', 'pids']);
    });
  }

  it('does not signal a process that has got the number of one that was listed', async () => {
    const { target } = recorder([[process.pid], []]);
    assert.equal(await signalProcesses(target, NO_SIGNAL), 0);
  });

  it('signals more processes than it holds at once, each by its own descriptor', async () => {
    const children = Array.from({ length: 70 }, () => spawn('sleep', ['1000']));
    const ends = children.map((child) => once(child, 'exit'));
    const { target } = recorder([children.map((child) => child.pid as number)]);
    assert.equal(await signalProcesses(target, SIGTERM), 70);
    for (const [, signal] of await Promise.all(ends)) assert.equal(signal, 'SIGTERM');
  });

  it('passes on why it could not freeze otherwise', async () => {
    const { target, calls } = recorder([[]], { freeze: failWith(new LaminaError(Code.FailedPrecondition, 'ours')) });
    await assert.rejects(signalProcesses(target, NO_SIGNAL), { code: 9 });
    assert.deepEqual(calls, []);
  });

  it('thaws when the walk fails', async () => {
    const { target, calls } = recorder([], {
      pids: async () => {
        throw new CgroupNotFoundError('/web');
      },
    });
    await assert.rejects(signalProcesses(target, NO_SIGNAL), CgroupNotFoundError);
    assert.deepEqual(calls, ['freeze', 'thaw']);
  });

  it('does not mind that the group goes after the signal', async () => {
    const { target } = recorder([[process.pid]], { thaw: failWith(new CgroupNotFoundError('/web')) });
    assert.equal(await signalProcesses(target, NO_SIGNAL), 1);
  });
});
