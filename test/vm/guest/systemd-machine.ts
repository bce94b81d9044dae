/**
 * What the suites about systemd's driver share: units as systemctl shows them, a group's files,
 * processes to put in.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun, runCommand } from '../../lib/command.js';
import { until } from '../../lib/wait.js';

export const ROOT = '/sys/fs/cgroup';

export async function systemctl(...args: string[]): Promise<string> {
  return await mustRun(['systemctl', ...args]);
}

/**
 * Properties of a unit as `systemctl show` prints them; what is there twice is joined by a newline.
 */
export async function show(unit: string, ...names: string[]): Promise<Record<string, string>> {
  const text = await systemctl('show', `--property=${names.join(',')}`, '--', unit);
  const values = new Map<string, string[]>();
  for (const line of text.split('\n').filter(Boolean)) {
    const at = line.indexOf('=');
    const name = line.slice(0, at);
    values.set(name, [...(values.get(name) ?? []), line.slice(at + 1)]);
  }
  return Object.fromEntries([...values].map(([name, lines]) => [name, lines.join('\n')]));
}

/** One property. */
export async function property(unit: string, name: string): Promise<string | undefined> {
  return (await show(unit, name))[name];
}

/** How systemctl ends that asks for a unit: 3 is "not active", 4 "no such unit". */
export async function statusCode(unit: string): Promise<number> {
  return (await runCommand(['systemctl', 'status', '--no-pager', '--', unit])).code;
}

/** Every scope and slice systemd knows. */
export async function units(): Promise<string[]> {
  const args = ['list-units', '--all', '--plain', '--no-legend', '--full', '--type=scope,slice'];
  return (await systemctl(...args))
    .split('\n')
    .map((line) => line.trim().split(/\s+/)[0] ?? '')
    .filter(Boolean);
}

/** Files that tell what happened and what is used, not what was set. */
const NOT_LIMITS = /current|events|stat|peak|pressure|procs|threads|effective|cgroup\.(kill|controllers)|reclaim/;

/** Every limit of a group: file → content. */
export function limits(path: string): Record<string, string> {
  const dir = join(ROOT, path);
  const files = readdirSync(dir).filter((name) => !NOT_LIMITS.test(name) && statSync(join(dir, name)).isFile());
  assert.ok(files.includes('memory.max'), `${files.join(' ')}: no memory.max`);
  return Object.fromEntries(files.map((name) => [name, readFileSync(join(dir, name), 'utf8').trim()]));
}

export function readLimit(path: string, file: string): string {
  return readFileSync(join(ROOT, path, file), 'utf8').trim();
}

/**
 * The limits but for the period without a quota: it limits nothing, and systemd writes its default
 * there.
 */
function inForce(path: string): Record<string, string> {
  const files = limits(path);
  return { ...files, 'cpu.max': files['cpu.max']?.replace(/^max .*/, 'max') ?? '' };
}

/** Asserts that a daemon-reload changes none of a group's files. */
export async function assertSurvivesReload(path: string, what: string = 'the limits'): Promise<void> {
  const before = inForce(path);
  await systemctl('daemon-reload');
  assert.deepEqual(inForce(path), before, `${what}, after daemon-reload`);
}

/** Processes of a test, ended with it. */
export class Processes {
  readonly #children = new Set<ChildProcess>();

  /**
   * Runs a shell script; it has begun when this resolves, no more. What it prints can be waited
   * for.
   */
  async start(
    script: string = 'exec sleep 1000',
  ): Promise<{ pid: number; output: () => string; ended: () => boolean; child: ChildProcess }> {
    const child = spawn('sh', ['-c', `echo ready; ${script}`], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#children.add(child);
    let output = '';
    child.stdout.on('data', (text: Buffer) => {
      output += String(text);
    });
    await until(`${script} runs`, () => output.includes('ready'));
    const ended = (): boolean => child.exitCode !== null || child.signalCode !== null;
    return { pid: child.pid as number, output: () => output, ended, child };
  }

  async end(): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    for (const child of this.#children) {
      await until(`${child.pid} ends`, () => child.exitCode !== null || child.signalCode !== null);
    }
    this.#children.clear();
  }
}
