/** From a device policy to DeviceAllow and DevicePolicy (systemd.resource-control(5)). */
import type { DeviceException, DevicePolicy } from '../devices/index.js';
import type { UnitProperty } from './manager.js';

/** systemd takes numbers of devices that have no node, and of whole majors, since then. */
const SINCE_NUMBERS = 240;

const DIRECTORY = { c: 'char', b: 'block' } as const;

/** How systemd calls a device; undefined if it cannot. */
function deviceName({ type, major, minor }: DeviceException): string | undefined {
  const directory = DIRECTORY[type];
  if (major !== '*' && minor !== '*') return `/dev/${directory}/${major}:${minor}`;
  if (minor === '*') return `${directory}-${major}`;
  return undefined;
}

/**
 * The properties of a policy; none if there is no policy, or systemd is too old to be told.
 *
 * All programs of a group must agree to an access, systemd's and the one this library attaches. So
 * what systemd cannot say, a policy that forbids single devices or one minor number of all majors,
 * is left to this library's program alone ("auto"): said half, systemd would forbid what is
 * allowed.
 */
export function deviceProperties(options: {
  readonly version: number;
  readonly devices?: DevicePolicy | undefined;
}): UnitProperty[] {
  const { version, devices } = options;
  if (devices === undefined || version < SINCE_NUMBERS) return [];
  const names = devices.allowByDefault ? [] : devices.exceptions.map(deviceName);
  // The list is cleared first: set after the policy, systemd 230 and later would report that a
  // daemon-reload is needed for ever.
  const clear: UnitProperty = { name: 'DeviceAllow', signature: 'a(ss)', value: [] };
  if (devices.allowByDefault || names.includes(undefined)) {
    return [clear, { name: 'DevicePolicy', signature: 's', value: 'auto' }];
  }
  const allow = devices.exceptions.map(({ access }, at) => [names[at] as string, access]);
  return [
    clear,
    { name: 'DevicePolicy', signature: 's', value: 'strict' },
    { name: 'DeviceAllow', signature: 'a(ss)', value: allow },
  ];
}
