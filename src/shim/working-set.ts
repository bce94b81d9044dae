/**
 * What only the start of a process needs stays mapped for its whole life, and the kernel maps sixteen pages of a file for each that is touched: of Node's
 * 37 MB of code and constants that is most. Once the engine has had nothing to do for a moment, they are let go of.
 */
import { binding } from '../sys/index.js';

const WINDOW_MS = 300;
/** Share of the time in which the event loop had something to do. */
const BUSY = 0.02;

/** Does so once; may be called before anything runs. */
export function releaseWhenIdle(): void {
  let before = performance.eventLoopUtilization();
  const timer = setInterval(() => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, before);
    before = now;
    if (utilization > BUSY) return;
    clearInterval(timer);
    binding().releaseProgram();
  }, WINDOW_MS).unref();
}
