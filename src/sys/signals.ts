/** Signals by their numbers, as a Kill request and kill(2) name them, and sending one by pid. */
import { isErrno } from '../base/index.js';

// Not from node:os, which takes an engine half a millisecond to load: they are the same on every Linux.
export const SIGKILL = 9;
export const SIGTERM = 15;

/** Sends a signal to a process that may have ended meanwhile. @returns false if it has */
export function sendSignal(pid: number, signal: number | NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch (error) {
    if (isErrno(error, 'ESRCH')) return false;
    throw error;
  }
}
