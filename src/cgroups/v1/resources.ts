/** Setting the limits of a v1 group, device rules included. */
import type { LinuxResources } from '../../oci/index.js';
import { DEFAULT_DEVICE_RULES } from '../devices/index.js';
import { type Applied, type CgroupIo, setV1 } from '../resources/index.js';

/**
 * Lays limits over those that are saved. When something is refused, what was changed is restored.
 * @param dirs controller → directory
 * @param devices whether `update.devices` is to be enforced; what every container may use is added
 *   to them, as runc does
 * @throws {ResourceError, CgroupFileError}
 */
export async function applyResources(
  dirs: ReadonlyMap<string, string>,
  saved: LinuxResources,
  update: LinuxResources,
  devices: 'apply' | 'ignore',
  io: CgroupIo,
): Promise<Applied> {
  const rules = devices === 'apply' ? update.devices : undefined;
  if (rules === undefined) return await setV1(dirs, saved, update, { io });
  const limits = { ...update, devices: [...rules, ...DEFAULT_DEVICE_RULES] };
  const applied = await setV1(dirs, saved, limits, { devices: true, io });
  return { ...applied, resources: { ...applied.resources, devices: rules } };
}
