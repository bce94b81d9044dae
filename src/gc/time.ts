/** Times in labels, read exactly as Go's time package reads them. */

const RFC3339 = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))$/;

/**
 * A time in RFC 3339 as milliseconds since the epoch, with its fraction; undefined for anything
 * else: lower-case letters, a missing zone, a day that the month lacks, a leap second.
 */
export function parseTime(text: string): number | undefined {
  const match = RFC3339.exec(text);
  if (match === null) return undefined;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1, 7).map(Number);
  const offsetHours = Number(match[9] ?? 0);
  const offsetMinutes = Number(match[10] ?? 0);
  if (hour > 23 || minute > 59 || second > 59 || offsetHours > 24 || offsetMinutes > 60) return undefined;
  const date = new Date(0);
  // Date.UTC() would take the years 0 to 99 for 1900 to 1999.
  date.setUTCFullYear(year, month - 1, day);
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day) return undefined;
  const offset = (offsetHours * 60 + offsetMinutes) * 60_000 * (match[8] === '-' ? -1 : 1);
  const fraction = match[7] === undefined ? 0 : Number(`0.${match[7]}`) * 1_000;
  return date.getTime() + ((hour * 60 + minute) * 60 + second) * 1_000 + fraction - offset;
}
