/**
 * What only the start of a process needs stays mapped for its whole life, and the kernel maps
 * sixteen pages of a file for each that is touched: of Node's 100 MB of code and constants that is
 * most. Once the engine has had nothing to do for a moment, they are let go of.
 */
import { binding } from '../sys/index.js';

const WINDOW_MS = 300;
/** Share of the time in which the process had something to do. */
const BUSY = 0.02;
/**
 * V8's threads tidy up for some seconds, and touch what that takes: from one of them to the next,
 * windows grow longer.
 */
const SHORT_WINDOWS = 8;
const LONG_WINDOWS = 4;

/** Does so when there is time for it; may be called before anything runs. */
export function releaseWhenIdle(): void {
  let released = 0;
  let windowMs = WINDOW_MS;
  let at = performance.now();
  let cpu = process.cpuUsage();
  const look = (): void => {
    const { user, system } = process.cpuUsage(cpu);
    const elapsedMs = performance.now() - at;
    at += elapsedMs;
    cpu = { user: cpu.user + user, system: cpu.system + system };
    if ((user + system) / 1_000 <= BUSY * elapsedMs) {
      binding().releaseProgram();
      released += 1;
      if (released === SHORT_WINDOWS + LONG_WINDOWS) return;
      if (released >= SHORT_WINDOWS) windowMs *= 2;
    }
    setTimeout(look, windowMs).unref();
  };
  setTimeout(look, windowMs).unref();
}
