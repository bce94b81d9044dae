/**
 * The soak: thousands of lives and execs below one engine and one keeper, and whatever of either
 * grows fails it.
 *
 *   npm run test:soak [-- --lives 2000] [--execs 20000]
 *
 * Prints a table of all figures at the start (after a warm-up), at each quarter and at the end.
 * Exit status 1 if one has grown. Needs root.
 */
import { closeSync, constants, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { type Shim, Side } from '../../../bench/side.js';
import { stageLamina } from '../../../bench/stage.js';
import { messageOf } from '../../../src/base/index.js';
import { mustRun } from '../../lib/command.js';
import { releaseDir } from '../../lib/installed.js';
import { keepers, replaceEngine, theEngine } from '../../lib/processes.js';
import { LAMINA_BIN } from '../../lib/repo.js';
import { until } from '../../lib/wait.js';
import { type Bounds, type Census, census, growth } from './census.js';
import { CountingAddon } from './counting-addon.js';
import { exec, life } from './work.js';

const LIFE_WORKERS = 2;
const EXEC_WORKERS = 3;
const WARM_UP = { lives: 60, execs: 600 };
const QUARTERS = 4;
/**
 * The engine's connection to the daemon, and what it keeps of deletions, go after a second; V8
 * tidies up a little later.
 */
const REST_MS = 4_000;
/**
 * From the first quarter to the end. V8's heap breathes by a few megabytes; malloc asks the kernel
 * for 132 KiB when it needs more than ever before, and some pages hold what it has not given back.
 */
const BOUNDS: Bounds = { keeperKiB: 160, engineKiB: 6 * 1024, stateKiB: 64 };

interface Soak {
  readonly side: Side;
  readonly held: Shim;
  readonly stdins: readonly { readonly path: string; readonly fd: number }[];
  lives: number;
  execs: number;
  /** What did not go as it should: reported at the end, like growth. */
  readonly failed: string[];
}

/** Works until the numbers given are reached. */
async function work(soak: Soak, lives: number, execs: number): Promise<void> {
  const living = async (): Promise<void> => {
    while (soak.lives < lives) {
      soak.lives += 1;
      const n = soak.lives;
      await life(soak.side, n).catch((error: unknown) => soak.failed.push(`life ${n}: ${messageOf(error)}`));
    }
  };
  const running = async (stdin: Soak['stdins'][number]): Promise<void> => {
    while (soak.execs < execs) {
      soak.execs += 1;
      const n = soak.execs;
      await exec(soak.held, n, stdin).catch((error: unknown) => soak.failed.push(`exec ${n}: ${messageOf(error)}`));
    }
  };
  await Promise.all([...Array.from({ length: LIFE_WORKERS }, living), ...soak.stdins.map(running)]);
}

async function count({ side, held }: Soak): Promise<Census> {
  const { daemon } = side;
  await until('the keepers of all lives have ended', () => keepers(daemon).length === 1);
  const [keeper = 0] = keepers(daemon);
  const engine = await theEngine(daemon);
  await delay(REST_MS);
  const { pid } = await held.task.state({ id: held.bundle.id, execId: '' });
  if (pid === 0) throw new Error('the container has ended');
  const { dir, namespace, marker } = daemon;
  return { ...census({ keeper, engine, dir, namespace, marker }), sockets: side.sockets.length };
}

function table(columns: ReadonlyMap<string, Census>): string {
  const names = [...new Set([...columns.values()].flatMap((census) => Object.keys(census)))];
  const line = (cells: readonly string[]): string =>
    cells.map((cell, i) => (i === 0 ? cell.padEnd(24) : cell.padStart(9))).join('');
  const rows = names.map((name) => [name, ...[...columns.values()].map((census) => census[name]?.toFixed(0) ?? '')]);
  return [['', ...columns.keys()], ...rows].map(line).join('\n');
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < QUARTERS)
    throw new Error(`"${text}" is not a whole number of at least ${QUARTERS}`);
  return value;
}

async function run(
  side: Side,
  addon: CountingAddon,
  total: { readonly lives: number; readonly execs: number },
): Promise<string[]> {
  const held = await side.running({ args: ['/bin/sleep', '100000'] });
  const stdins: Soak['stdins'][number][] = [];
  for (let n = 0; n < EXEC_WORKERS; n += 1) {
    const path = join(held.bundle.path, `stdin${n}.fifo`);
    await mustRun(['mkfifo', '-m', '700', path]);
    stdins.push({ path, fd: openSync(path, constants.O_RDWR | constants.O_NONBLOCK) });
  }
  const soak: Soak = { side, held, stdins, lives: 0, execs: 0, failed: [] };
  const [keeper = 0] = keepers(side.daemon);
  const replay = async (): Promise<Record<string, number>> =>
    await addon.replayOf(keeper, async () => await replaceEngine(side.daemon));

  await delay(REST_MS);
  const before = await replay();
  await work(soak, WARM_UP.lives, WARM_UP.execs);
  const columns = new Map([['start', { ...(await count(soak)), ...before }]]);
  const begin = performance.now();
  for (let quarter = 1; quarter <= QUARTERS; quarter += 1) {
    const share = quarter / QUARTERS;
    await work(soak, WARM_UP.lives + Math.round(total.lives * share), WARM_UP.execs + Math.round(total.execs * share));
    columns.set(quarter === QUARTERS ? 'end' : `${share * 100} %`, await count(soak));
    const seconds = (performance.now() - begin) / 1000;
    process.stderr.write(`${soak.lives} lives, ${soak.execs} execs after ${seconds.toFixed(0)} s\n${table(columns)}\n`);
  }
  const last = { ...columns.get('end'), ...(await replay()) } as Census;
  columns.set('end', last);
  process.stdout.write(`${table(columns)}\n`);
  const [, first = {}] = [...columns.values()];
  const grown = growth({ ...first, ...before }, last, BOUNDS);
  for (const { fd } of stdins) closeSync(fd);
  await side.finish(held);
  return [...soak.failed, ...grown.map((line) => `grown: ${line}`)];
}

const { values } = parseArgs({
  options: { lives: { type: 'string', default: '2000' }, execs: { type: 'string', default: '20000' } },
});
const total = { lives: positive(values.lives), execs: positive(values.execs) };
// A copy: what somebody installs meanwhile changes nothing, and no other program's pages are
// counted.
const stage = mkdtempSync(join(tmpdir(), 'lamina-soak-'));
const program = stageLamina(join(LAMINA_BIN, 'containerd-shim-lamina-v2'), stage);
const side = await Side.open('lamina', program);
const stop = (): void => {
  side.sweep();
  rmSync(stage, { recursive: true, force: true });
  process.exit(1);
};
process.on('SIGINT', stop).on('SIGTERM', stop);
let problems: string[];
try {
  const addon = new CountingAddon(join(releaseDir(join(dirname(program), '../lib/lamina')), 'lamina.node'), stage);
  side.daemon.env['LAMINA_ADDON'] = addon.path;
  problems = await run(side, addon, total);
} catch (error) {
  // Before the cleaning up, which may have something to say too.
  console.error(error);
  throw error;
} finally {
  await side.close().finally(() => rmSync(stage, { recursive: true, force: true }));
}
for (const problem of problems) console.error(problem);
process.exitCode = problems.length > 0 ? 1 : 0;
