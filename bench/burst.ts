/** Many short containers, several at a time: from the first start verb to the last delete verb. */
import type { Plan } from './plan.js';
import { type Side, timed } from './side.js';

const CONTAINERS = 100;
const AT_ONCE = 16;
const ROUNDS = 1;
const BURST_MS = 60_000;

async function one(side: Side, code: number): Promise<void> {
  const bundle = await side.bundle({ args: ['/bin/sh', '-c', `exit ${code}`] });
  const { id } = bundle;
  const { value: address } = await timed(`${side.label}: start verb`, () => side.startVerb(bundle));
  const { value: shim } = await timed(`${side.label}: connect`, () => side.connect(bundle, address));
  await timed(`${side.label}: create`, () => side.create(shim));
  const waiting = shim.task.wait({ id, execId: '' });
  await timed(`${side.label}: start`, () => shim.task.start({ id, execId: '' }));
  const { value } = await timed(`${side.label}: wait`, () => waiting);
  if (value.exitStatus !== code) throw new Error(`${side.label}: exit ${value.exitStatus} in place of ${code}`);
  await timed(`${side.label}: delete`, () => shim.task.delete({ id, execId: '' }));
  await timed(`${side.label}: shutdown`, () => side.shutdown(shim));
  await timed(`${side.label}: delete verb`, () => side.deleteVerb(bundle));
  side.release(bundle);
}

async function many(side: Side): Promise<number> {
  let next = 0;
  const begin = performance.now();
  const worker = async (): Promise<void> => {
    while (next < CONTAINERS) {
      next += 1;
      await one(side, next);
      if (performance.now() - begin > BURST_MS)
        throw new Error(`${side.label}: ${CONTAINERS} containers take too long`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return performance.now() - begin;
}

export async function burst(plan: Plan): Promise<void> {
  const held = new Map(await Promise.all(plan.sides.map(async (side) => [side, await side.running()] as const)));
  for (let n = 0; n < ROUNDS; n += 1) {
    for (const side of plan.inTurn(n)) plan.samples.add('burst', side.label, await many(side));
  }
  for (const [side, shim] of held) await side.finish(shim);
}
