/**
 * Refuses values that cannot be set, before anything is written.
 *
 * Values may come from anybody's JSON, so types are checked too. Unknown members pass unread, and
 * so do on v2 those of v1, which runc ignores there.
 */
import type { LinuxResources } from '../../oci/index.js';
import type { CgroupMode } from '../detect.js';
import { MAX_SHARES, MIN_SHARES, swapMax, UNLIMITED } from './convert.js';
import { cpuListBits } from './cpu-list.js';
import { ResourceError } from './errors.js';
import { overlayResources, THROTTLES, UNSET_SWAPPINESS } from './overlay.js';

const MIN_QUOTA_USEC = 1000;
const MIN_PERIOD_USEC = 1000;
const MAX_PERIOD_USEC = 1_000_000;
const MIN_BLKIO_WEIGHT = 10;
const MAX_BLKIO_WEIGHT = 1000;
const MAX_SWAPPINESS = 100;
const U32_MAX = 0xffff_ffff;
/** What 2^63 - 1 becomes when JSON is read. */
const I64_END = 2 ** 63;

type Members = Readonly<Record<string, unknown>>;
type Check = (value: unknown, field: string) => void;

interface Range {
  readonly min?: number;
  readonly max?: number;
  /** A value outside the range that is taken too. */
  readonly or?: number;
}

function show(value: unknown): string {
  return typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? typeof value);
}

function rangeText({ min, max, or }: Range): string {
  const range = max === undefined ? `at least ${min}` : `${min ?? 'at most'} to ${max}`;
  return or === undefined ? range : `${or}, or ${range}`;
}

/**
 * Whole numbers of 64 bits. Above 2^53 a double is not exact, but nobody limits anything that
 * finely: such numbers mean "unlimited" in specs made on v1, as its files show 9223372036854771712.
 */
function integer(range: Range = {}): Check {
  const { min = -I64_END, max = I64_END, or } = range;
  return (value, field) => {
    if (!Number.isInteger(value)) throw new ResourceError(field, `expected an integer, not ${show(value)}`);
    const number = value as number;
    if (number !== or && (number < min || number > max)) {
      throw new ResourceError(field, `expected ${rangeText(range)}, not ${number}`);
    }
  };
}

const anyInteger = integer();
const count = integer({ min: 0 });
const u32 = integer({ min: 0, max: U32_MAX });
/** Bytes; -1 is no limit. */
const bytes = integer({ min: UNLIMITED });
const weight = integer({ min: MIN_BLKIO_WEIGHT, max: MAX_BLKIO_WEIGHT, or: 0 });

const flag: Check = (value, field) => {
  if (typeof value !== 'boolean') throw new ResourceError(field, `expected true or false, not ${show(value)}`);
};

const text: Check = (value, field) => {
  if (typeof value !== 'string') throw new ResourceError(field, `expected a string, not ${show(value)}`);
};

function matching(pattern: RegExp, what: string): Check {
  return (value, field) => {
    if (typeof value !== 'string' || !pattern.test(value)) {
      throw new ResourceError(field, `expected ${what}, not ${show(value)}`);
    }
  };
}

/** A name that is one word in a line of a file. */
const word = matching(/^[^\s\0]+$/, 'a name without spaces');
const pageSize = matching(/^[1-9]\d{0,9}[KMG]B$/, 'a page size such as 2MB or 1GB');

const cpuList: Check = (value, field) => {
  text(value, field);
  if (value !== '') cpuListBits(value as string, field);
};

const quota: Check = (value, field) => {
  anyInteger(value, field);
  if ((value as number) > 0 && (value as number) < MIN_QUOTA_USEC) {
    throw new ResourceError(field, `expected at least ${MIN_QUOTA_USEC} µs, or -1, not ${value}`);
  }
};

const swappiness: Check = (value, field) => {
  if (value !== UNSET_SWAPPINESS) integer({ min: 0, max: MAX_SWAPPINESS })(value, field);
};

function membersOf(value: unknown, field: string): Members {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ResourceError(field, `expected an object, not ${show(value)}`);
  }
  return value as Members;
}

/** The given members, if they are there; with `required`, all must be. */
function object(checks: Readonly<Record<string, Check>>, required: boolean = false): Check {
  return (value, field) => {
    const members = membersOf(value, field);
    for (const [name, check] of Object.entries(checks)) {
      const member = members[name];
      if (member !== undefined) check(member, `${field}.${name}`);
      else if (required) throw new ResourceError(`${field}.${name}`, 'is missing');
    }
  };
}

