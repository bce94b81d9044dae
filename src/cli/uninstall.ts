/** `lamina uninstall`: removes what scripts/install has written, and nothing else, once nothing runs that needs it. */
import { existsSync, readdirSync, readFileSync, readlinkSync, rmdirSync, unlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { Code, isErrno, LaminaError, messageOf } from '../base/index.js';
import { isSamePlace, libraryOf } from './engines.js';
import { libraryDir, realpathOf, releases } from './installation.js';
import { describeKeeper } from './keepers.js';
import { OwnProcess } from './own-process.js';
import { checkedStateDir } from './state-dir.js';
import { count, type Survey, survey } from './survey.js';
import { end } from './upgrade.js';
import { UsageError } from './usage.js';

const HELP = `usage: lamina uninstall [--dry-run]

Removes what scripts/install has written: the files that MANIFEST of each release lists, and the folders it has made, when they are empty.
Refuses while a container of this installation runs, and names it: without its engine it could not even be killed. An engine that serves nobody
is ended. Configuration (/etc/lamina) and the state directory stay.

  --dry-run   only say what would be removed
`;

const SHIM = 'bin/containerd-shim-lamina-v2';
const ASK_MS = 5_000;

/** @returns the exit status @throws UsageError, LaminaError FailedPrecondition naming what still runs, and then nothing was removed */
export async function runUninstall(args: readonly string[]): Promise<number> {
  const { isDryRun, isHelp } = parse(args);
  const print = (line: string): void => {
    process.stdout.write(`${line}\n`);
  };
  if (isHelp) {
    process.stdout.write(HELP);
    return 0;
  }
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
  if (!isDryRun) await endEngines(found, library, print);
  for (const entry of entries) {
    if (isDryRun) print(`would remove ${join(prefix, entry)}`);
    else remove(join(prefix, entry), entry.endsWith('/'), print);
  }
  if (!isDryRun) print(`uninstalled from ${prefix}`);
  return 0;
}

function parse(args: readonly string[]): { readonly isDryRun: boolean; readonly isHelp: boolean } {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: { 'dry-run': { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    });
    return { isDryRun: values['dry-run'] === true, isHelp: values.help === true };
  } catch (error) {
    throw new UsageError(messageOf(error), HELP);
  }
}

/** PREFIX of PREFIX/lib/lamina. @throws LaminaError FailedPrecondition when the library lies elsewhere */
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
 * Processes that run the installed shim, or one that was installed here before: keepers of earlier releases that are not served, a start that is
 * under way. Only a reason to refuse.
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

async function endEngines({ engines }: Survey, library: string, print: (line: string) => void): Promise<void> {
  for (const { process, status } of engines) {
    if (status !== undefined && !isSamePlace(libraryOf(status.directory), library)) continue;
    await end(process, `engine ${process.pid}`, print);
  }
}

/** Removes a file, or a folder that is empty; says what stays. */
function remove(path: string, isFolder: boolean, print: (line: string) => void): void {
  try {
    if (isFolder) rmdirSync(path);
    else unlinkSync(path);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return;
    if (!isErrno(error, 'ENOTEMPTY', 'EEXIST', 'EBUSY')) throw error;
    if (existsSync(path)) print(`left ${path}: not empty (${readdirSync(path).slice(0, 5).join(', ')})`);
  }
}
