/** Enabling controllers for a group: cgroup.subtree_control of its ancestors. */
import { posix } from 'node:path';
import { isErrno } from '../../base/index.js';
import type { LinuxResources } from '../../oci/index.js';
import { CgroupFileError, CgroupTreeError, isUnsupported } from '../errors.js';
import { readCgroupFile, writeCgroupFile } from '../file.js';
import { listProcesses, pidList } from '../tree.js';

/** Controllers that work per thread, so in threaded groups too; the others need a domain. */
const THREADED_CONTROLLERS = new Set(['cpu', 'cpuset', 'perf_event', 'pids']);

const SUBTREE = 'cgroup.subtree_control';
/** The controllers named in a file. @throws {CgroupFileError} */
export function readControllers(path: string): string[] {
  return readCgroupFile(path).split(/\s+/).filter(Boolean);
}

/** What could not be enabled, and where. */
interface Refusal {
  readonly dir: string;
  readonly controller: string;
  readonly error: CgroupFileError | CgroupTreeError;
}

/**
 * Enables what is missing, all in one write, or, if the kernel refuses that, one by one.
 * @returns the refusals
 */
function enable(dir: string, wanted: readonly string[]): Refusal[] {
  try {
    const enabled = new Set(readControllers(`${dir}/${SUBTREE}`));
    const missing = wanted.filter((name) => !enabled.has(name));
    if (missing.length === 0) return [];
    assertNoProcesses(dir);
    const refused = write(dir, missing);
    // The kernel takes a line as a whole or not at all, so one controller that is refused must not
    // cost the others.
    return refused.length > 0 && missing.length > 1 ? missing.flatMap((name) => write(dir, [name])) : refused;
  } catch (error) {
    if (!(error instanceof CgroupFileError || error instanceof CgroupTreeError)) throw error;
    return wanted.map((controller) => ({ dir, controller, error }));
  }
}

function write(dir: string, names: readonly string[]): Refusal[] {
  try {
    writeCgroupFile(`${dir}/${SUBTREE}`, names.map((name) => `+${name}`).join(' '));
    return [];
  } catch (error) {
    if (!(error instanceof CgroupFileError)) throw error;
    return names.map((controller) => ({ dir, controller, error }));
  }
}

/**
 * Refuses a group that has processes. For most controllers the kernel does; but those that work per
 * thread it would enable, and so make the group the domain of threaded ones, below which every new
 * group is invalid.
 */
function assertNoProcesses(dir: string): void {
  // The root may have both, and has no type; a threaded domain has chosen to.
  if (readType(dir) !== 'domain') return;
  const pids = listProcesses(dir, { below: false });
  if (pids.length === 0) return;
  const why = `it has processes (${pidList(pids)}) itself, so it cannot enable controllers for groups below`;
  throw new CgroupTreeError('internal-processes', `cgroup ${dir}: ${why}`, { subject: dir });
}

/** The groups above, from the root down. */
function ancestorsOf(root: string, dir: string): string[] {
  const parts = posix.relative(root, dir).split('/').filter(Boolean);
  return parts.map((_, depth) => posix.join(root, ...parts.slice(0, depth)));
}

/** Enables every controller of the root in each ancestor, from the root down. */
function enableInAncestors(root: string, dir: string): Refusal[] {
  const wanted = readControllers(`${root}/cgroup.controllers`);
  return ancestorsOf(root, dir).flatMap((ancestor) => enable(ancestor, wanted));
}

/**
 * Enables every controller of the root in each ancestor of the group, from the root down, not in
 * the group itself: that would forbid it to have processes.
 * @param root the mount point
 * @param dir the group's directory, below root
 * @throws {CgroupFileError, CgroupTreeError} if the nearest ancestor refused one; what matters is
 *   what it could enable in the end, so refusals further up (EPERM in a delegated tree, where they
 *   are enabled already) are passed over
 */
export function enableControllersAlongPath(root: string, dir: string): void {
  const nearest = posix.dirname(dir);
  const refusal = enableInAncestors(root, dir).find((each) => each.dir === nearest);
  if (refusal !== undefined) throw refusal.error;
}

/**
 * The controllers these limits need: what is absent, or 0 where 0 is the same as absent, needs
 * none.
 * @returns controller → the field that needs it
 */
