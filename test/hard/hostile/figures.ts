/** Measured times by call, and what is said of them. */

/** Milliseconds of one call, as they were measured. */
export type Times = Map<string, number[]>;

export function note(times: Times, call: string, ms: number): void {
  const list = times.get(call);
  if (list === undefined) times.set(call, [ms]);
  else list.push(ms);
}

/** The value below which the share `q` of the values lies, by nearest rank. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN;
}

/** Undisturbed and disturbed times of one shim. */
export interface Figures {
  readonly label: string;
  readonly quiet: Times;
  readonly disturbed: Times;
}

const COLUMNS = ['call', 'quiet p50', 'p99', 'max', 'disturbed p50', 'p99', 'max', 'calls'] as const;

/** A table of one shim's figures, in milliseconds, as Markdown. */
export function table({ label, quiet, disturbed }: Figures): string {
  const ms = (value: number): string => value.toFixed(value < 10 ? 2 : 1);
  const three = (values: readonly number[]): string[] => [0.5, 0.99, 1].map((q) => ms(quantile(values, q)));
  const rows = [...quiet.keys()].map((call) => {
    const during = disturbed.get(call) ?? [];
    return [call, ...three(quiet.get(call) ?? []), ...three(during), String(during.length)];
  });
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [`${label}, ms`, line(COLUMNS), line(COLUMNS.map(() => '---')), ...rows.map(line)].join('\n');
}

/** No call of a neighbour may take longer at its 99th percentile, in milliseconds. */
const LIMIT_MS = 100;
/** Nor more than so many times what it takes undisturbed. */
const FACTOR = 2;

/** The call that concerns no shim. */
export const ECHO = 'echo, no shim';

/**
 * What a neighbour noticed of it and should not have. What the machine itself took longer for any
 * process to be answered by another is allowed for: that is the kernel's scheduler.
 * @param calls those that are judged
 */
export function faults({ quiet, disturbed }: Figures, calls: readonly string[]): string[] {
  const p99 = (times: Times, call: string): number => quantile(times.get(call) ?? [], 0.99);
  const machine = Math.max(0, p99(disturbed, ECHO) - p99(quiet, ECHO));
  return calls.flatMap((call) => {
    const before = p99(quiet, call);
    const during = p99(disturbed, call);
    // A call that was never made is NaN, which no comparison holds for.
    if (during <= FACTOR * before + machine && during <= LIMIT_MS + machine) return [];
    return [
      `${call}: p99 ${during.toFixed(2)} ms, undisturbed ${before.toFixed(2)}, the machine's ${machine.toFixed(2)}`,
    ];
  });
}
