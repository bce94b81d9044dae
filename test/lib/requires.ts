import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { findProgram } from './repo.js';

/** What a test file needs. A version is the least one that will do; true means any. */
export interface Requirements {
  readonly root?: boolean;
  readonly runc?: true | string;
  readonly crun?: true | string;
  readonly containerd?: true | string;
  readonly docker?: true | string;
  /** Other programs that must be found, by name. */
  readonly programs?: readonly string[];
  readonly cgroup?: 'v1' | 'v2';
  /** systemd runs as pid 1. */
  readonly systemd?: boolean;
  /** Files that must be there, each with what makes it. */
  readonly files?: Readonly<Record<string, string>>;
}

const VERSION_ARGS: Readonly<Record<string, string>> = { docker: '--version', crun: '--version' };

function versionOf(program: string, path: string): string | undefined {
  const output = execFileSync(path, [VERSION_ARGS[program] ?? '--version'], { encoding: 'utf8' });
  return /(\d+)\.(\d+)(\.\d+)?/.exec(output)?.[0];
}

function isAtLeast(version: string, least: string): boolean {
  const have = version.split('.').map(Number);
  for (const [index, want] of least.split('.').map(Number).entries()) {
    const part = have[index] ?? 0;
    if (part !== want) return part > want;
  }
  return true;
}

function missingProgram(name: string, wanted: true | string): string | undefined {
  const path = findProgram(name);
  if (path === undefined) return `${name} is not installed`;
  if (wanted === true) return undefined;
  const version = versionOf(name, path);
  if (version === undefined || !isAtLeast(version, wanted)) return `${name} ${wanted} needed, ${version} found`;
  return undefined;
}

/** The cgroup layout of this machine, by what is mounted at /sys/fs/cgroup. */
export function cgroupMode(): 'v1' | 'v2' {
  return existsSync('/sys/fs/cgroup/cgroup.controllers') ? 'v2' : 'v1';
}

/**
 * Says what is missing here, for `describe(..., { skip: requires({...}) })`: the reason, which is
 * printed too, or false.
 */
export function requires(wanted: Requirements): string | false {
  const missing: (string | undefined)[] = [];
  if (wanted.root === true && process.getuid?.() !== 0) missing.push('root is needed');
  for (const name of ['runc', 'crun', 'containerd', 'docker'] as const) {
    const want = wanted[name];
    if (want !== undefined) missing.push(missingProgram(name, want));
  }
  for (const name of wanted.programs ?? []) missing.push(missingProgram(name, true));
  if (wanted.cgroup !== undefined && wanted.cgroup !== cgroupMode()) {
    missing.push(`cgroup ${wanted.cgroup} needed, this machine has ${cgroupMode()}`);
  }
  if (wanted.systemd === true && readFileSync('/proc/1/comm', 'utf8').trim() !== 'systemd') {
    missing.push('systemd does not run here');
  }
  for (const [path, maker] of Object.entries(wanted.files ?? {})) {
    if (!existsSync(path)) missing.push(`${path} is missing: ${maker}`);
  }
  const reasons = missing.filter((reason) => reason !== undefined);
  if (reasons.length === 0) return false;
  const text = reasons.join('; ');
  console.log(`skipped: ${text}`);
  return text;
}
