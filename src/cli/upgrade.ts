/**
 * Lets the running engines hand over to the release that is installed: first a dry start of that, then one engine, then, when its keepers are served by
 * another, the rest. Keepers start the new engine themselves, as after a crash (native/README.md, "Finding an engine"), and give it everything back.
 */
import { join } from 'node:path';
import type { lamina } from '../api/index.js';
import { Code, codeOf, LaminaError, messageOf } from '../base/index.js';
import type { CheckReport } from '../shim/check.js';
import { sendSignal } from '../sys/index.js';
import { dryStart, releaseDir, releases, switchTo } from './installation.js';
import { askKeeper, type EngineProcess, isRunning, type Keeper, stateDir } from './keepers.js';
import { count, describeEngine, describeKeeper, type Survey, survey } from './survey.js';

export interface UpgradeOptions {
  readonly library: string;
  /** How long keepers may take to be served again. */
  readonly timeoutMs: number;
  /** A release to switch to first; default: the one that is current. */
  readonly release: string | undefined;
  /** Also engines that run that release already. */
  readonly force: boolean;
  readonly dryRun: boolean;
  readonly say: (line: string) => void;
}

/** An engine waits a second for a good moment, and is then gone. One that is not hangs. */
const LEAVE_MS = 10_000;
const ASK_MS = 5_000;
const POLL_MS = 20;
/** Dedicated engines that are replaced at the same time. */
const AT_ONCE = 8;

interface Target {
  readonly process: EngineProcess;
  /** What it has said of itself. */
  readonly status: lamina.EngineStatus | undefined;
  readonly keepers: readonly Keeper[];
}

/** @throws LaminaError FailedPrecondition with nothing changed, DeadlineExceeded naming the keepers that are not served */
export async function upgrade(options: UpgradeOptions): Promise<void> {
  const { library, say } = options;
  const before = await survey(ASK_MS);
  const engines = before.engines.filter((engine) => engine.library === library);
  const report = await checkNew(options, engines, before);
  if (options.dryRun) return;
  if (options.release !== undefined) switchTo(library, options.release);
  const others = before.engines.length - engines.length;
  if (others > 0) say(`left alone: ${count(others, 'engine')} of other installations`);
  const targets = targetsOf(engines, before, (directory) => options.force || directory !== report.directory, say);
  if (targets.length === 0) {
    say(engines.length === 0 ? 'no engine runs: the next container starts it' : 'nothing to do');
    return;
  }
  const [first, ...rest] = targets;
  if (first !== undefined) await replace(first, options);
  for (let at = 0; at < rest.length; at += AT_ONCE) {
    await Promise.all(rest.slice(at, at + AT_ONCE).map((target) => replace(target, options)));
  }
}

/** Makes sure that what is to serve would serve these keepers. */
async function checkNew(
  { library, release, say }: UpgradeOptions,
  engines: readonly EngineProcess[],
  before: Survey,
): Promise<CheckReport> {
  const script = join(release === undefined ? library : releaseDir(library, release), 'engine.cjs');
  // Each engine has its keeper's environment, and so would its successor.
  const environments = new Map(
    engines.map(({ env }) => [[env['PATH'], env['LAMINA_NODE'], env['LAMINA_CONFIG']].join('\n'), env]),
  );
  if (environments.size === 0) environments.set('', process.env);
  let report: CheckReport | undefined;
  for (const env of environments.values()) report = await dryStart(library, script, env);
  if (report === undefined) throw new LaminaError(Code.Internal, 'nothing was started');
  say(`${script} starts: ${report.version}, ${report.directory}, node ${report.node}`);
  for (const { keeper, engine } of before.served) {
    if (keeper.library !== library || report.protocols.includes(engine.protocol)) continue;
    throw new LaminaError(
      Code.FailedPrecondition,
      `${describeKeeper(keeper)} speaks version ${engine.protocol} of the keeper's messages, ${script} only ${report.protocols.join(', ')}: nothing was changed`,
    );
  }
  return report;
}

function targetsOf(
  engines: readonly EngineProcess[],
  { served, unserved }: Survey,
  isToGo: (directory: string | undefined) => boolean,
  say: (line: string) => void,
): Target[] {
  const silent = unserved.map(({ keeper }) => keeper);
  return engines
    .map((process): Target => {
      const own = served.filter(({ engine }) => engine.pid === process.pid);
      const status = own[0]?.engine;
      // One that has told nothing may be the one of those that have not been told anything.
      return { process, status, keepers: status === undefined ? silent : own.map(({ keeper }) => keeper) };
    })
    .filter(({ status }) => {
      if (isToGo(status?.directory)) return true;
      if (status !== undefined) say(`${describeEngine(status)} is that already`);
      return false;
    });
}

async function replace({ process: engine, status, keepers }: Target, options: UpgradeOptions): Promise<void> {
  const name = status === undefined ? `engine ${engine.pid}` : describeEngine(status);
  await end(engine, name, options.say);
  const successors = new Map<number, lamina.EngineStatus>();
  const deadline = Date.now() + options.timeoutMs;
  const failures: string[] = [];
  await Promise.all(
    keepers.map(async (keeper) => {
      try {
        const successor = await servedAgain(keeper, engine.pid, deadline);
        if (successor !== undefined) successors.set(successor.pid, successor);
      } catch (error) {
        failures.push(`${describeKeeper(keeper)}: ${messageOf(error)}`);
      }
    }),
  );
  if (failures.length > 0) throw new LaminaError(Code.DeadlineExceeded, notServed(failures, options));
  const now = [...successors.values()].map(describeEngine).join(', ');
  options.say(`${name} -> ${now === '' ? 'none: it served nobody' : now}; ${count(keepers.length, 'keeper')}`);
}

function notServed(failures: readonly string[], { library, timeoutMs }: UpgradeOptions): string {
  const { all, current } = releases(library);
  const before = all.filter((release) => release !== current).join(' or ');
  return [
    `not served again within ${timeoutMs} ms:`,
    ...failures,
    `Their containers run on, and they go on trying; ${stateDir()}/engine-*.log says what happens.`,
    ...(before === '' ? [] : [`To go back: lamina engine upgrade --to ${before}`]),
  ].join('\n  ');
}

/** Tells an engine to go and waits until it has gone. One that hangs is killed, as its keepers would. */
async function end(engine: EngineProcess, name: string, say: (line: string) => void): Promise<void> {
  signal(engine, 'SIGHUP');
  const deadline = Date.now() + LEAVE_MS;
  while (isRunning(engine)) {
    if (Date.now() > deadline) {
      say(`${name} does not go within ${LEAVE_MS} ms: killed`);
      signal(engine, 'SIGKILL');
    }
    await pause();
  }
}

function signal(engine: EngineProcess, name: NodeJS.Signals): void {
  if (isRunning(engine)) sendSignal(engine.pid, name);
}

/** Resolves with the engine that serves a keeper after `formerPid`; with nothing when the keeper has ended. */
async function servedAgain(
  keeper: Keeper,
  formerPid: number,
  deadline: number,
): Promise<lamina.EngineStatus | undefined> {
  for (;;) {
    const leftMs = deadline - Date.now();
    if (leftMs <= 0) throw new LaminaError(Code.DeadlineExceeded, 'still served by the old one');
    try {
      const status = await askKeeper(keeper, leftMs);
      if (status.pid !== formerPid) return status;
    } catch (error) {
      if (codeOf(error) === Code.Unavailable) return undefined;
      throw error;
    }
    await pause();
  }
}

function pause(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, POLL_MS);
  });
}
