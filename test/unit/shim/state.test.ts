import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Code, LaminaError } from '../../../src/base/index.js';
import {
  EXEC_REFUSALS,
  type ExecAction,
  type ExecState,
  INIT_REFUSALS,
  type InitAction,
  type InitState,
  requireExec,
  requireInit,
} from '../../../src/shim/process/state.js';

const ACTIONS: readonly InitAction[] = [
  'start',
  'exec',
  'pause',
  'resume',
  'update',
  'checkpoint',
  'kill',
  'delete',
  'resize',
];

/** What each state allows; everything else must be refused. */
const ALLOWED: Readonly<Record<InitState, readonly InitAction[]>> = {
  created: ['start', 'exec', 'update', 'kill', 'delete', 'resize'],
  restorable: ['start', 'kill', 'delete', 'resize'],
  running: ['exec', 'pause', 'update', 'checkpoint', 'kill', 'resize'],
  pausing: ['resume', 'update', 'checkpoint', 'kill', 'resize'],
  paused: ['resume', 'update', 'checkpoint', 'kill', 'resize'],
  stopped: ['kill', 'delete'],
  deleted: [],
};

describe('init state table', () => {
  for (const [state, allowed] of Object.entries(ALLOWED) as [InitState, readonly InitAction[]][]) {
    for (const action of ACTIONS) {
      const verb = allowed.includes(action) ? 'allows' : 'refuses';
      it(`${verb} ${action} when ${state}`, () => {
        if (allowed.includes(action)) requireInit(state, action);
        else assert.throws(() => requireInit(state, action), { message: INIT_REFUSALS[state][action] });
      });
    }
  }

  it('sends refusals as plain errors, and those of a deleted process that mean "gone" as NotFound', () => {
    const codeOf = (state: InitState, action: InitAction): number => {
      try {
        requireInit(state, action);
      } catch (error) {
        if (error instanceof LaminaError) return error.code;
      }
      return Code.Ok;
    };
    assert.equal(codeOf('running', 'start'), Code.Unknown);
    assert.equal(codeOf('stopped', 'pause'), Code.Unknown);
    assert.equal(codeOf('deleted', 'delete'), Code.NotFound);
    assert.equal(codeOf('deleted', 'kill'), Code.NotFound);
  });
});

describe('exec state table', () => {
  const allowed: Readonly<Record<ExecState, readonly ExecAction[]>> = {
    created: ['start', 'delete', 'resize'],
    running: ['resize'],
    stopped: ['delete'],
    deleted: [],
  };
  for (const [state, actions] of Object.entries(allowed) as [ExecState, readonly ExecAction[]][]) {
    for (const action of ['start', 'delete', 'resize'] as const) {
      const verb = actions.includes(action) ? 'allows' : 'refuses';
      it(`${verb} ${action} when ${state}`, () => {
        if (actions.includes(action)) requireExec(state, action);
        else assert.throws(() => requireExec(state, action), { message: EXEC_REFUSALS[state][action] });
      });
    }
  }
});
