/**
 * What only the start of a process needs stays mapped for its whole life, and the kernel maps sixteen pages of a file for each that is touched: of Node's
 * 37 MB of code and constants that is most. Once the engine has had nothing to do for a moment, they are let go of.
 */
import { binding } from '../sys/index.js';

const WINDOW_MS = 300;
/** Share of the time in which the process had something to do. */
const BUSY = 0.02;
/** The second time takes what V8's threads have touched since, which tidy up once there is time for it. */
const TIMES = 2;

/** Does so when there is time for it; may be called before anything runs. */
export function releaseWhenIdle(): void {
  let left = TIMES;
  let at = performance.now();
  let cpu = process.cpuUsage();
  const timer = setInterval(() => {
    const { user, system } = process.cpuUsage(cpu);
    const elapsedMs = performance.now() - at;
    at += elapsedMs;
    cpu = { user: cpu.user + user, system: cpu.system + system };
    if ((user + system) / 1_000 > BUSY * elapsedMs) return;
    binding().releaseProgram();
    left -= 1;
    if (left === 0) clearInterval(timer);
  }, WINDOW_MS).unref();
}
