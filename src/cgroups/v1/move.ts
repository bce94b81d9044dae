/** Moving a process into a group on v1, where each hierarchy is asked for itself. */

import { Code, codeOf } from '../../base/index.js';
import { withUndo } from '../create.js';
import type { CgroupMount } from '../detect.js';
import { writeCgroupFile } from '../file.js';
import { cgroupDirectory, readMembership } from '../membership.js';
import { moveProcess } from '../move.js';

/**
 * Moves a process in every hierarchy. When one refuses, the process is put back in those before.
 * @param dirs controller → the group's directory
 * @returns false if the process has ended
 * @throws {CgroupTreeError, CgroupNotFoundError, CgroupFileError}
 */
export function moveIntoAll(
  mounts: ReadonlyMap<string, CgroupMount>,
  dirs: ReadonlyMap<string, string>,
  pid: number,
): Promise<boolean> {
  return withUndo(async (undo) => {
    const before = membershipOf(pid);
    const done = new Set<string>();
    for (const [controller, dir] of dirs) {
      // Controllers may share a hierarchy.
      if (done.has(dir)) continue;
      done.add(dir);
      if (before === undefined || !(await moveProcess(dir, pid))) return false;
      const mount = mounts.get(controller);
      const path = before.get(controller);
      if (mount === undefined || path === undefined) continue;
      undo.add(`place of process ${pid} in ${controller}`, () => {
        writeCgroupFile(`${cgroupDirectory(mount, path)}/cgroup.procs`, String(pid));
      });
    }
    return true;
  });
}

/** undefined if the process has ended. */
function membershipOf(pid: number): ReadonlyMap<string, string> | undefined {
  try {
    return readMembership(pid).controllers;
  } catch (error) {
    if (codeOf(error) === Code.NotFound) return undefined;
    throw error;
  }
}
