/** Sizes, durations and times, as people write and read them. */
import { Code, LaminaError } from '../../base/index.js';
import { parseDuration } from '../../gc/index.js';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
const DAY_MS = 24 * 3_600_000;
/** The longest that leaves a date of four digits of a year. */
const LONGEST_MS = 1_000 * 365 * DAY_MS;

/** `0 B`, `1023 B`, `1.0 KiB`, `12.3 GiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // What would be rounded to 1024.0 has the next unit.
  while (Math.abs(value) >= 1023.95 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${Math.round(bytes)} B` : `${value.toFixed(1)} ${UNITS[unit]}`;
}

/** `2026-11-28 20:31:38Z` */
export function formatTime(ms: number): string {
  return new Date(ms).toISOString().replace('T', ' ').replace(/\.\d+/, '');
}

/**
 * A duration in milliseconds: `90s`, `1h30m`, `7d`, `1d12h`.
 * @param what names it in the error
 * @throws LaminaError InvalidArgument for anything else, for none, and for a negative one
 */
export function readDuration(what: string, text: string): number {
  const [, days = '', rest = ''] = /^(?:(\d+(?:\.\d+)?)d)?(.*)$/.exec(text) ?? [];
  const ofRest = rest === '' && days !== '' ? 0 : /^[\d.]/.test(rest) ? parseDuration(rest) : undefined;
  const ms = ofRest === undefined ? Number.NaN : Number(days) * DAY_MS + ofRest;
  if (ms > 0 && ms <= LONGEST_MS) return ms;
  throw new LaminaError(
    Code.InvalidArgument,
    `${what} is ${JSON.stringify(text)}, expected a duration such as 90s, 1h30m or 7d`,
  );
}
