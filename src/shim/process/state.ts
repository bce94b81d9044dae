/**
 * What an init or exec process may do in which state. One table each for moves and for refusals;
 * the texts are the ones containerd's users know (research: shim.md 5.9).
 */
import { Code, LaminaError } from '../../base/index.js';

export type InitState = 'created' | 'restorable' | 'running' | 'pausing' | 'paused' | 'stopped' | 'deleted';
export type InitAction = 'start' | 'exec' | 'pause' | 'resume' | 'update' | 'checkpoint' | 'kill' | 'delete' | 'resize';

export type ExecState = 'created' | 'running' | 'stopped' | 'deleted';
export type ExecAction = 'start' | 'delete' | 'resize';

/**
 * Why init refuses an action in a state; no entry: the action is allowed. `restorable` is created
 * from a checkpoint.
 */
export const INIT_REFUSALS: Readonly<Record<InitState, Readonly<Partial<Record<InitAction, string>>>>> = {
  created: {
    pause: 'cannot pause task in created state',
    resume: 'cannot resume task in created state',
    checkpoint: 'cannot checkpoint a task in created state',
  },
  restorable: {
    exec: 'cannot exec in a created state',
    pause: 'cannot pause task in created state',
    resume: 'cannot resume task in created state',
    update: 'cannot update task in created state',
    checkpoint: 'cannot checkpoint a task in created state',
  },
  running: {
    start: 'cannot start a running process',
    resume: 'cannot resume a running process',
    delete: 'cannot delete a running process',
  },
  pausing: {
    start: 'cannot start a running process',
    exec: 'cannot exec in a paused state',
    pause: 'cannot pause a paused container',
    delete: 'cannot delete a running process',
  },
  paused: {
    start: 'cannot start a paused process',
    exec: 'cannot exec in a paused state',
    pause: 'cannot pause a paused container',
    delete: 'cannot delete a paused process',
  },
  stopped: {
    start: 'cannot start a stopped process',
    exec: 'cannot exec in a stopped state',
    pause: 'cannot pause a stopped container',
    resume: 'cannot resume a stopped container',
    update: 'cannot update a stopped container',
    checkpoint: 'cannot checkpoint a stopped container',
    resize: 'cannot resize a stopped container',
  },
  deleted: {
    start: 'cannot start a deleted process',
    exec: 'cannot exec in a deleted state',
    pause: 'cannot pause a deleted process',
    resume: 'cannot resume a deleted process',
    update: 'cannot update a deleted process',
    checkpoint: 'cannot checkpoint a deleted process',
    resize: 'cannot resize a deleted process',
    kill: 'cannot kill a deleted process: not found',
    delete: 'cannot delete a deleted process: not found',
  },
};

export const EXEC_REFUSALS: Readonly<Record<ExecState, Readonly<Partial<Record<ExecAction, string>>>>> = {
  created: {},
  running: { start: 'cannot start a running process', delete: 'cannot delete a running process' },
  stopped: { start: 'cannot start a stopped process', resize: 'cannot resize a stopped container' },
  deleted: {
    start: 'cannot start a deleted process',
    delete: 'cannot delete a deleted process: not found',
    resize: 'cannot resize a deleted process',
  },
};

/**
 * The stock shim sends state errors with code Unknown; those of a deleted process that mean "gone"
 * with NotFound.
 */
function refusal(text: string): LaminaError {
  return new LaminaError(text.endsWith(': not found') ? Code.NotFound : Code.Unknown, text);
}

/** @throws LaminaError with the stock text when init may not do this now */
export function requireInit(state: InitState, action: InitAction): void {
  const text = INIT_REFUSALS[state][action];
  if (text !== undefined) throw refusal(text);
}

/** @throws LaminaError with the stock text when the exec may not do this now */
export function requireExec(state: ExecState, action: ExecAction): void {
  const text = EXEC_REFUSALS[state][action];
  if (text !== undefined) throw refusal(text);
}
