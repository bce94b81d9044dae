/**
 * Lets the running engines hand over to the release that is installed: first a dry start of that,
 * then one engine, then, when its keepers are served by another, the rest. Keepers start the new
 * engine themselves, as after a crash (native/README.md, "Finding an engine"), and give it
 * everything back.
 */
import { constants } from 'node:os';
import { join } from 'node:path';
import type { lamina } from '../api/index.js';
import { Code, codeOf, LaminaError, messageOf } from '../base/index.js';
import type { CheckReport } from '../shim/check.js';
import { type EngineProcess, isSamePlace, libraryOf } from './engines.js';
import { dryStart, releaseDir, releases, switchTo } from './installation.js';
import { askKeeper, describeKeeper, type Keeper } from './keepers.js';
import type { OwnProcess } from './own-process.js';
import { count, describeEngine, type Survey, survey } from './survey.js';

const { SIGHUP, SIGKILL } = constants.signals;

export interface UpgradeOptions {
  readonly library: string;
  /** Checked (state-dir.ts). */
  readonly stateDir: string | undefined;
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

interface Target extends EngineProcess {
  readonly keepers: readonly Keeper[];
}

/**
 * @throws LaminaError FailedPrecondition with nothing changed, DeadlineExceeded naming the keepers
 *   that are not served
 */
export async function upgrade(options: UpgradeOptions): Promise<void> {
  const { library, release, say } = options;
  const script = join(release === undefined ? library : releaseDir(library, release), 'engine.cjs');
  const before = await survey({ ...options, timeoutMs: ASK_MS });
  const engines = before.engines.filter((engine) => isOf(engine, library, before));
  const report = await checkNew(script, options, engines, before);
  if (options.dryRun) return;
  if (release !== undefined) switchTo(library, release);
  const others = before.engines.length - engines.length;
  if (others > 0) say(`left alone: ${count(others, 'engine')} of other installations`);
  const targets = targetsOf(engines, before, (directory) => options.force || directory !== report.directory, say);
  const named = new Set(targets.flatMap(({ keepers }) => keepers));
  for (const { keeper, why } of before.unserved.filter(({ keeper }) => !named.has(keeper))) {
    say(`${describeKeeper(keeper)} is not served: ${why}. It goes on trying, with the installed release`);
  }
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

/**
 * Whether an engine is of this installation: by its own word, else by that of keepers whose engine
 * it is.
 */
function isOf({ status, socket, process }: EngineProcess, library: string, { served, unserved }: Survey): boolean {
  if (status !== undefined) return isSamePlace(libraryOf(status.directory), library);
  const keeper = [...served, ...unserved].find(({ keeper }) => keeper.registration?.engineSocket === socket)?.keeper;
  if (keeper?.registration !== undefined) return isSamePlace(keeper.registration.library, library);
  // It listens where only root's engines do. Of before ASK, and serves nobody who could say more.
  return process.hasWord(join(library, 'engine.cjs'));
}

/** Makes sure that what is to serve would serve these keepers. */
async function checkNew(
  script: string,
  { library, say }: UpgradeOptions,
  engines: readonly EngineProcess[],
  before: Survey,
): Promise<CheckReport> {
  const told = engines.flatMap(({ status }) => (status === undefined || status.node === '' ? [] : status));
  // The file that an engine's successor will read. It is read, and nothing of it is run.
  const configs: (string | undefined)[] = [...new Set(told.map(({ config }) => config))];
  if (configs.length === 0) configs.push(undefined);
  let report: CheckReport | undefined;
  for (const config of configs) report = await dryStart(library, script, config);
  if (report === undefined) throw new LaminaError(Code.Internal, 'nothing was started');
  say(`${script} starts: ${report.version}, ${report.directory}, node ${report.node}`);
  const node = process.env['LAMINA_NODE'] ?? '';
  for (const status of told.filter(({ givenNode }) => givenNode !== node)) {
    say(`${describeEngine(status)} has LAMINA_NODE=${status.givenNode}, which this trial had not`);
  }
  for (const { keeper, engine } of before.served) {
    const isOurs = engines.some(({ process }) => process.pid === engine.pid);
    if (!isOurs || report.protocols.includes(engine.protocol)) continue;
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
  return engines
    .map((engine): Target => {
      const own = served.filter(({ engine: { pid } }) => pid === engine.process.pid);
      // One that has told nothing may be the one of those that have not been told anything.
      const silent = engine.status === undefined ? unserved : [];
      return { ...engine, keepers: [...own, ...silent].map(({ keeper }) => keeper) };
    })
    .filter(({ status }) => {
      if (isToGo(status?.directory)) return true;
      if (status !== undefined) say(`${describeEngine(status)} is that already`);
      return false;
    });
}

async function replace({ process, status, keepers }: Target, options: UpgradeOptions): Promise<void> {
  const name = status === undefined ? `engine ${process.pid}` : describeEngine(status);
  await end(process, name, options.say);
  const successors = new Map<number, lamina.EngineStatus>();
  const deadline = Date.now() + options.timeoutMs;
  const failures: string[] = [];
  await Promise.all(
    keepers.map(async (keeper) => {
      try {
        const successor = await servedAgain(keeper, process.pid, deadline);
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

function notServed(failures: readonly string[], { library, stateDir, timeoutMs }: UpgradeOptions): string {
  const { all, current } = releases(library);
  const before = all.filter((release) => release !== current).join(' or ');
  return [
    `not served again within ${timeoutMs} ms:`,
    ...failures,
    `Their containers run on, and they go on trying; ${stateDir}/engine-*.log says what happens.`,
    ...(before === '' ? [] : [`To go back: lamina engine upgrade --to ${before}`]),
  ].join('\n  ');
}

/**
 * Tells an engine to go and waits until it has gone. One that hangs is killed, as its keepers
 * would.
 */
export async function end(engine: OwnProcess, name: string, say: (line: string) => void): Promise<void> {
  engine.signal(SIGHUP);
  const deadline = Date.now() + LEAVE_MS;
  let isKilled = false;
  while (engine.isRunning) {
    if (!isKilled && Date.now() > deadline) {
      isKilled = true;
      say(`${name} does not go within ${LEAVE_MS} ms: killed`);
      engine.signal(SIGKILL);
    }
    // One that cannot die is left to its keepers, which put another in its place.
    if (isKilled && Date.now() > deadline + LEAVE_MS) {
      say(`${name} does not die: it is frozen, or waits in the kernel; its keepers leave it behind`);
      return;
    }
    await pause();
  }
}

/**
 * Resolves with the engine that serves a keeper after `formerPid`; with nothing when the keeper has
 * ended.
 */
async function servedAgain(
  keeper: Keeper,
  formerPid: number,
  deadline: number,
): Promise<lamina.EngineStatus | undefined> {
  for (;;) {
    const leftMs = deadline - Date.now();
    if (leftMs <= 0) throw new LaminaError(Code.DeadlineExceeded, 'still served by the old one');
    try {
      const { status } = await askKeeper(keeper.socket, leftMs);
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
