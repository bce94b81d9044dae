/**
 * The hierarchies of this machine on which groups are tried: v1 where controllers are mounted that
 * way, v2 wherever it is mounted.
 */
import * as fs from 'node:fs';
import { type CgroupLayout, currentLayout } from '../../../src/cgroups/index.js';
import { requires } from '../../lib/requires.js';

const missing = requires({ root: true });
const layout: CgroupLayout = missing === false ? currentLayout() : { mode: 'legacy', controllers: new Map() };

export interface Backend {
  readonly title: 'v1' | 'v2';
  readonly skip: string | false;
  readonly layout: CgroupLayout;
  /** Mount points, of v1 those of every hierarchy with a controller. */
  readonly roots: readonly string[];
  /** Why there is no memory limit to try. */
  readonly noMemory: string | false;
  /** A file that limits memory, in bytes. */
  readonly memoryLimit: string;
}

const mounts = layout.mode === 'unified' ? new Map() : layout.controllers;
const unified = layout.mode === 'legacy' ? undefined : layout.unified;
const unifiedControllers =
  unified === undefined ? '' : fs.readFileSync(`${unified.mountPoint}/cgroup.controllers`, 'utf8');

export const v1: Backend = {
  title: 'v1',
  skip: missing === false ? mounts.size === 0 && 'no v1 controllers are mounted' : missing,
  layout,
  roots: [...new Set([...mounts.values()].map((mount) => mount.mountPoint as string))],
  noMemory: !mounts.has('memory') && 'no v1 memory controller',
  memoryLimit: 'memory.limit_in_bytes',
};

export const v2: Backend = {
  title: 'v2',
  skip: missing === false ? unified === undefined && 'no v2 hierarchy is mounted' : missing,
  layout: unified === undefined ? layout : { mode: 'unified', unified },
  roots: unified === undefined ? [] : [unified.mountPoint],
  noMemory: !unifiedControllers.includes('memory') && 'v2 has no memory controller here',
  memoryLimit: 'memory.max',
};

export const backends = [v1, v2];

/** The directories of a group that are there. */
export function dirsOf(backend: Backend, path: string): string[] {
  return backend.roots.map((root) => `${root}${path}`).filter((dir) => fs.existsSync(dir));
}

/** Reads a file of a group in the hierarchy that has it. */
export function readFileOf(backend: Backend, path: string, file: string): string {
  const dir = dirsOf(backend, path).find((each) => fs.existsSync(`${each}/${file}`));
  return fs.readFileSync(`${dir}/${file}`, 'utf8').trim();
}

/** Removes empty groups that a test has left on purpose, those below first. */
export function removeEmpty(backend: Backend, path: string): void {
  for (const dir of dirsOf(backend, path)) removeDirectory(dir);
}

function removeDirectory(dir: string): void {
  for (const entry of fs.readdirSync(dir, { withFileTypes: true })) {
    if (entry.isDirectory()) removeDirectory(`${dir}/${entry.name}`);
  }
  fs.rmdirSync(dir);
}
