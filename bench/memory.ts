/** Memory per container, and how often idle shims wake up. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Plan } from './plan.js';
import { memoryUse, sleeps } from './processes.js';
import type { Shim, Side } from './side.js';

/** What the engine's garbage collector and the peer's get to settle after the last call. */
const SETTLE_MS = 1500;
/** One reading is a matter of luck: pages that were let go of come back, and go again. */
const READINGS = 5;
const READING_MS = 500;
const MEGABYTE = 1e6;

async function measure(side: Side, plan: Plan, counts: readonly number[]): Promise<void> {
  // An engine of its own, so that nothing of earlier measurements is counted.
  const env = { LAMINA_STATE_DIR: `${side.daemon.dir}/memory` };
  const shims: Shim[] = [];
  for (const count of counts) {
    while (shims.length < count) shims.push(await side.running({ env }));
    await delay(SETTLE_MS);
    const pids = side.pids;
    for (let reading = 0; reading < READINGS; reading += 1) {
      if (reading > 0) await delay(READING_MS);
      const { pss, unshared } = memoryUse(pids);
      plan.samples.add(`memory-${count}`, side.label, pss / count / MEGABYTE);
      plan.samples.add(`unshared-${count}`, side.label, unshared / count / MEGABYTE);
    }
  }
  for (const shim of shims) await side.finish(shim);
}

export async function memory(plan: Plan, counts: readonly number[]): Promise<void> {
  for (const side of plan.sides) await measure(side, plan, counts);
}

const IDLE_CONTAINERS = 10;
/** V8 tidies up for some seconds after the last call; a node's containers are idle for longer. */
const IDLE_SETTLE_MS = 12_000;
const IDLE_MS = 20_000;

/** Both sides at the same time: ten containers each that do nothing. */
export async function idle(plan: Plan): Promise<void> {
  const shims = new Map<Side, Shim[]>();
  for (const side of plan.sides) {
    const list: Shim[] = [];
    shims.set(side, list);
    while (list.length < IDLE_CONTAINERS) list.push(await side.running());
  }
  await delay(IDLE_SETTLE_MS);
  const pids = new Map(plan.sides.map((side) => [side, side.pids]));
  const before = new Map([...pids].map(([side, list]) => [side, sleeps(list)]));
  await delay(IDLE_MS);
  for (const [side, list] of pids) plan.samples.add('idle', side.label, sleeps(list) - (before.get(side) ?? 0));
  for (const [side, list] of shims) for (const shim of list) await side.finish(shim);
}
