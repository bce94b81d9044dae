/**
 * Groups nested deeper than a path can be long, as a container with a cgroup namespace of its own
 * can make them.
 */
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, writeFileSync } from 'node:fs';
import { cgroupMode } from './requires.js';

/** A hierarchy in which groups cost little, of the kind that this machine has. */
export function plainHierarchy(): string {
  return cgroupMode() === 'v2' ? '/sys/fs/cgroup' : '/sys/fs/cgroup/pids';
}

/**
 * Makes groups one in the other, by descriptors.
 * @param pid a process to put into the last
 */
export function nestGroups(top: string, levels: number, name: string, pid?: number): void {
  let fd = openSync(top, 'r');
  for (let level = 0; level < levels; level += 1) {
    const below = `/proc/self/fd/${fd}/${name}`;
    mkdirSync(below);
    const next = openSync(below, 'r');
    closeSync(fd);
    fd = next;
  }
  if (pid !== undefined) writeFileSync(`/proc/self/fd/${fd}/cgroup.procs`, String(pid));
  closeSync(fd);
}

/** Makes so many groups beside each other. */
export function spreadGroups(top: string, count: number): void {
  for (let number = 0; number < count; number += 1) mkdirSync(`${top}/${number}`);
}

/** How many groups there are right below one. */
export function countGroups(top: string): number {
  if (!existsSync(top)) return 0;
  return readdirSync(top, { withFileTypes: true }).filter((entry) => entry.isDirectory()).length;
}
