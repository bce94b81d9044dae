import assert from 'node:assert/strict';
import { type DevicePolicy, simplifyDeviceRules } from '../../../../src/cgroups/devices/index.js';
import { ResourceError } from '../../../../src/cgroups/resources/errors.js';
import type { DeviceRule } from '../../../../src/oci/index.js';

/** The policy of arbitrary rules; undefined if they are refused as rules may be. */
export function simplifyUnlessRefused(rules: readonly DeviceRule[]): DevicePolicy | undefined {
  try {
    return simplifyDeviceRules(rules);
  } catch (error) {
    assert.ok(error instanceof ResourceError);
    return undefined;
  }
}
