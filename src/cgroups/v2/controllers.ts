/** Enabling controllers for a group: cgroup.subtree_control of its ancestors. */
import { CgroupFileError } from '../errors.js';
import { readCgroupFile, writeCgroupFile } from '../file.js';

function readNames(path: string): string[] {
  return readCgroupFile(path).split(/\s+/).filter(Boolean);
}

/** Enables what is missing, all in one write, or, if the kernel refuses that, one by one. @throws {CgroupFileError} the first refusal */
function enable(dir: string, wanted: readonly string[]): void {
  const file = `${dir}/cgroup.subtree_control`;
  const enabled = new Set(readNames(file));
  const missing = wanted.filter((name) => !enabled.has(name)).map((name) => `+${name}`);
  if (missing.length === 0) return;
  try {
    writeCgroupFile(file, missing.join(' '));
  } catch (error) {
    if (missing.length === 1) throw error;
    enableEach(file, missing);
  }
}

/** The kernel takes a line as a whole or not at all, so one controller that is refused must not cost the others. */
function enableEach(file: string, missing: readonly string[]): void {
  let refusal: unknown;
  for (const name of missing) {
    try {
      writeCgroupFile(file, name);
    } catch (error) {
      refusal ??= error;
    }
  }
  if (refusal !== undefined) throw refusal;
}

/**
 * Enables every controller of the root in each ancestor of the group, from the root down, not in the group itself: that
 * would forbid it to have processes.
 * @param root the mount point
 * @param dir the group's directory, below root
 * @throws {CgroupFileError} if the nearest ancestor refused one; what matters is what it could enable in the end, so
 *   refusals further up (EPERM in a delegated tree, where they are enabled already) are passed over
 */
export function enableControllersAlongPath(root: string, dir: string): void {
  const wanted = readNames(`${root}/cgroup.controllers`);
  const parts = dir.slice(root.length).split('/').filter(Boolean);
  if (wanted.length === 0 || parts.length === 0) return;
  const ancestors = parts.map((_, depth) => [root, ...parts.slice(0, depth)].join('/'));
  const nearest = ancestors.pop() as string;
  for (const ancestor of ancestors) {
    try {
      enable(ancestor, wanted);
    } catch (error) {
      if (!(error instanceof CgroupFileError)) throw error;
    }
  }
  enable(nearest, wanted);
}
