/**
 * What a keeper and the engine hold at one moment: memory, descriptors, threads, and everything of
 * theirs outside their processes.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { memoryUse } from '../../../bench/processes.js';
import { childrenOf, readProcFile } from '../../lib/proc.js';

/** Name of a figure → its value; memory in KiB. */
export type Census = Readonly<Record<string, number>>;

export interface Place {
  readonly keeper: number;
  readonly engine: number;
  /** The daemon's folder: bundles, state directory, temporary files. */
  readonly dir: string;
  readonly namespace: string;
  readonly marker: string;
}

const RUNC_ROOT = '/run/containerd/runc';
const CGROUPS = '/sys/fs/cgroup';

/** Everything below a folder, as paths; what goes while it is being listed is left out. */
function below(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
      const path = join(folder, entry.name);
      return entry.isDirectory() ? [path, ...below(path)] : [path];
    });
  } catch {
    return [];
  }
}

function kilobytes(paths: readonly string[]): number {
  const sizes = paths.map((path) => statSync(path, { throwIfNoEntry: false })?.size ?? 0);
  return Math.ceil(sizes.reduce((sum, size) => sum + size, 0) / 1024);
}

function status(pid: number, field: string): number {
  return Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(readProcFile(pid, 'status'))?.[1] ?? Number.NaN);
}

/** Descriptors, and inotify watches behind them. */
function descriptors(pid: number): { readonly fds: number; readonly watches: number } {
  const fds = readdirSync(`/proc/${pid}/fd`);
  const infos = fds.map((fd) => readProcFile(pid, `fdinfo/${fd}`));
  return { fds: fds.length, watches: infos.join('\n').match(/^inotify wd:/gm)?.length ?? 0 };
}

function cgroupsWith(marker: string): number {
  return readdirSync(CGROUPS, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap((entry) => below(join(CGROUPS, entry.name)).filter((path) => path.includes(marker)))
    .filter((path) => path.endsWith('/cgroup.procs')).length;
}

function process(name: string, pid: number): Record<string, number> {
  const { fds, watches } = descriptors(pid);
  return {
    [`${name} RSS`]: status(pid, 'VmRSS'),
    [`${name} PSS`]: memoryUse([pid]).pss / 1024,
    [`${name} fds`]: fds,
    [`${name} threads`]: status(pid, 'Threads'),
    [`${name} children`]: childrenOf(pid).length,
    [`${name} inotify watches`]: watches,
  };
}

/** Counts everything; what is to be compared must be at rest. */
export function census({ keeper, engine, dir, namespace, marker }: Place): Census {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  const state = below(join(dir, 'lamina'));
  return {
    ...process('keeper', keeper),
    ...process('engine', engine),
    'state folder files': state.length,
    'state folder KiB': kilobytes(state),
    'bundle files': below(join(dir, 'bundles')).filter((path) => !path.includes('/rootfs')).length,
    'temporary files': below(join(dir, 'tmp')).length,
    'runc states': below(join(RUNC_ROOT, namespace)).length,
    cgroups: cgroupsWith(marker),
    mounts: mounts.filter((line) => line.includes(marker)).length,
  };
}

/** What makes a figure wrong: how far it may be above the first. Memory has bounds of its own. */
export interface Bounds {
  readonly keeperKiB: number;
  readonly engineKiB: number;
  readonly stateKiB: number;
}

/** The figures of `now` that have grown beyond what is allowed since `then`, in words. */
export function growth(then: Census, now: Census, bounds: Bounds): string[] {
  const allowed = (name: string): number => {
    if (name === 'keeper RSS' || name === 'keeper PSS') return bounds.keeperKiB;
    if (name === 'engine RSS' || name === 'engine PSS') return bounds.engineKiB;
    // The runtime's words about execs that failed are kept until the container's end.
    return name === 'state folder KiB' ? bounds.stateKiB : 0;
  };
  return Object.entries(now)
    .filter(([name, value]) => !(value - (then[name] ?? 0) <= allowed(name)))
    .map(([name, value]) => `${name}: ${Math.round(then[name] ?? 0)} → ${Math.round(value)}`);
}
