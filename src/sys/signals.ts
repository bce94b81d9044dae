/** Signals by their numbers, as a Kill request and kill(2) name them, and sending one by pid. */
import { constants } from 'node:os';
import { isErrno } from '../base/index.js';

export const { SIGKILL, SIGTERM } = constants.signals;

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
