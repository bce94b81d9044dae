/** Setting the limits of a v2 group: its files, then the device program. */
import type { LinuxResources } from '../../oci/index.js';
import { attachDevicePolicy, simplifyDeviceRules } from '../devices/index.js';
import { type Applied, setV2 } from '../resources/index.js';

/**
 * Lays limits over those that are saved. When something is refused, what was changed is restored.
 * @param devices whether `update.devices` is to be enforced
 * @throws {ResourceError, CgroupFileError}
 */
export function applyResources(
  dir: string,
  saved: LinuxResources,
  update: LinuxResources,
  devices: 'apply' | 'ignore',
): Applied {
  const rules = devices === 'apply' ? update.devices : undefined;
  // First, as it refuses bad rules.
  const policy = rules === undefined ? undefined : simplifyDeviceRules(rules);
  const applied = setV2(dir, saved, update);
  if (rules === undefined || policy === undefined) return applied;
  try {
    const program = attachDevicePolicy(dir, policy);
    return {
      resources: { ...applied.resources, devices: rules },
      undo: () => {
        program.undo();
        applied.undo();
      },
    };
  } catch (error) {
    applied.undo();
    throw error;
  }
}
