import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';

/** Made by the first who asks: getSystemErrorMap makes it anew each time. */
let known: ReadonlyMap<number, readonly [name: string, text: string]> | undefined;

function lookUp(errno: number): readonly [name: string, text: string] | undefined {
  known ??= getSystemErrorMap();
  return known.get(-errno);
}

/** The name of a positive errno number: 2 → "ENOENT". */
export function errnoName(errno: number): string {
  // Of what only some systems have, libuv knows nothing.
  const other = (): string | undefined => Object.entries(constants.errno).find(([, value]) => value === errno)?.[0];
  return lookUp(errno)?.[0] ?? other() ?? `errno ${errno}`;
}

/** The system's words for a positive errno number: 2 → "no such file or directory". */
export function errnoText(errno: number): string {
  return lookUp(errno)?.[1] ?? errnoName(errno);
}
