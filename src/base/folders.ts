import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { isErrno } from './errors.js';

/**
 * Makes a folder that may be there, with those above it.
 *
 * Node's own, `recursive`, says ENOENT for nearly whatever was in the way, a disk that fails
 * included.
 * @throws errno of mkdir(2); EEXIST when something else has the name
 */
export function makeFolders(path: string, mode: number): void {
  if (makeFolder(path, mode)) return;
  makeFolders(dirname(path), mode);
  if (!makeFolder(path, mode)) mkdirSync(path, { mode });
}

/** @returns false if the folder above is not there */
function makeFolder(path: string, mode: number): boolean {
  try {
    mkdirSync(path, { mode });
  } catch (error) {
    if (isErrno(error, 'ENOENT') && dirname(path) !== path) return false;
    if (!isErrno(error, 'EEXIST') || !statSync(path).isDirectory()) throw error;
  }
  return true;
}
