/** Setting the limits of a v2 group: its files, then the device program. */
import type { LinuxResources } from '../../oci/index.js';
import { attachDevicePolicy, containerDevicePolicy } from '../devices/index.js';
import { type Applied, type CgroupIo, setV2 } from '../resources/index.js';

/**
 * Lays limits over those that are saved. When something is refused, what was changed is restored.
 * @param devices whether `update.devices` is to be enforced; what every container may use is added
 *   to them, as runc does
 * @returns also holds the device programs that were attached before, until it is disposed: then
 *   there is no `undo` any more
 * @throws {ResourceError, CgroupFileError}
 */
export async function applyResources(
  dir: string,
  saved: LinuxResources,
  update: LinuxResources,
  devices: 'apply' | 'ignore',
  io: CgroupIo,
): Promise<Applied & Disposable> {
  const rules = devices === 'apply' ? update.devices : undefined;
  // First, as it refuses bad rules.
  const policy = rules === undefined ? undefined : containerDevicePolicy(rules);
  const applied = await setV2(dir, saved, update, io);
  if (rules === undefined || policy === undefined) return { ...applied, [Symbol.dispose]: () => undefined };
  try {
    const program = attachDevicePolicy(dir, policy);
    return {
      resources: { ...applied.resources, devices: rules },
      undo: async () => {
        program.undo();
        await applied.undo();
      },
      [Symbol.dispose]: () => program[Symbol.dispose](),
    };
  } catch (error) {
    await applied.undo();
    throw error;
  }
}
