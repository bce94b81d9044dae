/** What is installed beside this command: PREFIX/lib/lamina, as scripts/install makes it. */
import { execFile, spawnSync } from 'node:child_process';
import {
  accessSync,
  constants,
  copyFileSync,
  existsSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { basename, delimiter, dirname, join } from 'node:path';
import { Code, isErrno, LaminaError } from '../base/index.js';
import type { CheckReport } from '../shim/check.js';
import { LM_ENGINE_OPTIONS, LM_ENGINE_VARIABLES } from '../sys/index.js';

const CHECK_TIMEOUT_MS = 60_000;
const SHIM = 'containerd-shim-lamina-v2';
/**
 * What a trial gets of this command's environment, beside LAMINA_*: as keepers pass on to engines.
 * No other process's is ever used.
 */
const VARIABLES: ReadonlySet<string> = new Set(LM_ENGINE_VARIABLES.split(' '));

/** The library directory: LAMINA_LIB, else where this program was called from. */
export function libraryDir(): string {
  return process.env['LAMINA_LIB'] ?? dirname(process.argv[1] ?? '');
}

/** The folder of a release. @throws LaminaError NotFound with the list of those there are */
export function releaseDir(library: string, release: string): string {
  const dir = join(library, 'releases', release);
  const { all } = releases(library);
  if (all.includes(release) && existsSync(join(dir, 'engine.cjs'))) return dir;
  const list = all.length === 0 ? 'there are none' : `there are: ${all.join(', ')}`;
  throw new LaminaError(Code.NotFound, `${release} is no release in ${join(library, 'releases')}; ${list}`, {
    subject: release,
  });
}

/** The releases that are there, and which of them the next engine is. */
export function releases(library: string): { readonly current: string | undefined; readonly all: readonly string[] } {
  const folder = join(library, 'releases');
  const all = existsSync(folder) ? readdirSync(folder).filter((name) => !name.startsWith('.')) : [];
  const current = all.find((name) => currentDir(library) === realpathOf(join(folder, name)));
  return { current, all: all.toSorted((a, b) => a.localeCompare(b)) };
}

/**
 * The folder of the engine that keepers start now, links resolved; undefined when there is none.
 */
export function currentDir(library: string): string | undefined {
  const script = realpathOf(join(library, 'engine.cjs'));
  return script === undefined ? undefined : dirname(script);
}

/** A path with its links resolved; undefined when there is nothing. */
export function realpathOf(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

/** The build of the keepers that the installed release starts; undefined when it does not say. */
export function installedBuild(library: string): string | undefined {
  const shim = join(currentDir(library) ?? library, SHIM);
  // One that is missing or damaged says nothing, and is told of where it is run.
  const { stdout } = spawnSync(shim, ['-v'], { env: {}, encoding: 'utf8', timeout: CHECK_TIMEOUT_MS });
  return /^ *Build: +(\S+)$/m.exec(stdout ?? '')?.[1];
}

/** What an engine needs and is not installed: paths. */
export function missingParts(library: string): string[] {
  const dir = currentDir(library);
  if (dir === undefined) return [join(library, 'engine.cjs')];
  return ['engine.js', 'lamina.node', 'lamina-worker']
    .map((name) => join(dir, name))
    .filter((path) => !existsSync(path));
}

/**
 * Lets the installed names lead to a release that is there, each in one step.
 * @throws LaminaError NotFound
 */
export function switchTo(library: string, release: string): void {
  const dir = releaseDir(library, release);
  const names = ['node', 'engine.cjs', 'lamina.mjs'];
  // A release of before node was part of each runs on the node that is there.
  for (const name of names.filter((name) => existsSync(join(dir, name)))) {
    replace(join(library, name), (fresh) => symlinkSync(join('releases', release, name), fresh));
  }
  const shim = shimOf(library);
  // Nor had it a keeper of its own.
  if (shim === undefined || !existsSync(join(dir, SHIM))) return;
  replace(shim, (fresh) => copyFileSync(join(dir, SHIM), fresh, constants.COPYFILE_EXCL));
}

/**
 * The keepers' program of an installation: PREFIX/bin beside PREFIX/lib/lamina; undefined when that
 * is not where this library lies.
 */
function shimOf(library: string): string | undefined {
  const path = realpathOf(library) ?? library;
  if (basename(path) !== 'lamina' || basename(dirname(path)) !== 'lib') return undefined;
  const shim = join(path, '../../bin', SHIM);
  return existsSync(shim) ? shim : undefined;
}

/** Puts something new under a name in one step. */
function replace(path: string, make: (fresh: string) => void): void {
  const fresh = `${path}.new.${process.pid}`;
  try {
    make(fresh);
    renameSync(fresh, path);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw error;
  }
}

/**
 * Node as a keeper with this command's environment finds it: native/README.md, "Finding an engine".
 * @throws LaminaError NotFound
 */
function findNode(library: string, script: string, env: NodeJS.ProcessEnv): string {
  const given = env['LAMINA_NODE'] ?? '';
  const folders = (env['PATH'] ?? '').split(delimiter).filter(Boolean);
  const beside = [join(dirname(realpathOf(script) ?? script), 'node'), join(library, 'node')];
  const named = given.includes('/') ? [given] : folders.map((folder) => join(folder, given));
  const candidates = given === '' ? beside : named;
  const found = candidates.find(isExecutable);
  if (found === undefined) {
    const remedy = given === '' ? 'install Lamina again' : `LAMINA_NODE is ${given}: unset it, or let it name a node`;
    throw new LaminaError(Code.NotFound, `node: not found: ${candidates.join(', ')}: ${remedy}`);
  }
  return found;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Starts an engine for a moment that serves nobody but itself.
 * @param script its engine.cjs
 * @param config its LAMINA_CONFIG; undefined: this command's
 * @throws LaminaError FailedPrecondition with what it said
 */
export async function dryStart(library: string, script: string, config: string | undefined): Promise<CheckReport> {
  if (!existsSync(script)) {
    const others = releases(library).all.map((release) => ` or lamina engine upgrade --to ${release}`);
    throw new LaminaError(Code.NotFound, `${script} is missing: install Lamina again,${others.slice(0, 1).join('')}`);
  }
  const node = findNode(library, script, process.env);
  const own = Object.entries(process.env).filter(([name]) => VARIABLES.has(name) || name.startsWith('LAMINA_'));
  const env: NodeJS.ProcessEnv = { ...Object.fromEntries(own), UV_USE_IO_URING: '0' };
  if (config === '') delete env['LAMINA_CONFIG'];
  else if (config !== undefined) env['LAMINA_CONFIG'] = config;
  const { failure, stdout, stderr } = await new Promise<{ failure: Error | null; stdout: string; stderr: string }>(
    (resolve) => {
      execFile(
        node,
        [...LM_ENGINE_OPTIONS.split(' '), script, '--check'],
        { env, cwd: '/', timeout: CHECK_TIMEOUT_MS, killSignal: 'SIGKILL' },
        (failure, stdout, stderr) => resolve({ failure, stdout, stderr }),
      );
    },
  );
  try {
    if (failure === null) return JSON.parse(stdout) as CheckReport;
  } catch {
    // Said below.
  }
  const said = (stderr || stdout || failure?.message || 'it says nothing').trim();
  throw new LaminaError(Code.FailedPrecondition, `${script} does not start (with ${node}): ${said}`, {
    subject: script,
    cause: failure,
  });
}
