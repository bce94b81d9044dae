/**
 * Tables for people: aligned columns, without colour, safe for a terminal whatever the names in
 * them are.
 */

export interface Column {
  readonly title: string;
  readonly isRight?: boolean;
}

/** @returns lines, the titles first; none without rows */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string[] {
  if (rows.length === 0) return [];
  const cells = [columns.map(({ title }) => title), ...rows.map((row) => row.map(printable))];
  const widths = columns.map((_, at) =>
    cells.reduce((widest, row) => Math.max(widest, [...(row[at] ?? '')].length), 0),
  );
  return cells.map((row) =>
    columns
      .map(({ isRight }, at) => {
        const text = row[at] ?? '';
        const fill = ' '.repeat((widths[at] ?? 0) - [...text].length);
        return isRight === true ? `${fill}${text}` : `${text}${fill}`;
      })
      .join('  ')
      .trimEnd(),
  );
}

/**
 * Without what would move the cursor or change the terminal: names come from images, which anybody
 * makes.
 */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (found) => `\\u{${(found.codePointAt(0) ?? 0).toString(16)}}`);
}
