/**
 * Device rules brought to their simplest form by the semantics of cgroup v1, where each rule was a
 * write to devices.allow or devices.deny (security/device_cgroup.c): a default for every device,
 * and exceptions from it which all say the opposite.
 *
 * Where v1 would silently do nothing because a rule takes back only a part of a wildcard exception,
 * the rule is refused, as runc does.
 */
import type { DeviceRule } from '../../oci/index.js';
import { ResourceError } from '../resources/errors.js';

export type DeviceNumber = number | '*';

/** Devices the default does not apply to. */
export interface DeviceException {
  readonly type: 'b' | 'c';
  readonly major: DeviceNumber;
  readonly minor: DeviceNumber;
  /** Of `rwm` (read, write, mknod), in this order and never empty. */
  readonly access: string;
}

/**
 * What a group's processes may do with devices, decided as on v1. Denied by default: an access is
 * allowed if one exception has the device and everything asked for. Allowed by default: an access
 * is denied if an exception has the device and anything of what is asked for.
 */
export interface DevicePolicy {
  readonly allowByDefault: boolean;
  /** At most one per type and numbers, sorted. */
  readonly exceptions: readonly DeviceException[];
}

const ACCESS = 'rwm';
const MAX_NUMBER = 0xffff_ffff;

/** `c 1:3 rwm`: as in devices.allow of v1. */
export function formatDevice({ type, major, minor, access }: DeviceException): string {
  return `${type} ${major}:${minor} ${access}`;
}

function keyOf({ type, major, minor }: DeviceException): string {
  return `${type} ${major}:${minor}`;
}

/** The letters of `rwm`, in that order, that satisfy the condition. */
function accessWhere(condition: (letter: string) => boolean): string {
  return [...ACCESS].filter(condition).join('');
}

function parseNumber(value: number | undefined, field: string): DeviceNumber {
  // -1 is how runc and the tools around it spell the wildcard.
  if (value === undefined || value === -1) return '*';
  if (Number.isInteger(value) && value >= 0 && value <= MAX_NUMBER) return value;
  throw new ResourceError(field, `expected a device number or -1 for all, got ${value}`);
}

/**
 * The rule as the exception it would be; undefined for one of type `a`, whose other fields v1 does
 * not look at.
 */
function parseRule(rule: DeviceRule, field: string): DeviceException | undefined {
  const { access = '' } = rule;
  const type = rule.type === undefined || rule.type === '' ? 'a' : rule.type;
  if (type !== 'a' && type !== 'b' && type !== 'c') {
    throw new ResourceError(`${field}.type`, `expected "a", "b" or "c", got ${JSON.stringify(type)}`);
  }
  if (!/^[rwm]{1,3}$/.test(access)) {
    throw new ResourceError(`${field}.access`, `expected some of "rwm", got ${JSON.stringify(access)}`);
  }
  const major = parseNumber(rule.major, `${field}.major`);
  const minor = parseNumber(rule.minor, `${field}.minor`);
  return type === 'a' ? undefined : { type, major, minor, access: accessWhere((letter) => access.includes(letter)) };
}

type Exceptions = Map<string, DeviceException>;

function add(exceptions: Exceptions, added: DeviceException): void {
  const key = keyOf(added);
  const present = exceptions.get(key)?.access ?? '';
  const access = accessWhere((letter) => present.includes(letter) || added.access.includes(letter));
  exceptions.set(key, { ...added, access });
}

/**
 * Takes the access away from the exception with the very same numbers. An exception with other
 * numbers stays, even if they are covered.
 */
function take(exceptions: Exceptions, taken: DeviceException, field: string): void {
  const key = keyOf(taken);
  for (const wider of [{ major: '*' }, { minor: '*' }, { major: '*', minor: '*' }] as const) {
    const covering = exceptions.get(keyOf({ ...taken, ...wider }));
    if (covering === undefined || keyOf(covering) === key) continue;
    if (accessWhere((letter) => covering.access.includes(letter) && taken.access.includes(letter)) === '') continue;
    const why = `"${formatDevice(taken)}" would take back only a part of the earlier rule "${formatDevice(covering)}"`;
    throw new ResourceError(field, why);
  }
  const present = exceptions.get(key);
  if (present === undefined) return;
  const access = accessWhere((letter) => present.access.includes(letter) && !taken.access.includes(letter));
  if (access === '') exceptions.delete(key);
  else exceptions.set(key, { ...present, access });
}

function compareNumbers(a: DeviceNumber, b: DeviceNumber): number {
  return (a === '*' ? -1 : a) - (b === '*' ? -1 : b);
}

function compare(a: DeviceException, b: DeviceException): number {
  if (a.type !== b.type) return a.type < b.type ? -1 : 1;
  return compareNumbers(a.major, b.major) || compareNumbers(a.minor, b.minor);
}

/**
 * Applies the rules one after the other to a group in which no device is allowed, as to a new one;
 * so no rules at all deny everything.
 *
 * A rule of type `a` sets the default and drops the exceptions before it, whatever its numbers and
 * access. One that agrees with the default takes its access from the exception with the same type
 * and numbers, if there is one; one that does not becomes an exception.
 *
 * @throws {ResourceError} InvalidArgument naming the field (`resources.devices[3].type`), or the
 *   rule (`resources.devices[3]`) that would take back a part of a wildcard exception
 */
export function simplifyDeviceRules(rules: readonly DeviceRule[]): DevicePolicy {
  let allowByDefault = false;
  const exceptions: Exceptions = new Map();
  for (const [index, rule] of rules.entries()) {
    const field = `resources.devices[${index}]`;
    const exception = parseRule(rule, field);
    // A rule read from JSON may lack it, and then denies.
    const allow = rule.allow === true;
    if (exception === undefined) {
      allowByDefault = allow;
      exceptions.clear();
    } else if (allow === allowByDefault) take(exceptions, exception, field);
    else add(exceptions, exception);
  }
  return { allowByDefault, exceptions: [...exceptions.values()].sort(compare) };
}
