import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Code, LaminaError } from '../../../src/base/index.js';
import { ExitRouter } from '../../../src/shim/exits.js';
import type { KeeperLink } from '../../../src/shim/keeper-link.js';
import type { ExitReport } from '../../../src/shim/keeper-messages.js';

const REPORT: ExitReport = { seq: 7, pid: 100, name: 'p/c/x', code: 3, signal: undefined, timeNs: 1n, isUnread: false };

/** A keeper whose child 100 has been reaped. */
function router(): { readonly exits: ExitRouter; readonly acknowledged: number[] } {
  const acknowledged: number[] = [];
  const link = {
    children: { adopt: () => Promise.reject(new LaminaError(Code.NotFound, 'adopt: no such process')) },
    acknowledge: (seq: number) => void acknowledged.push(seq),
  };
  return { exits: new ExitRouter(link as unknown as KeeperLink), acknowledged };
}

describe('ExitRouter', () => {
  it('keeps the report of a child that a predecessor had named and not recorded', async () => {
    const { exits, acknowledged } = router();
    using _start = exits.begin();
    exits.deliver(REPORT);
    assert.deepEqual(acknowledged, []);
    const codes: number[] = [];
    assert.equal(await exits.adopt(100, 'p/c/x', ({ code }) => void codes.push(code)), undefined);
    assert.deepEqual(codes, [3]);
    assert.deepEqual(acknowledged, [7]);
  });

  it('acknowledges each of two reports whose processes had the same pid, and takes the last for the one it is asked for', async () => {
    const { exits, acknowledged } = router();
    const start = exits.begin();
    exits.deliver({ ...REPORT, seq: 7, name: '', code: 1 });
    exits.deliver({ ...REPORT, seq: 8, name: '', code: 2 });
    const codes: number[] = [];
    assert.equal(await exits.adopt(100, 'p/c/x', ({ code }) => void codes.push(code)), undefined);
    assert.deepEqual(codes, [2]);
    start[Symbol.dispose]();
    assert.deepEqual(acknowledged, [8, 7]);
  });

  it('gives no process the exit of one of another name that had its pid', async () => {
    const { exits, acknowledged } = router();
    const start = exits.begin();
    exits.deliver({ ...REPORT, name: 'p/other/x' });
    await assert.rejects(
      exits.adopt(100, 'p/c/x', () => assert.fail('it is not its exit')),
      { code: Code.DataLoss },
    );
    start[Symbol.dispose]();
    assert.deepEqual(acknowledged, [7]);
  });

  it('forgets what nobody has claimed when no start is under way', () => {
    const { exits, acknowledged } = router();
    exits.begin()[Symbol.dispose]();
    const start = exits.begin();
    exits.deliver(REPORT);
    start[Symbol.dispose]();
    assert.deepEqual(acknowledged, [7]);
  });
});
