/** Long work in steps: all at once, or with turns for the event loop in between. */
import { setImmediate as nextTurn } from 'node:timers/promises';

const SLICE_MS = 4;

/** Does all steps. */
export function atOnce<T>(steps: Generator<unknown, T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/**
 * Does all steps, and lets the event loop have a turn every few ms: for what a tenant may have made
 * long.
 * @param sliceMs how long others may have to wait, besides what one step takes
 */
export async function inTurns<T>(steps: Generator<unknown, T>, sliceMs = SLICE_MS): Promise<T> {
  let began = performance.now();
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    if (performance.now() - began < sliceMs) continue;
    await nextTurn();
    began = performance.now();
  }
}
