/** Creating a group in the v1 hierarchies. */
import { Code, LaminaError, type UndoStack } from '../../base/index.js';
import type { FileChanges } from '../changes.js';
import { assertUnused, withUndo } from '../create.js';
import type { CgroupMount } from '../detect.js';
import { CgroupNotFoundError } from '../errors.js';
import { readCgroupFile, writeCgroupFile, writeInPool } from '../file.js';
import { readMembership } from '../membership.js';
import { assertPid } from '../move.js';
import type { CreateOptions } from '../options.js';
import { hierarchyPath, makeGroup } from '../path.js';
import { cgroupIoWith, checkResources } from '../resources/index.js';
import { V1Cgroup } from './cgroup.js';
import { isFreezeAsked } from './freezer.js';
import { applyResources } from './resources.js';

/** In which hierarchies a container gets a group, as runc does it. */
const HIERARCHIES = new Set([
  'cpuset',
  'devices',
  'memory',
  'cpu',
  'cpuacct',
  'pids',
  'blkio',
  'hugetlb',
  'net_cls',
  'net_prio',
  'perf_event',
  'freezer',
  'rdma',
  'misc',
  'name=systemd',
]);

const CPUSET_FILES = ['cpuset.cpus', 'cpuset.mems'];

/**
 * A new cpuset is empty, and then takes no process (ENOSPC) and no limit of a group below; so each
 * level gets what its parent has.
 * @param levels from the first group below the mount point to the group itself
 */
function inheritCpuset(mountPoint: string, levels: readonly string[]): void {
  let parent = mountPoint;
  for (const level of levels) {
    for (const file of CPUSET_FILES) {
      if (readCgroupFile(`${level}/${file}`).trim() !== '') continue;
      writeCgroupFile(`${level}/${file}`, readCgroupFile(`${parent}/${file}`).trim());
    }
    parent = level;
  }
}

function makeInHierarchy(controller: string, mount: CgroupMount, path: string, undo: UndoStack): void {
  const { dir, levels, isNew } = makeGroup(mount, path, undo);
  if (!isNew) assertUnused(dir, () => controller === 'freezer' && isFreezeAsked(dir));
  if (controller === 'cpuset') inheritCpuset(mount.mountPoint, levels);
}

/** Controller → the group's path, in each hierarchy that is mounted. */
function pathsOf(path: string, mounts: ReadonlyMap<string, CgroupMount>): Map<string, string> {
  const own = readMembership('self').controllers;
  const wanted = [...mounts].filter(([controller]) => HIERARCHIES.has(controller));
  return new Map(
    wanted.map(([controller, mount]) => {
      const ownPath = (): string => {
        const found = own.get(controller);
        if (found === undefined) throw new CgroupNotFoundError(controller);
        return found;
      };
      return [controller, hierarchyPath(path, mount, ownPath, 'below')];
    }),
  );
}

/**
 * Creates a group in every hierarchy, with its limits, and moves `options.pid` in at the end. When
 * a step fails, everything is as it was.
 * @throws {ResourceError} before anything is done, {CgroupTreeError} naming what stands in the way,
 *   {CgroupFileError}, {LaminaError} Unimplemented for `delegate`: on v1 a group cannot safely be
 *   another user's
 */
export function createV1Cgroup(
  mode: 'legacy' | 'hybrid',
  mounts: ReadonlyMap<string, CgroupMount>,
  options: CreateOptions,
  changes: () => FileChanges,
): Promise<V1Cgroup> {
  return withUndo(async (undo) => {
    const { resources = {}, pid, devices = 'apply', writeSlowly } = options;
    if (pid !== undefined) assertPid(pid);
    if (options.delegate !== undefined) {
      throw new LaminaError(Code.Unimplemented, `delegate cgroup ${options.path}: cgroup v1 cannot do it safely`, {
        subject: options.path,
      });
    }
    checkResources(resources, {}, mode);
    const paths = pathsOf(options.path, mounts);
    for (const [controller, path] of paths)
      makeInHierarchy(controller, mounts.get(controller) as CgroupMount, path, undo);
    const empty = new V1Cgroup(mode, mounts, paths, changes);
    const io = cgroupIoWith(writeSlowly ?? writeInPool);
    const applied = await applyResources(empty.dirs, {}, resources, devices, io);
    undo.add(`limits of ${empty.path}`, () => applied.undo());
    const cgroup = new V1Cgroup(mode, mounts, paths, changes, { resources: applied.resources, devices, writeSlowly });
    if (pid !== undefined) await cgroup.apply(pid);
    return cgroup;
  });
}
