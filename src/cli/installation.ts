/** What is installed beside this command: PREFIX/lib/lamina, as scripts/install makes it. */
import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync, realpathSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { basename, delimiter, dirname, join } from 'node:path';
import { Code, isErrno, LaminaError } from '../base/index.js';
import type { CheckReport } from '../shim/check.js';
import { LM_ENGINE_OPTIONS, LM_ENGINE_VARIABLES } from '../sys/index.js';

const CHECK_TIMEOUT_MS = 60_000;
const VARIABLES: ReadonlySet<string> = new Set(LM_ENGINE_VARIABLES.split(' '));

/** The library directory: LAMINA_LIB, else where this program was called from. */
export function libraryDir(): string {
  return process.env['LAMINA_LIB'] ?? dirname(process.argv[1] ?? '');
}

export function releaseDir(library: string, release: string): string {
  return join(library, 'releases', release);
}

/** The releases that are there, and which of them the next engine is. */
export function releases(library: string): { readonly current: string | undefined; readonly all: readonly string[] } {
  const folder = join(library, 'releases');
  const all = existsSync(folder) ? readdirSync(folder).filter((name) => !name.startsWith('.')) : [];
  const current = all.find((name) => currentDir(library) === realpathOf(releaseDir(library, name)));
  return { current, all: all.toSorted((a, b) => a.localeCompare(b)) };
}

/** The folder of the engine that keepers start now, links resolved; undefined when there is none. */
export function currentDir(library: string): string | undefined {
  const script = realpathOf(join(library, 'engine.cjs'));
  return script === undefined ? undefined : dirname(script);
}

function realpathOf(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

/** Lets the installed names lead to a release that is there, each in one step. @throws LaminaError NotFound */
export function switchTo(library: string, release: string): void {
  const dir = releaseDir(library, release);
  if (basename(dir) !== release || !existsSync(join(dir, 'engine.cjs'))) {
    throw new LaminaError(Code.NotFound, `${dir} is no release; there are: ${releases(library).all.join(', ')}`, {
      subject: release,
    });
  }
  const names = ['node', 'engine.cjs', 'lamina.mjs'];
  // A release of before node was part of each runs on the node that is there.
  for (const name of names.filter((name) => existsSync(join(dir, name)))) {
    const link = join(library, name);
    const fresh = `${link}.new.${process.pid}`;
    symlinkSync(join('releases', release, name), fresh);
    try {
      renameSync(fresh, link);
    } catch (error) {
      rmSync(fresh, { force: true });
      throw error;
    }
  }
}

/** Node as a keeper with this environment finds it: native/README.md, "Finding an engine". @throws LaminaError NotFound */
function findNode(library: string, script: string, env: NodeJS.ProcessEnv): string {
  const given = env['LAMINA_NODE'] ?? '';
  const folders = (env['PATH'] ?? '').split(delimiter).filter(Boolean);
  const beside = [join(dirname(realpathOf(script) ?? script), 'node'), join(library, 'node')];
  const named = given.includes('/') ? [given] : folders.map((folder) => join(folder, given));
  const candidates = given === '' ? beside : named;
  const found = candidates.find(isExecutable);
  if (found === undefined) throw new LaminaError(Code.NotFound, `node: not found: ${candidates.join(', ')}`);
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
 * Starts an engine for a moment that serves nobody but itself, in the environment its keepers would start it in.
 * @param script its engine.cjs
 * @throws LaminaError FailedPrecondition with what it said
 */
export async function dryStart(library: string, script: string, env: NodeJS.ProcessEnv): Promise<CheckReport> {
  const node = findNode(library, script, env);
  const wanted = Object.entries(env).filter(([name]) => VARIABLES.has(name) || name.startsWith('LAMINA_'));
  const passed = { ...Object.fromEntries(wanted), UV_USE_IO_URING: '0' };
  const { failure, stdout, stderr } = await new Promise<{ failure: Error | null; stdout: string; stderr: string }>(
    (resolve) => {
      execFile(
        node,
        [...LM_ENGINE_OPTIONS.split(' '), script, '--check'],
        { env: passed, cwd: '/', timeout: CHECK_TIMEOUT_MS, killSignal: 'SIGKILL' },
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
