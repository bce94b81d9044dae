/**
 * Which devices a group's processes may use: rules, their simplest form, and the eBPF program that
 * enforces it on cgroup v2.
 */
export { type AppliedDevicePolicy, attachDevicePolicy } from './attach.js';
export { containerDevicePolicy, DEFAULT_DEVICE_RULES } from './defaults.js';
export {
  type DeviceException,
  type DeviceNumber,
  type DevicePolicy,
  formatDevice,
  simplifyDeviceRules,
} from './policy.js';
export { compileDeviceProgram } from './program.js';
export { DeviceProgramError, type DeviceProgramOp } from './programs.js';
