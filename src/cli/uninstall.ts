/**
 * `lamina uninstall`: removes what scripts/install has written, and nothing else, once nothing runs
 * that needs it.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, rmdirSync, unlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Code, isErrno, LaminaError } from '../base/index.js';
import type { Invocation } from './command/spec.js';
import { isSamePlace, libraryOf } from './engines.js';
import { libraryDir, realpathOf, releases } from './installation.js';
import { describeKeeper } from './keepers.js';
import { printLine } from './output/print.js';
import { OwnProcess } from './own-process.js';
import { checkedStateDir } from './state-dir.js';
import { count, type Survey, survey } from './survey.js';
import { end } from './upgrade.js';

const SHIM = 'bin/containerd-shim-lamina-v2';
const ASK_MS = 5_000;

/** @throws LaminaError FailedPrecondition naming what still runs, and then nothing was removed */
export async function runUninstall(invocation: Invocation): Promise<undefined> {
  const isDryRun = invocation.flag('dry-run');
  const library = libraryDir();
  const prefix = prefixOf(library);
  const entries = readManifests(library, prefix);
  const found = await survey({ stateDir: checkedStateDir(), library, timeoutMs: ASK_MS });
  const keepers = keepersOf(found, library);
  const users = [...keepers.values(), ...shimsOf(prefix, new Set(keepers.keys()))];
  if (users.length > 0) {
    const list = users.map((user) => `\n  ${user}`).join('');
    throw new LaminaError(
      Code.FailedPrecondition,
      `${count(users.length, 'shim')} of this installation still ${users.length === 1 ? 'runs' : 'run'}; nothing was removed:${list}\nEnd their containers first (ctr -n NAMESPACE task kill -s 9 ID, docker rm -f ID, crictl rmp -f POD).`,
    );
  }
  if (!isDryRun) await endEngines(found, library);
  for (const entry of entries) {
    if (isDryRun) printLine(`would remove ${join(prefix, entry)}`);
    else remove(join(prefix, entry), entry.endsWith('/'));
  }
  if (!isDryRun) printLine(`uninstalled from ${prefix}`);
}

/**
 * PREFIX of PREFIX/lib/lamina.
 * @throws LaminaError FailedPrecondition when the library lies elsewhere
 */
function prefixOf(library: string): string {
  const path = realpathOf(library) ?? library;
  if (basename(path) === 'lamina' && basename(dirname(path)) === 'lib') return join(path, '../..');
  throw new LaminaError(
    Code.FailedPrecondition,
    `${library} is no PREFIX/lib/lamina of scripts/install: remove it by hand`,
  );
}

/** What to remove, files before the folders they lie in. @throws LaminaError FailedPrecondition */
function readManifests(library: string, prefix: string): string[] {
  const manifests = releases(library).all.map((release) => join(library, 'releases', release, 'MANIFEST'));
  const texts = manifests.filter((path) => existsSync(path)).map((path) => readFileSync(path, 'utf8'));
  if (texts.length === 0) {
    throw new LaminaError(
      Code.FailedPrecondition,
      `no MANIFEST in ${library}/releases says what was installed: run scripts/install ${prefix} once more, which writes it`,
    );
  }
  const entries = [...new Set(texts.flatMap((text) => text.split('\n').filter(Boolean)))];
  const strange = entries.find((entry) => !/^(\.\/|(bin|lib)\/.*)$/.test(entry) || entry.split('/').includes('..'));
  if (strange !== undefined) {
    throw new LaminaError(
      Code.FailedPrecondition,
      `a MANIFEST in ${library}/releases names ${strange}, which scripts/install does not write: nothing was removed`,
    );
  }
  const depth = (entry: string): number => (entry === './' ? 0 : entry.split('/').filter(Boolean).length);
  return entries.toSorted((a, b) => depth(b) - depth(a));
}

/** Keepers of every state directory that would find their engine here: pid → what to call it. */
function keepersOf({ served, elsewhere, unserved }: Survey, library: string): Map<number, string> {
  const isHere = (place: string | undefined): boolean => place !== undefined && isSamePlace(place, library);
  return new Map([
    ...[...served, ...elsewhere]
      .filter(({ keeper, engine }) => isHere(keeper.registration?.library ?? libraryOf(engine.directory)))
      .map(({ keeper }): [number, string] => [keeper.pid, describeKeeper(keeper)]),
    ...unserved
      .filter(({ keeper }) => isHere(keeper.registration?.library))
      .map(({ keeper }): [number, string] => [keeper.pid, `${describeKeeper(keeper)}, which is not served`]),
  ]);
}

/**
 * Processes that run the installed shim, or one that was installed here before: keepers of earlier
 * releases that are not served, a start that is under way. Only a reason to refuse.
 */
function shimsOf(prefix: string, known: ReadonlySet<number>): string[] {
  const program = join(prefix, SHIM);
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name) || known.has(Number(name)) || !runs(name, program)) return [];
    using process = OwnProcess.open(Number(name));
    return process === undefined ? [] : `process ${name}, which runs ${program}`;
  });
}

function runs(pid: string, program: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, '') === program;
  } catch {
    // A thread of the kernel, gone, or another user's.
    return false;
  }
}

async function endEngines({ engines }: Survey, library: string): Promise<void> {
  for (const { process, status } of engines) {
    if (status !== undefined && !isSamePlace(libraryOf(status.directory), library)) continue;
    await end(process, `engine ${process.pid}`, printLine);
  }
}

/** Removes a file, or a folder that is empty; says what stays. */
function remove(path: string, isFolder: boolean): void {
  try {
    if (isFolder) rmdirSync(path);
    else unlinkSync(path);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return;
    if (!isErrno(error, 'ENOTEMPTY', 'EEXIST', 'EBUSY')) throw error;
    if (existsSync(path)) printLine(`left ${path}: not empty (${readdirSync(path).slice(0, 5).join(', ')})`);
  }
}
