import type { DeviceRule } from '../../oci/index.js';

function allow(type: string, access: string, major?: number, minor?: number): DeviceRule {
  return { allow: true, type, access, ...(major !== undefined && { major }), ...(minor !== undefined && { minor }) };
}

/**
 * What every container may use, as runc has it: any node may be made, and these may be used. To be put after the caller's rules, by
 * whoever makes the group (`Cgroup.create` with `devices`); `simplifyDeviceRules` and `attachDevicePolicy` add nothing of their own.
 */
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
