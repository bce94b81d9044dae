/** Durations as Go writes them, read exactly as its time package reads them. */

const DURATION = /(\d+(?:\.\d*)?|\.\d+)([a-zµμ]+)/y;
const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};
/** Go's durations are int64 nanoseconds. */
const LONGEST_MS = 2 ** 63 / 1e6;

/** A duration such as `1h30m` or `-0.5s` in milliseconds; undefined for what Go refuses. */
export function parseDuration(text: string): number | undefined {
  const sign = text.startsWith('-') ? -1 : 1;
  const rest = text.replace(/^[+-]/, '');
  if (rest === '0') return 0;
  let sum = 0;
  DURATION.lastIndex = 0;
  while (DURATION.lastIndex < rest.length) {
    const part = DURATION.exec(rest);
    const unit = UNIT_MS[part?.[2] ?? ''];
    if (part === null || unit === undefined) return undefined;
    sum += Number(part[1]) * unit;
  }
  return rest === '' || sum >= LONGEST_MS ? undefined : sign * sum;
}
