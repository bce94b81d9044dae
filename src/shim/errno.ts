import { getSystemErrorMap } from 'node:util';

/** The name of a positive errno number: 2 → "ENOENT". */
export function errnoName(errno: number): string {
  return getSystemErrorMap().get(-errno)?.[0] ?? `errno ${errno}`;
}
