/** What is left on the node of one container of a played daemon (shim-client.ts). */
import { existsSync, readdirSync } from 'node:fs';
import { mustRun, runCommand } from './command.js';
import { listProcesses, readProcFile } from './proc.js';
import type { FakeDaemon } from './shim-client.js';
import { until } from './wait.js';

/** Processes in a container's cgroup, as `PID COMMAND`. */
export function processesOf(id: string): string[] {
  return listProcesses()
    .filter(({ pid }) => readProcFile(pid, 'cgroup').includes(id))
    .map(({ pid, commandLine }) => `${pid} ${commandLine}`);
}

/** Directories of the cgroup file system whose name has this in it. */
export async function groupsOf(id: string): Promise<string[]> {
  // It fails when a group of somebody else is removed under it, and has looked at all others.
  const { stdout } = await runCommand(['find', '/sys/fs/cgroup', '-type', 'd', '-name', `*${id}*`]);
  return stdout.split('\n').filter(Boolean);
}

async function unitsOf(id: string): Promise<string[]> {
  const units = await mustRun(['systemctl', 'list-units', '--all', '--plain', '--no-legend', `*${id}*`]);
  return units.split('\n').filter(Boolean);
}

/**
 * Waits until no process, cgroup, scope and state of the runtime is left of a container; names what
 * is.
 * @param options again: called while something is, for what may be done more than once
 */
export async function nothingLeft(
  daemon: FakeDaemon,
  id: string,
  options: { readonly systemd?: boolean; readonly again?: (() => Promise<unknown>) | undefined } = {},
): Promise<void> {
  const left: Record<string, string[]> = {};
  const isClean = async (): Promise<boolean> => {
    const root = `/run/containerd/runc/${daemon.namespace}`;
    left['processes'] = processesOf(id);
    left['cgroups'] = await groupsOf(id);
    left['state'] = existsSync(root) ? readdirSync(root).filter((name) => name === id) : [];
    left['units'] = options.systemd === true ? await unitsOf(id) : [];
    const clean = Object.values(left).every((names) => names.length === 0);
    if (!clean) await options.again?.();
    return clean;
  };
  await until('nothing is left', isClean, { detail: () => JSON.stringify(left, undefined, 2) });
}
