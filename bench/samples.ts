/** Measured values by measure and side, and what is said of them. */

export type Label = 'lamina' | 'peer';
export const LABELS: readonly Label[] = ['lamina', 'peer'];

export interface Summary {
  readonly median: number;
  /** Nearest rank; with fewer than twenty values it is the largest. */
  readonly p95: number;
  readonly count: number;
}

/**
 * The value below which the share `q` (0 to 1) of the values lies, by nearest rank. There must be
 * at least one.
 */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)] ?? Number.NaN;
}

/** The middle value, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

const RESAMPLES = 1000;

/** xorshift32: the same values give the same interval. */
function createRandom(): () => number {
  let state = 0x9e3779b9;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/**
 * Where the ratio of two medians lies with 95 % confidence, by the percentile bootstrap. Values of
 * one round are not independent of each other, so where a call is repeated within a round the truth
 * is a little wider.
 * @returns undefined with fewer than five values on a side: nothing can be said then
 */
export function ratioInterval(
  above: readonly number[],
  below: readonly number[],
): readonly [number, number] | undefined {
  if (above.length < 5 || below.length < 5) return undefined;
  const random = createRandom();
  const resample = (values: readonly number[]): number =>
    median(values.map(() => values[Math.floor(random() * values.length)] ?? Number.NaN));
  const ratios = Array.from({ length: RESAMPLES }, () => resample(above) / resample(below));
  return [quantile(ratios, 0.025), quantile(ratios, 0.975)];
}

export class Samples {
  /** "measure\0side" → values in the order they came */
  readonly #values = new Map<string, number[]>();

  add(measure: string, label: Label, value: number): void {
    const key = `${measure}\0${label}`;
    const values = this.#values.get(key);
    if (values === undefined) this.#values.set(key, [value]);
    else values.push(value);
  }

  values(measure: string, label: Label): readonly number[] {
    return this.#values.get(`${measure}\0${label}`) ?? [];
  }

  summary(measure: string, label: Label): Summary | undefined {
    const values = this.values(measure, label);
    if (values.length === 0) return undefined;
    return { median: median(values), p95: quantile(values, 0.95), count: values.length };
  }
}
