/**
 * Finds what a suite left behind on a machine nobody else uses. Unlike test/lib/leaks.ts it needs
 * no marker of a private daemon: whatever concerns containers and was not there before is a leak.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { listProcesses } from '../../lib/proc.js';
import { LATE_MS, until } from '../../lib/wait.js';
import { cgroups } from './machine.js';

const SHARED_FOLDERS = ['/run/containerd/s', '/run/containerd/fifo', '/run/docker/runtime-runc/moby', '/run/lamina'];

/** Folders with one folder per namespace, which stays, and in it one entry per container. */
const NAMESPACED_FOLDERS = [
  '/run/containerd/runc',
  '/run/containerd/io.containerd.runtime.v2.task',
  '/var/lib/containerd/io.containerd.runtime.v2.task',
];

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
}

function mounts(): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((target) =>
      /^\/(run|var\/run)\/(containerd|docker|netns|lamina)\/|^\/var\/lib\/(docker|containerd)\/.+/.test(target),
    );
}

function scopes(): string[] {
  const args = ['list-units', '--all', '--plain', '--no-legend', '--type=scope,slice'];
  return execFileSync('systemctl', args, { encoding: 'utf8' })
    .split('\n')
    .map((line) => line.trim().split(/\s+/)[0] ?? '')
    .filter((unit) => unit.endsWith('.scope') && unit !== 'init.scope');
}

/**
 * Shims, runtimes and orphans of containers. The node's engine stays for a minute without work; a
 * second one is a leak.
 */
function processes(): string[] {
  const programs = /containerd-shim|^(\S*\/)?(runc|crun)( |$)|^(\S*\/)?(probe|sleep|sh) /;
  const all = listProcesses();
  const engines = all.filter((info) => info.commandLine.includes('engine.cjs'));
  return [...all.filter((info) => programs.test(info.commandLine)), ...engines.slice(1)].map(
    (info) => `${info.pid} ${info.state} ${info.commandLine}`,
  );
}

function findAll(): Set<string> {
  const things: Record<string, string[]> = {
    process: processes(),
    mount: mounts(),
    // runc leaves the namespace's own group; an empty one below the root is no leak.
    cgroup: cgroups().filter((path) => path.split('/').length > 5 || /\.scope$/.test(path)),
    scope: scopes(),
    file: [...SHARED_FOLDERS.flatMap(list), ...NAMESPACED_FOLDERS.flatMap(list).flatMap(list)].filter(
      // The engine's socket lives as long as it; the last two are crun's, which keeps them in its
      // root.
      (path) => !/\.(lock|log)$|\/engine-[0-9a-f]+\.sock$|\/\.(empty-directory|cache)$/.test(path),
    ),
  };
  return new Set(Object.entries(things).flatMap(([kind, names]) => names.map((name) => `${kind}: ${name}`)));
}

/** What was there before a suite, to tell what the suite has added. */
export class Leftovers {
  readonly #before = findAll();

  /**
   * Waits until nothing is left, or throws and names everything that is.
   * @param graceMs for what ends by itself: idle engines, processes on their way out
   */
  async check(graceMs = LATE_MS): Promise<void> {
    let left: string[] = [];
    const isClean = (): boolean => {
      left = [...findAll()].filter((name) => !this.#before.has(name));
      return left.length === 0;
    };
    await until('nothing is left', isClean, { deadlineMs: graceMs, detail: () => left.join('\n') });
  }
}
