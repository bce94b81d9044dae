/**
 * The limits of one container, and changing them (Task.Update).
 *
 * What is in force is known here and in the container's record. The runtime's own note of it stays
 * what it was at the create, so `runc update` would bring those limits back: it must not be used
 * for a container that was updated here.
 */
import { SerialQueue } from '../base/index.js';
import { type LinuxResources, parseResources, readSpec } from '../oci/index.js';
import type { WatchedCgroup } from './watched-cgroup.js';

export class Limits {
  readonly #bundle: string;
  #changed: LinuxResources | undefined;
  /** Each update is laid over what the one before has left. */
  readonly #updates = new SerialQueue();

  /** @param changed what is in force, once it was changed */
  constructor(bundle: string, changed: LinuxResources | undefined) {
    this.#bundle = bundle;
    this.#changed = changed;
  }

  /** What is in force; undefined as long as that is what config.json says. */
  get changed(): LinuxResources | undefined {
    return this.#changed;
  }

  /**
   * Lays an update over what is in force, or changes nothing. Rules for devices are left out, as
   * the stock shim's runtime leaves them out.
   * @param json OCI LinuxResources
   * @throws {SpecError} for JSON that is none, {ResourceError} for a bad value, {CgroupFileError}
   *   naming file, value and errno
   */
  async update(cgroup: WatchedCgroup, json: Uint8Array): Promise<void> {
    const update = withoutDevices(parseResources(json));
    await this.#updates.run(async () => {
      const inForce = this.#changed ?? withoutDevices(readSpec(this.#bundle).linux?.resources ?? {});
      this.#changed = await cgroup.set(update, inForce);
    });
  }
}

function withoutDevices({ devices: _, ...limits }: LinuxResources): LinuxResources {
  return limits;
}