export function neededControllers(resources: LinuxResources): Map<string, string> {
  const { cpu, memory, blockIO, hugepageLimits, rdma } = resources;
  const fields: Record<string, Record<string, unknown>> = {
    cpu: { 'cpu.shares': cpu?.shares, 'cpu.quota': cpu?.quota, 'cpu.period': cpu?.period, 'cpu.burst': cpu?.burst },
    cpuset: { 'cpu.cpus': cpu?.cpus, 'cpu.mems': cpu?.mems },
    memory: { 'memory.limit': memory?.limit, 'memory.reservation': memory?.reservation, 'memory.swap': memory?.swap },
    pids: { 'pids.limit': resources.pids?.limit?.toString() },
    io: Object.fromEntries(Object.entries(blockIO ?? {}).map(([name, value]) => [`blockIO.${name}`, value])),
    hugetlb: { hugepageLimits },
    rdma: { rdma: Object.keys(rdma ?? {}) },
  };
  const needed = new Map<string, string>();
  for (const [controller, values] of Object.entries(fields)) {
    const field = Object.keys(values).find((name) => isAsked(values[name]));
    if (field !== undefined) needed.set(controller, field);
  }
  if (cpu?.idle !== undefined && !needed.has('cpu')) needed.set('cpu', 'cpu.idle');
  for (const file of Object.keys(resources.unified ?? {})) {
    const [controller = ''] = file.split('.');
    if (controller !== '' && controller !== 'cgroup') needed.set(controller, `unified["${file}"]`);
  }
  return needed;
}

function isAsked(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  return value !== undefined && value !== 0 && value !== '';
}

/** Refuses a group that threads make unfit for what is asked. */
function assertDomain(level: string, domainController: string | undefined): void {
  const type = readType(level);
  if (type !== 'threaded' && type !== 'domain invalid') return;
  if (domainController === undefined) {
    // Threaded as well, it can have processes again.
    if (type === 'domain invalid') writeCgroupFile(`${level}/cgroup.type`, 'threaded');
    return;
  }
  const why = `the controller ${domainController} needs a domain group`;
  if (type === 'domain invalid') {
    throw new CgroupTreeError(
      'domain-invalid',
      `cgroup ${level} is "domain invalid", as a group above is threaded: ${why}`,
      {
        subject: level,
      },
    );
  }
  throw new CgroupTreeError('threaded', `cgroup ${level} is "${type}": ${why}`, { subject: level });
}

/**
 * "domain", "domain threaded", "domain invalid", "threaded"; undefined before Linux 4.14 and in the
 * root.
 */
export function readType(dir: string): string | undefined {
  try {
    return readCgroupFile(`${dir}/cgroup.type`).trim();
  } catch (error) {
    if (error instanceof CgroupFileError && error.errno === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * Makes controllers available to a group: all there are, as far as the kernel lets us, and those
 * that are needed in any case.
 * @param levels every group from the first below the mount point to the group itself
 * @param needed controller → the field that needs it
 * @throws {CgroupTreeError} saying what stands in the way, where
 */
export function provideControllers(
  mountPoint: string,
  levels: readonly string[],
  needed: ReadonlyMap<string, string>,
): void {
  const domainController = [...needed.keys()].find((name) => !THREADED_CONTROLLERS.has(name));
  for (const level of levels) assertDomain(level, domainController);
  const dir = levels.at(-1) as string;
  const refusals = enableInAncestors(mountPoint, dir);
  const available = new Set(readControllers(`${dir}/cgroup.controllers`));
  for (const [controller, field] of needed) {
    if (!available.has(controller)) throw explainMissing(mountPoint, dir, controller, field, refusals);
  }
}

function explainMissing(
  mountPoint: string,
  dir: string,
  controller: string,
  field: string,
  refusals: readonly Refusal[],
): CgroupTreeError {
  const what = `cgroup ${dir}: ${field} needs the controller ${controller}`;
  const refusal = refusals.find((each) => each.controller === controller);
  if (refusal === undefined || !readControllers(`${refusal.dir}/cgroup.controllers`).includes(controller)) {
    const above = refusal?.dir ?? mountPoint;
    const hint = above === mountPoint ? ' (the kernel lacks it, or a v1 hierarchy has it)' : '; it was not delegated';
    return new CgroupTreeError('no-controller', `${what}, which ${above}/cgroup.controllers does not list${hint}`, {
      subject: above,
      cause: refusal?.error,
    });
  }
  return explainRefusal(what, refusal);
}

function explainRefusal(what: string, { dir, controller, error }: Refusal): CgroupTreeError {
  const options = { subject: dir, cause: error };
  if (error instanceof CgroupTreeError)
    return new CgroupTreeError(error.situation, `${what}: ${error.message}`, options);
  if (error.errno === 'EBUSY') {
    return new CgroupTreeError(
      'internal-processes',
      `${what}: ${dir} has processes itself, and so cannot enable it`,
      options,
    );
  }
  if (isErrno(error.cause, 'EACCES', 'EPERM')) {
    const advice = `this user may not write ${dir}/cgroup.subtree_control: enable ${controller} there, or have it delegated`;
    return new CgroupTreeError('permission', `${what}: ${advice} (systemd: Delegate=yes)`, options);
  }
  if (isUnsupported(error)) {
    return new CgroupTreeError('threaded', `${what}, which ${dir} ("${readType(dir)}") cannot enable`, options);
  }
  if (error.errno === 'EROFS') {
    return new CgroupTreeError('read-only', `${what}: ${dir} is mounted read-only`, options);
  }
  return new CgroupTreeError('no-controller', `${what}, which ${dir} does not enable: ${error.message}`, options);
}
