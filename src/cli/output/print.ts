/** What commands write to standard output and, beside it, to standard error. */
import { type Resource, typeName } from '../../gc/index.js';
import { type Column, printable, table } from './table.js';

export function printLine(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** In lines that may hold names of others. */
export function printText(line: string): void {
  printLine(printable(line));
}

export function printTable(columns: readonly Column[], rows: readonly (readonly string[])[]): void {
  const lines = table(columns, rows);
  // In one write: a table of 10^5 rows is no 10^5 calls.
  if (lines.length > 0) process.stdout.write(`${lines.join('\n')}\n`);
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** What is no result: it must not get into a pipe. */
export function note(line: string): void {
  process.stderr.write(`lamina: ${printable(line)}\n`);
}

/** A resource in JSON: the type by its word. */
export function jsonOf({ type, namespace, key }: Resource): { type: string; namespace: string; key: string } {
  return { type: typeName(type), namespace, key };
}

/** `a=1 b=2`, by name: a containerd has them in no order. */
export function labelText(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .toSorted((a, b) => (a < b ? -1 : 1))
    .join(' ');
}