function both(...checks: Check[]): Check {
  return (value, field) => {
    for (const check of checks) check(value, field);
  };
}

function list(check: Check): Check {
  return (value, field) => {
    if (!Array.isArray(value)) throw new ResourceError(field, `expected a list, not ${show(value)}`);
    for (const [index, element] of value.entries()) check(element, `${field}.${index}`);
  };
}

function map(key: Check, check: Check): Check {
  return (value, field) => {
    for (const [name, element] of Object.entries(membersOf(value, field))) {
      key(name, `${field}.${name}`);
      check(element, `${field}.${name}`);
    }
  };
}

/** A bare file name of the form CONTROLLER.PARAMETER. */
const unifiedKey = matching(/^[^./\s\0][^/\s\0]*\.[^/\s\0]*$/, 'a file name such as memory.high');

const device = object({ major: u32, minor: u32 }, true);
const throttles = list(both(device, object({ rate: count }, true)));

const v2Checks: Readonly<Record<string, Check>> = {
  memory: object({ limit: bytes, reservation: bytes, swap: bytes, checkBeforeUpdate: flag }),
  cpu: object({
    shares: count,
    quota,
    period: integer({ min: MIN_PERIOD_USEC, max: MAX_PERIOD_USEC, or: 0 }),
    burst: count,
    idle: integer({ min: 0, max: 1 }),
    cpus: cpuList,
    mems: cpuList,
  }),
  pids: object({ limit: anyInteger }),
  blockIO: object({
    weight,
    weightDevice: list(both(device, object({ weight }))),
    ...Object.fromEntries(THROTTLES.map((name) => [name, throttles])),
  }),
  hugepageLimits: list(object({ pageSize, limit: count }, true)),
  rdma: map(word, object({ hcaHandles: u32, hcaObjects: u32 })),
  unified: map(unifiedKey, text),
  // Not set here, but kept.
  devices: list(object({})),
  network: object({ priorities: list(object({})) }),
};

/** v1 only. */
const v1Checks: Readonly<Record<string, Check>> = {
  memory: object({
    kernelTCP: bytes,
    swappiness,
    disableOOMKiller: flag,
  }),
  cpu: object({
    shares: integer({ min: MIN_SHARES, max: MAX_SHARES, or: 0 }),
    realtimeRuntime: anyInteger,
    realtimePeriod: count,
  }),
  blockIO: object({ leafWeight: weight, weightDevice: list(object({ leafWeight: weight })) }),
  network: object({ classID: u32, priorities: list(object({ name: word, priority: u32 }, true)) }),
  unified: (value, field) => {
    if (Object.keys(membersOf(value, field)).length > 0) throw new ResourceError(field, 'needs cgroup v2');
  },
};

const checkV2 = object(v2Checks);
const checkV1 = object(v1Checks);

/** `devices` is somebody else's on v2; on v1 its rules are lines of a file. */
export function checkDeviceRules(devices: unknown): void {
  list(
    object({
      allow: flag,
      type: matching(/^[abc]?$/, 'a, b or c'),
      major: integer({ min: -1, max: U32_MAX }),
      minor: integer({ min: -1, max: U32_MAX }),
      access: matching(/^[rwm]*$/, 'letters of rwm'),
    }),
  )(devices, 'resources.devices');
}

/** What must hold between the values of the update and those it meets. */
function checkTogether(update: LinuxResources, inForce: LinuxResources, isV2: boolean): void {
  const { limit = 0, swap = 0 } = update.memory ?? {};
  if (limit === 0 && swap === 0) return;
  const memory = inForce.memory ?? {};
  // v1 takes a total without a limit of its own, if an earlier one is below.
  if (isV2 || (memory.limit ?? 0) > 0) swapMax(memory);
}

/**
 * Refuses what cannot be set.
 * @param saved the limits in force, which those of `update` must go together with
 * @throws {ResourceError}
 */
export function checkResources(update: LinuxResources, saved: LinuxResources, mode: CgroupMode): void {
  const isV2 = mode === 'unified';
  checkV2(update, 'resources');
  if (!isV2) checkV1(update, 'resources');
  checkTogether(update, overlayResources(saved, update), isV2);
}
