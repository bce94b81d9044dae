/**
 * From the values of the OCI spec to what cgroup v2 files and systemd take. One place for each; all
 * pure.
 */
import type { MemoryResources } from '../../oci/index.js';
import { ResourceError } from './errors.js';

/** The OCI spec's "no limit", and how a limit is called that is not there. */
export const UNLIMITED = -1;

/** The kernel's default of the CFS period, µs. */
export const DEFAULT_PERIOD_USEC = 100_000;

/** The range of cpu.shares on v1 (MIN_SHARES, MAX_SHARES in kernel/sched/sched.h). */
export const MIN_SHARES = 2;
export const MAX_SHARES = 262_144;
const MAX_WEIGHT = 10_000;

/**
 * cpu.shares (2..262144) → cpu.weight (1..10000), on the curve through (2, 1), (1024, 100) and
 * (262144, 10000) that runc 1.3.2 and crun 1.23 use. 0, "not given", stays 0.
 */
export function weightFromShares(shares: number): number {
  if (shares === 0) return 0;
  if (shares <= MIN_SHARES) return 1;
  if (shares >= MAX_SHARES) return MAX_WEIGHT;
  const log = Math.log2(shares);
  const exponent = (log * log + 125 * log) / 612 - 7 / 34;
  return Math.ceil(10 ** exponent);
}

const I64_MAX = 2n ** 63n - 1n;

/** A whole number as the kernel reads it: every digit, at most 2^63 - 1. */
export function decimal(value: number): string {
  const whole = BigInt(value);
  return String(whole > I64_MAX ? I64_MAX : whole);
}

/** A byte limit as memory.max and its like take it. */
export function limitText(bytes: number): string {
  return bytes === UNLIMITED ? 'max' : decimal(bytes);
}

/**
 * The OCI `swap`, which is memory and swap together → memory.swap.max, swap alone.
 * @returns bytes, -1 for no limit, undefined if it is to be left as it is
 * @throws {ResourceError} if there is no such difference
 */
export function swapMax(memory: Pick<MemoryResources, 'limit' | 'swap'>): number | undefined {
  const { limit = 0, swap = 0 } = memory;
  // As on v1, where memory without a limit implies swap without one.
  if (limit === UNLIMITED && swap === 0) return UNLIMITED;
  if (swap === 0) return undefined;
  if (swap === UNLIMITED || limit === UNLIMITED) return swap;
  if (limit === 0) throw new ResourceError('resources.memory.swap', 'a swap limit needs a memory limit');
  if (swap < limit) {
    throw new ResourceError(
      'resources.memory.swap',
      `memory and swap together (${swap}) below the memory limit (${limit})`,
    );
  }
  return swap - limit;
}

/** blkio weight (10..1000) → io.weight (1..10000). */
export function ioWeight(weight: number): number {
  return 1 + Math.floor(((weight - 10) * 9999) / 990);
}

/** Quota and period in µs → cpu.max. No quota, or one of 0 or less, is "max". */
export function cpuMax(quota = 0, period = 0): string {
  return `${quota > 0 ? quota : 'max'} ${period === 0 ? DEFAULT_PERIOD_USEC : period}`;
}

/**
 * pids.limit → pids.max. The kernel would let nothing start with 0, so that 0 becomes 1 as in runc.
 */
export function pidsMax(limit: number): string {
  if (limit < 0) return 'max';
  return decimal(limit === 0 ? 1 : limit);
}

const USEC_PER_SEC = 1_000_000n;
/** systemd stores whole percents of a CPU. */
const USEC_PER_PERCENT = 10_000n;

/**
 * How much of a second's CPU time a quota is, in µs: systemd's CPUQuotaPerSecUSec. Rounded up to
 * whole percents; undefined without limit.
 */
export function cpuQuotaPerSec(quota: number, period = 0): bigint | undefined {
  if (quota <= 0) return undefined;
  const perSec = exactPerSec(quota, period);
  const excess = perSec % USEC_PER_PERCENT;
  return excess === 0n ? perSec : perSec - excess + USEC_PER_PERCENT;
}

/**
 * The quota in µs that systemd makes of this one, so that both who write cpu.max write the same;
 * never less than asked for.
 */
export function roundedQuota(quota: number, period = 0): number {
  const perSec = cpuQuotaPerSec(quota, period);
  if (perSec === undefined || perSec === exactPerSec(quota, period)) return quota;
  return Number((perSec * periodOf(period)) / USEC_PER_SEC);
}

function periodOf(period: number): bigint {
  return BigInt(period === 0 ? DEFAULT_PERIOD_USEC : period);
}

/** BigInt, as quota · 10^6 leaves the exact range of a double at 9·10^9. */
function exactPerSec(quota: number, period: number): bigint {
  return (BigInt(quota) * USEC_PER_SEC) / periodOf(period);
}
