/**
 * Lamina's shim and another one (the Go shim) side by side: the same machine, the same runc, by
 * turns in one run.
 *
 * The group `cgroups` compares the cgroup library with runc instead. `npm run bench -- gc` measures
 * collections and has no other side (bench/gc).
 *
 *   npm run bench -- --peer /usr/bin/containerd-shim-runc-v2 [--lamina PATH] [--rounds N]
 *   [--containers 1,10,50] [--json] [measures…]
 *
 * Prints a Markdown table (or JSON) to stdout, progress to stderr. Needs root. docs/performance.md
 * explains the measures.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { findProgram, LAMINA_BIN } from '../test/lib/repo.js';
import { burst } from './burst.js';
import { calls } from './calls.js';
import { cgroups } from './cgroups.js';
import { containerd } from './containerd.js';
import { cold, life } from './life.js';
import { choose, type Group, MEMORY_COUNTS, type Measure, measures } from './measures.js';
import { idle, memory } from './memory.js';
import { output } from './output.js';
import type { Plan } from './plan.js';
import { cpuTicks, loadAverage, machine, markdown, type Report, rows } from './report.js';
import { median, Samples } from './samples.js';
import { Side } from './side.js';
import { stageLamina, stageProgram } from './stage.js';

/** Whatever happens, the tool ends. */
const RUN_MS = 1_800_000;
const FLOOR_RUNS = 20;

function positive(text: string, what: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new Error(`${what} must be a positive whole number, not "${text}"`);
  return value;
}

function usage(all: readonly Measure[]): string {
  const groups = Map.groupBy(all, ({ group }) => group);
  const lists = [...groups].map(([group, list]) => `  ${group}: ${list.map(({ name }) => name).join(' ')}`);
  return `usage: npm run bench -- [--peer SHIM] [--lamina SHIM] [--rounds N] [--containers 1,10,50] [--json] [MEASURE or GROUP...]

Measures Lamina's shim and another one by turns, as root. Without MEASURE: everything.
docs/performance.md explains what is measured.

${lists.join('\n')}
`;
}

function commandLine() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      help: { type: 'boolean', short: 'h', default: false },
      peer: { type: 'string', default: '/usr/bin/containerd-shim-runc-v2' },
      lamina: { type: 'string', default: join(LAMINA_BIN, 'containerd-shim-lamina-v2') },
      rounds: { type: 'string', default: '15' },
      containers: { type: 'string', default: MEMORY_COUNTS.join(',') },
      json: { type: 'boolean', default: false },
    },
  });
  const counts = values.containers.split(',').map((text) => positive(text, '--containers'));
  const all = measures(counts);
  return {
    ...values,
    rounds: positive(values.rounds, '--rounds'),
    counts: [...counts].sort((a, b) => a - b),
    all,
    wanted: choose(positionals, all),
  };
}

/** What a process costs that does nothing: part of every verb's time on both sides. */
function spawnFloor(): number {
  const times = Array.from({ length: FLOOR_RUNS }, () => {
    const begin = performance.now();
    spawnSync('/bin/true');
    return performance.now() - begin;
  });
  return median(times);
}

function versions(): string {
  const runc = findProgram('runc');
  const text = runc === undefined ? '' : execFileSync(runc, ['--version'], { encoding: 'utf8' });
  return `Node ${process.version}, ${text.split('\n')[0]?.replace(' version', '') ?? 'no runc'}`;
}

async function run(options: ReturnType<typeof commandLine>, sides: readonly Side[], stage: string): Promise<Report> {
  const samples = new Samples();
  const notes: string[] = [];
  const plan: Plan = {
    sides,
    rounds: options.rounds,
    wanted: options.wanted,
    samples,
    note: (text) => void notes.push(text),
    inTurn: (round) => (round % 2 === 0 ? sides : [...sides].reverse()),
  };
  const groups: Readonly<Record<Group, () => Promise<void>>> = {
    life: () => life(plan),
    cold: () => cold(plan),
    stdout: () => output(plan),
    calls: () => calls(plan),
    burst: () => burst(plan),
    memory: () => memory(plan, options.counts),
    idle: () => idle(plan),
    containerd: () => containerd(plan),
    cgroups: () => cgroups(plan, stage),
  };
  const chosen = options.all.filter((measure) => options.wanted.has(measure.name));
  const before = { load: loadAverage(), ticks: cpuTicks(), time: performance.now() };
  notes.push(
    `a process that does nothing (/bin/true), started by the same means as the verbs: ${spawnFloor().toFixed(2)} ms`,
  );
  for (const [name, measure] of Object.entries(groups)) {
    if (!chosen.some(({ group }) => group === name)) continue;
    const begin = performance.now();
    await measure();
    process.stderr.write(`${name}: ${((performance.now() - begin) / 1000).toFixed(1)} s\n`);
  }
  const ticks = cpuTicks();
  return {
    date: new Date().toISOString().slice(0, 10),
    machine: machine(),
    versions: `${versions()}; peer ${options.peer}`,
    load: { before: before.load, after: loadAverage() },
    busy: (ticks.busy - before.ticks.busy) / (ticks.all - before.ticks.all),
    seconds: (performance.now() - before.time) / 1000,
    rounds: options.rounds,
    rows: rows(chosen, samples),
    notes,
  };
}

async function main(): Promise<void> {
  if (process.argv[2] === 'gc') {
    const { main: collections } = await import('./gc/main.js');
    await collections(process.argv.slice(3));
    return;
  }
  const options = commandLine();
  if (options.help) {
    process.stdout.write(usage(options.all));
    return;
  }
  if (process.getuid?.() !== 0) throw new Error('root is needed');
  const stage = mkdtempSync('/tmp/lamina-bench-');
  const sides: Side[] = [];
  const abandon = (): void => {
    for (const side of sides) side.sweep();
    rmSync(stage, { recursive: true, force: true });
    process.exit(1);
  };
  process.on('SIGINT', abandon).on('SIGTERM', abandon).on('SIGHUP', abandon);
  const watchdog = setTimeout(() => {
    process.stderr.write(`bench: not done after ${RUN_MS / 1000} s\n`);
    abandon();
  }, RUN_MS);
  try {
    // The library's own measures need no shims.
    if (options.all.some(({ name, group }) => group !== 'cgroups' && options.wanted.has(name))) {
      sides.push(await Side.open('lamina', stageLamina(options.lamina, stage)));
      sides.push(await Side.open('peer', stageProgram(options.peer, join(stage, 'peer'))));
    }
    const report = await run(options, sides, stage);
    process.stdout.write(`${options.json ? JSON.stringify(report, null, 2) : markdown(report)}\n`);
  } finally {
    for (const side of sides) {
      await side.close().catch((error: unknown) => {
        process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
        process.exitCode = 1;
      });
    }
    rmSync(stage, { recursive: true, force: true });
    clearTimeout(watchdog);
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exitCode = 1;
}
