/** What creating a group has in common on v2 and v1. */
import { codeOf, LaminaError, messageOf, UndoStack } from '../base/index.js';
import { CgroupTreeError } from './errors.js';
import { listRemaining, pidList } from './tree.js';

/**
 * Runs steps that register how to undo them; when one fails, all before it are undone, and what
 * cannot be is told in the error.
 */
export async function withUndo<T>(run: (undo: UndoStack) => Promise<T>): Promise<T> {
  const undo = new UndoStack();
  try {
    return await run(undo);
  } catch (error) {
    const failures: string[] = [];
    await undo.run((message) => failures.push(message));
    if (failures.length === 0) throw error;
    throw new LaminaError(codeOf(error), `${messageOf(error)}; left behind: ${failures.join('; ')}`, { cause: error });
  }
}

/**
 * Refuses a directory that was there before and that somebody uses, as runc does.
 * @param isPaused whether the group itself was asked to freeze
 * @throws {CgroupTreeError} not-empty, frozen
 */
export function assertUnused(dir: string, isPaused: () => boolean): void {
  const pids = listRemaining(dir);
  if (pids.length > 0) {
    throw new CgroupTreeError(
      'not-empty',
      `create cgroup ${dir}: it has ${pids.length} processes already: ${pidList(pids)}`,
      {
        subject: dir,
      },
    );
  }
  if (isPaused()) {
    throw new CgroupTreeError('frozen', `create cgroup ${dir}: it is there already, and frozen`, { subject: dir });
  }
}
