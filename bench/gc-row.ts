/** One line of what `npm run bench -- gc` prints. */
export interface GcRow {
  readonly title: string;
  readonly value: number;
  readonly unit: string;
  /** What it must not exceed, or with `isLeast` must reach. */
  readonly target?: number;
  readonly isLeast?: boolean;
  readonly note?: string;
}

function number(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

export function markdown(rows: readonly GcRow[]): string {
  const lines = rows.map(({ title, value, unit, target, isLeast = false, note = '' }) => {
    const isMet = target === undefined || (isLeast ? value >= target : value <= target);
    const goal = target === undefined ? '' : `${isLeast ? '≥' : '≤'} ${target}${isMet ? '' : ' **missed**'}`;
    return `| ${title} | ${number(value)} ${unit} | ${goal} | ${note} |`;
  });
  return ['| measure | value | target | |', '|---|---:|---:|---|', ...lines].join('\n');
}
