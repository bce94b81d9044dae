/** Creating and adopting cgroups, whatever hierarchy and driver: the front door of this folder. */
import { Code, LaminaError } from '../base/index.js';
import { load, loadFromMembership, loadFromPid, sharedChanges } from './adopt.js';
import type { Cgroup as AnyCgroup } from './cgroup.js';
import type { FileChanges } from './changes.js';
import { currentLayout } from './detect.js';
import type { CreateOptions } from './options.js';
import { createSystemdCgroup } from './systemd/create.js';
import { createV1Cgroup } from './v1/create.js';
import { createV2Cgroup } from './v2/create.js';

/**
 * Creates a group with its limits, or, with the driver 'systemd', a scope or slice. The groups
 * above it are made when they are not there, and stay when it is destroyed. What a failing call has
 * made is removed again.
 * @throws {ResourceError} InvalidArgument for a bad limit, before anything is done
 * @throws {CgroupTreeError} naming the group and what is the matter: it has processes already, is
 *   frozen, threaded or invalid; a controller is missing, or a group above has processes and so
 *   cannot enable it; this user may not do it
 * @throws {CgroupFileError} with file, value and errno
 * @throws {LaminaError} InvalidArgument for a bad path or pid, Unimplemented for what the hierarchy
 *   cannot do
 */
async function create(options: CreateOptions): Promise<AnyCgroup> {
  const layout = options.layout ?? currentLayout();
  const changes = (): FileChanges => sharedChanges(options.kernel);
  if (options.driver === 'systemd') {
    if (layout.mode !== 'unified') {
      throw new LaminaError(Code.Unimplemented, `create cgroup ${options.path}: the systemd driver needs cgroup v2`);
    }
    const { unified } = layout;
    return await createSystemdCgroup(options, (group) => createV2Cgroup(unified, group, changes));
  }
  if (layout.mode === 'unified') return createV2Cgroup(layout.unified, options, changes);
  return createV1Cgroup(layout.mode, layout.controllers, options, changes);
}

export type Cgroup = AnyCgroup;
export const Cgroup = { create, load, loadFromPid, loadFromMembership } as const;
