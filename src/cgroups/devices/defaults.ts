import type { DeviceRule } from '../../oci/index.js';
import { type DevicePolicy, simplifyDeviceRules } from './policy.js';

function allow(type: string, access: string, major?: number, minor?: number): DeviceRule {
  return { allow: true, type, access, ...(major !== undefined && { major }), ...(minor !== undefined && { minor }) };
}

/** What every container may use, as runc has it: any node may be made, and these may be used. */
export const DEFAULT_DEVICE_RULES: readonly DeviceRule[] = [
  allow('c', 'm'),
  allow('b', 'm'),
  allow('c', 'rwm', 1, 3), // null
  allow('c', 'rwm', 1, 8), // random
  allow('c', 'rwm', 1, 7), // full
  allow('c', 'rwm', 5, 0), // tty
  allow('c', 'rwm', 1, 5), // zero
  allow('c', 'rwm', 1, 9), // urandom
  allow('c', 'rwm', 136), // pts/*
  allow('c', 'rwm', 5, 2), // ptmx
  allow('c', 'rwm', 10, 200), // net/tun
];

/**
 * The policy of a container with these rules (`linux.resources.devices`): they, and after them what
 * every container may use. That is what `Cgroup.create` and `set` put in force;
 * `simplifyDeviceRules` by itself adds nothing.
 * @throws {ResourceError} as simplifyDeviceRules; a default rule's field is counted on behind the
 *   last of these
 */
export function containerDevicePolicy(rules: readonly DeviceRule[]): DevicePolicy {
  return simplifyDeviceRules([...rules, ...DEFAULT_DEVICE_RULES]);
}
