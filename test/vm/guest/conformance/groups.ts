/**
 * The two that are compared: groups made and limited by our manager, and the groups of runc's
 * containers.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Cgroup, parseSystemdPath, unitPath } from '../../../../src/cgroups/index.js';
import type { LinuxResources } from '../../../../src/oci/index.js';
import { mustRun, runCommand } from '../../../lib/command.js';
import { copyRootfs } from '../../../lib/image.js';
import { bareSpec } from '../../../lib/spec.js';
import { until } from '../../../lib/wait.js';

export type Driver = 'fs' | 'systemd';
export type Maker = 'lamina' | 'runc';

const WORK = '/run/lamina-conformance';
const MOUNT_POINT = '/sys/fs/cgroup';
/** The parents of all groups, removed at the end. */
export const PARENT_PATH = '/lamina-conformance';
export const PARENT_SLICE = 'laminaconformance.slice';

/** Under qemu everything takes ten times as long. */
const TIMEOUT_MS = 120_000;

/**
 * What every group gets when a case says nothing of devices: containers have it from their engines.
 */
const USUAL_DEVICES = [{ allow: false, access: 'rwm' }];

/** One group, under test. Steps reject with the manager's own words. */
export interface Subject {
  readonly maker: Maker;
  /** Where its files are. */
  readonly dir: string;
  /** Its unit, under systemd. */
  readonly unit: string | undefined;
  create(resources: LinuxResources): Promise<void>;
  update(resources: LinuxResources): Promise<void>;
  /**
   * Nothing to runc, whose clean-up is not the subject and takes long: `removeParents` ends its
   * containers.
   */
  remove(): Promise<void>;
}

/** The cgroupsPath of a group, its directory, and its unit. */
function place(driver: Driver, name: string): Pick<Subject, 'dir' | 'unit'> & { readonly cgroupsPath: string } {
  if (driver === 'fs') {
    const cgroupsPath = `${PARENT_PATH}/${name}`;
    return { cgroupsPath, dir: join(MOUNT_POINT, cgroupsPath), unit: undefined };
  }
  const [prefix = '', ...rest] = name.split('-');
  const cgroupsPath = `${PARENT_SLICE}:${prefix}:${rest.join('-')}`;
  const parsed = parseSystemdPath(cgroupsPath);
  return { cgroupsPath, dir: join(MOUNT_POINT, unitPath(parsed)), unit: parsed.unit };
}

/** Our manager, with a process of its own in each group, as a container has one. */
export function laminaGroup(driver: Driver, name: string): Subject {
  const { cgroupsPath, dir, unit } = place(driver, `lamina-${name}`);
  let cgroup: Cgroup | undefined;
  let child: ChildProcess | undefined;
  return {
    maker: 'lamina',
    dir,
    unit,
    async create(resources) {
      // What it is once it runs in the group, the group pays for: usage is what a limit may be
      // checked against.
      child = spawn('sh', ['-c', 'read go; exec sleep 1000000'], { stdio: ['pipe', 'ignore', 'ignore'] });
      const { pid } = child;
      if (pid === undefined) throw new Error('cannot start sleep');
      const devices = resources.devices ?? USUAL_DEVICES;
      const options = { path: cgroupsPath, driver, resources: { ...resources, devices }, pid };
      cgroup = await Cgroup.create({ ...options, systemd: { timeoutMs: TIMEOUT_MS } });
      child.stdin?.write('go\n');
      await until(`process ${pid} sleeps`, () => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'sleep\n');
    },
    async update(resources) {
      if (cgroup === undefined) throw new Error(`${name} was not created`);
      await cgroup.set(resources);
    },
    async remove() {
      child?.kill('SIGKILL');
      await cgroup?.destroy({ timeoutMs: TIMEOUT_MS });
      cgroup?.close();
    },
  };
}

/** runc, with a container that sleeps. All containers share one root file system. */
export function runcGroup(driver: Driver, name: string): Subject {
  const id = `conformance-${driver}-${name}`;
  const { cgroupsPath, dir, unit } = place(driver, `runc-${name}`);
  const bundle = join(WORK, id);
  const runc = ['runc', '--root', join(WORK, 'state'), ...(driver === 'systemd' ? ['--systemd-cgroup'] : [])];
  const options = { timeoutMs: TIMEOUT_MS };
  return {
    maker: 'runc',
    dir,
    unit,
    async create(resources) {
      mkdirSync(bundle, { recursive: true });
      const spec = bareSpec({ args: ['sleep', '1000000'], rootfs: join(WORK, 'rootfs'), cgroupsPath });
      const linux = { ...(spec['linux'] as object), resources: { devices: USUAL_DEVICES, ...resources } };
      writeFileSync(join(bundle, 'config.json'), JSON.stringify({ ...spec, linux }));
      await runDetached(
        [...runc, '--log', join(bundle, 'log'), 'run', '-d', '--bundle', bundle, id],
        join(bundle, 'log'),
      );
    },
    async update(resources) {
      const stdin = JSON.stringify(resources);
      await mustRun([...runc, 'update', '--resources', '-', id], { ...options, stdin });
    },
    async remove() {},
  };
}

/** The container keeps what it is given as output, so it is given nothing. */
async function runDetached(argv: readonly string[], log: string): Promise<void> {
  const script = '"$@" </dev/null >/dev/null 2>&1 || { cat "$0" >&2; exit 1; }';
  await mustRun(['sh', '-c', script, log, ...argv], { timeoutMs: TIMEOUT_MS });
}

/**
 * Once, before the first group: the root file system, on a file system where it can be a
 * container's.
 */
export function prepareGroups(): void {
  rmSync(WORK, { recursive: true, force: true });
  copyRootfs(join(WORK, 'rootfs'));
}

/** Undoes prepareGroups. */
export function cleanGroups(): void {
  rmSync(WORK, { recursive: true, force: true });
}

/** The directories of all groups of a driver, whoever made them. */
export function groupsLeft(driver: Driver): string[] {
  const parent = join(MOUNT_POINT, driver === 'fs' ? PARENT_PATH : PARENT_SLICE);
  if (!existsSync(parent)) return [];
  return readdirSync(parent, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(parent, entry.name));
}

/** Kills what is in a group, and waits until nothing is; systemd removes an empty scope itself. */
async function empty(dir: string): Promise<void> {
  const events = join(dir, 'cgroup.events');
  if (existsSync(dir)) writeFileSync(join(dir, 'cgroup.kill'), '1');
  await until(`${dir} is empty`, () => !existsSync(events) || /^populated 0$/m.test(readFileSync(events, 'utf8')));
}

/**
 * After the last group of a driver: ends the containers and removes their groups, with the parents.
 */
export async function removeParents(): Promise<void> {
  await empty(join(MOUNT_POINT, PARENT_SLICE));
  await runCommand(['systemctl', 'stop', PARENT_SLICE], { timeoutMs: TIMEOUT_MS });
  await empty(join(MOUNT_POINT, PARENT_PATH));
  for (const dir of groupsLeft('fs')) rmdirSync(dir);
  if (existsSync(join(MOUNT_POINT, PARENT_PATH))) rmdirSync(join(MOUNT_POINT, PARENT_PATH));
  rmSync(join(WORK, 'state'), { recursive: true, force: true });
}
