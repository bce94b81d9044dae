/** Single operations of one container's life, on a node whose engine runs already. */
import * as api from '../src/api/index.js';
import { bareProcess } from '../test/lib/spec.js';
import { within } from '../test/lib/wait.js';
import type { Plan } from './plan.js';
import { type Side, STEP_MS, timed } from './side.js';

/** The steps of the shortest life, whose sum is `whole-life`. */
const LIFE = ['start-verb', 'connect', 'create', 'start', 'kill-wait', 'delete', 'shutdown', 'delete-verb'];
/** Rounds that are thrown away: both sides load code and fill caches. */
const WARM_UP = 2;

type Measure = (name: string, ms: number) => void;

/** How often a short call is repeated within a round. */
const REPEATS = { state: 10, stats: 10, pids: 5, pause: 3, update: 3, exec: 3 } as const;

async function exec(side: Side, shim: Awaited<ReturnType<Side['connect']>>, execId: string): Promise<number> {
  const { bundle, task } = shim;
  const { id } = bundle;
  const spec = api.packJson(api.OCI_TYPE_URL.process, bareProcess(['/bin/true']));
  const { xout: stdout, xerr: stderr } = bundle.fifos;
  const { ms, value } = await timed(`${side.label}: exec`, async () => {
    await task.exec({ id, execId, terminal: false, stdin: '', stdout, stderr, spec });
    const waiting = task.wait({ id, execId });
    await task.start({ id, execId });
    return await waiting;
  });
  if (value.exitStatus !== 0) throw new Error(`${side.label}: exec of true: exit ${value.exitStatus}`);
  await within(`${side.label}: delete of an exec`, STEP_MS, task.delete({ id, execId }));
  return ms;
}

async function round(side: Side, wanted: ReadonlySet<string>, measure: Measure): Promise<void> {
  const bundle = await side.bundle();
  const { id } = bundle;
  let whole = 0;
  const step = async <T>(name: string, run: () => Promise<T>): Promise<T> => {
    const { value, ms } = await timed(`${side.label}: ${name}`, run);
    measure(name, ms);
    if (LIFE.includes(name)) whole += ms;
    return value;
  };
  const repeat = async (name: keyof typeof REPEATS, run: (n: number) => Promise<unknown>): Promise<void> => {
    if (!wanted.has(name)) return;
    for (let n = 0; n < REPEATS[name]; n += 1) await run(n);
  };

  const address = await step('start-verb', () => side.startVerb(bundle));
  const shim = await step('connect', () => side.connect(bundle, address));
  const { task } = shim;
  await step('create', () => side.create(shim));
  await step('start', () => task.start({ id, execId: '' }));
  await repeat('state', () => step('state', () => task.state({ id, execId: '' })));
  await repeat('stats', () => step('stats', () => task.stats({ id })));
  await repeat('pids', () => step('pids', () => task.pids({ id })));
  await repeat('pause', async () => {
    await step('pause', () => task.pause({ id }));
    await step('resume', () => task.resume({ id }));
  });
  await repeat('update', (n) => {
    const resources = api.packJson(api.OCI_TYPE_URL.linuxResources, { cpu: { shares: 512 + n } });
    return step('update', () => task.update({ id, resources, annotations: {} }));
  });
  await repeat('exec', async (n) => measure('exec', await exec(side, shim, `x${n}`)));
  const waiting = task.wait({ id, execId: '' });
  await step('kill-wait', async () => {
    await task.kill({ id, execId: '', signal: 9, all: false });
    await waiting;
  });
  await step('delete', () => task.delete({ id, execId: '' }));
  await step('shutdown', () => side.shutdown(shim));
  await step('delete-verb', () => side.deleteVerb(bundle));
  measure('whole-life', whole);
  side.release(bundle);
}

/**
 * Alternates rounds, the first side by turns; one idle container on each side keeps the engine up.
 */
export async function life(plan: Plan): Promise<void> {
  const held = await Promise.all(plan.sides.map((side) => side.running()));
  for (let n = 0; n < plan.rounds + WARM_UP; n += 1) {
    for (const side of plan.inTurn(n)) {
      await round(side, plan.wanted, (name, ms) => {
        if (n >= WARM_UP) plan.samples.add(name, side.label, ms);
      });
    }
  }
  for (const [index, side] of plan.sides.entries()) {
    const shim = held[index];
    if (shim !== undefined) await side.finish(shim);
  }
}

const COLD_ROUNDS = 8;

/**
 * Create when no engine runs: each round has a state directory of its own. The peer starts a
 * process per container anyway.
 */
export async function cold(plan: Plan): Promise<void> {
  for (let n = 0; n < Math.min(plan.rounds, COLD_ROUNDS); n += 1) {
    for (const side of plan.inTurn(n)) {
      const bundle = await side.bundle({ env: { LAMINA_STATE_DIR: `${side.daemon.dir}/cold-${n}` } });
      const { value: address } = await timed(`${side.label}: start verb`, () => side.startVerb(bundle));
      const { value: shim } = await timed(`${side.label}: connect`, () => side.connect(bundle, address));
      const { ms } = await timed(`${side.label}: create, cold`, () => side.create(shim));
      plan.samples.add('cold-create', side.label, ms);
      await side.finish(shim);
    }
  }
}
