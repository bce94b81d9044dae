import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';

/** The name of a positive errno number: 2 → "ENOENT". */
export function errnoName(errno: number): string {
  const known = getSystemErrorMap().get(-errno)?.[0];
  // Of what only some systems have, libuv knows nothing.
  return known ?? Object.entries(constants.errno).find(([, value]) => value === errno)?.[0] ?? `errno ${errno}`;
}

/** The system's words for a positive errno number: 2 → "no such file or directory". */
export function errnoText(errno: number): string {
  return getSystemErrorMap().get(-errno)?.[1] ?? errnoName(errno);
}
