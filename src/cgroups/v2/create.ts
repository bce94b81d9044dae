/** Creating a group in the v2 hierarchy. */
import { Code, codeOf } from '../../base/index.js';
import type { FileChanges } from '../changes.js';
import { assertUnused, withUndo } from '../create.js';
import { delegateGroup } from '../delegate.js';
import type { CgroupMount } from '../detect.js';
import { CgroupNotFoundError } from '../errors.js';
import { writeInPool } from '../file.js';
import { readMembership } from '../membership.js';
import { assertPid } from '../move.js';
import type { CreateOptions } from '../options.js';
import { hierarchyPath, makeGroup } from '../path.js';
import { cgroupIoWith, checkResources } from '../resources/index.js';
import { V2Cgroup } from './cgroup.js';
import { neededControllers, provideControllers } from './controllers.js';
import { isFreezeAsked } from './freezer.js';
import { applyResources } from './resources.js';

export interface V2CreateOptions extends CreateOptions {
  /** The group may have processes, or be frozen: systemd has just made it. */
  readonly mayBeUsed?: boolean;
}

/** Before Linux 5.2 there is no freezer, so nothing is paused. */
function isPaused(dir: string): boolean {
  try {
    return isFreezeAsked(dir);
  } catch (error) {
    if (codeOf(error) === Code.Unimplemented) return false;
    throw error;
  }
}

function ownPath(): string {
  const { unified } = readMembership('self');
  if (unified === undefined) throw new CgroupNotFoundError('0::');
  return unified;
}

/**
 * Creates a group, with its limits, and moves `options.pid` in at the end. When a step fails,
 * everything is as it was; only controllers that were enabled in groups that existed before stay
 * so, as others may rely on them by then.
 * @throws {ResourceError} before anything is done, {CgroupTreeError} naming what stands in the way,
 *   {CgroupFileError}
 */
export function createV2Cgroup(
  mount: CgroupMount,
  options: V2CreateOptions,
  changes: () => FileChanges,
): Promise<V2Cgroup> {
  return withUndo(async (undo) => {
    const { resources = {}, delegate, pid, devices = 'apply', writeSlowly } = options;
    if (pid !== undefined) assertPid(pid);
    checkResources(resources, {}, 'unified');
    const path = hierarchyPath(options.path, mount, ownPath, 'beside');
    const { dir, levels, isNew } = makeGroup(mount, path, undo);
    if (!isNew && options.mayBeUsed !== true) assertUnused(dir, () => isPaused(dir));
    provideControllers(mount.mountPoint, levels, neededControllers(resources));
    if (delegate !== undefined) delegateGroup(dir, delegate, undo);
    const io = cgroupIoWith(writeSlowly ?? writeInPool);
    const applied = await applyResources(dir, {}, resources, devices, io);
    undo.add(`limits of ${dir}`, () => applied.undo());
    const cgroup = new V2Cgroup(mount, path, changes, { resources: applied.resources, devices, writeSlowly });
    if (pid !== undefined) await cgroup.apply(pid);
    applied[Symbol.dispose]();
    return cgroup;
  });
}
