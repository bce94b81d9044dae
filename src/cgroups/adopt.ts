/** Adopting the cgroup of an existing container. */
import { posix } from 'node:path';
import type { Cgroup } from './cgroup.js';
import { FileChanges } from './changes.js';
import { type CgroupLayout, currentLayout } from './detect.js';
import { CgroupNotFoundError } from './errors.js';
import { type CgroupKernel, systemKernel } from './kernel.js';
import { type CgroupMembership, parseMembership, readMembership } from './membership.js';
import type { LoadOptions } from './options.js';
import { adoptSystemdCgroup } from './systemd/cgroup.js';
import { V1Cgroup } from './v1/cgroup.js';
import { V2Cgroup } from './v2/cgroup.js';

let defaultKernel: CgroupKernel | undefined;
// Kernel → the one inotify instance on it; lives as long as its kernel.
const changesOf = new WeakMap<CgroupKernel, FileChanges>();

/**
 * The notifications everybody shares who uses that kernel, the native addon if none is given.
 * Opened when first used.
 */
export function sharedChanges(kernel: CgroupKernel | undefined): FileChanges {
  if (kernel === undefined) defaultKernel ??= systemKernel();
  const used = kernel ?? (defaultKernel as CgroupKernel);
  let changes = changesOf.get(used);
  if (changes === undefined) {
    changes = new FileChanges(used);
    changesOf.set(used, changes);
  }
  return changes;
}

function adopt(layout: CgroupLayout, paths: CgroupMembership, options: LoadOptions): Cgroup {
  const changes = (): FileChanges => sharedChanges(options.kernel);
  const { resources = {}, devices = 'ignore', writeSlowly } = options;
  if (layout.mode !== 'unified') {
    return new V1Cgroup(layout.mode, layout.controllers, paths.controllers, changes, {
      resources,
      devices,
      writeSlowly,
    });
  }
  if (paths.unified === undefined) throw new CgroupNotFoundError('0::');
  const cgroup = new V2Cgroup(layout.unified, paths.unified, changes, { resources, devices, writeSlowly });
  return options.driver === 'systemd' ? adoptSystemdCgroup(cgroup, { devices }) : cgroup;
}

/**
 * Adopts the cgroup a process is in: the v2 one on a unified host, else one per v1 controller. To
 * be called right after the container's create: an init such as systemd moves itself to a sub-group
 * soon.
 * @throws {LaminaError} NotFound if there is no such process, or its group is not to be seen from
 *   here
 */
export function loadFromPid(pid: number, options: LoadOptions = {}): Cgroup {
  return adopt(options.layout ?? currentLayout(), readMembership(pid), options);
}

/**
 * Adopts the cgroups a process was in when its /proc/PID/cgroup was read: where a container was put
 * at its create, wherever its init has moved itself since.
 * @param content of that file: its bytes, or text where they are known to be UTF-8
 * @throws {CgroupNotFoundError}
 */
export function loadFromMembership(content: string | Uint8Array, options: LoadOptions = {}): Cgroup {
  return adopt(options.layout ?? currentLayout(), parseMembership(content), options);
}

/**
 * Adopts a cgroup by its path from the mount point, "/default/web"; on v1 the same path in every
 * hierarchy that has it. Of a path that is not UTF-8, `Cgroup.path` says how it is written.
 * @throws {CgroupNotFoundError}
 */
export function load(path: string, options: LoadOptions = {}): Cgroup {
  const layout = options.layout ?? currentLayout();
  // Normalized with a leading slash, ".." cannot lead out of the mount.
  const inside = posix.join('/', path).replace(/(?<=.)\/$/, '');
  if (layout.mode === 'unified') {
    return adopt(layout, { unified: posix.join(layout.unified.root, inside), controllers: new Map() }, options);
  }
  const controllers = [...layout.controllers].map(([name, mount]) => [name, posix.join(mount.root, inside)] as const);
  return adopt(layout, { unified: undefined, controllers: new Map(controllers) }, options);
}
