/**
 * Finds what a test left behind: processes, mounts, cgroups, systemd units, sockets, FIFOs, runc
 * state, bundles, files.
 *
 * Other programs work on the machine at the same time, so a thing counts as ours if it carries the
 * marker of the daemon under test (containerd.ts): in its path, command line, environment, cgroup,
 * working directory. Where the machine is ours alone (LAMINA_TEST_ALONE=1, the VM), anything new in
 * the shared places counts as well.
 *
 * Not counted: the namespace's own empty folders in /run/containerd/runc and in the cgroup
 * hierarchies, which runc makes and never removes (they are removed here), and the lock and log
 * files of Lamina's state directory.
 */

import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Containerd } from './containerd.js';
import { listProcesses, type ProcessInfo, readProcFile, readProcLink, sendSignal } from './proc.js';
import { ALONE } from './repo.js';
import { LATE_MS, until } from './wait.js';

/** Things by a name that says what they are. */
type Found = ReadonlySet<string>;

const RUNC_ROOT = '/run/containerd/runc';
const SOCKET_DIR = '/run/containerd/s';
const FIFO_DIR = '/run/containerd/fifo';
const CGROUP_ROOT = '/sys/fs/cgroup';
/** Killed processes need a moment to go, and some start others while they are being killed. */
const SWEEP_ROUNDS = 50;
const OUR_PROGRAMS = /containerd-shim|lamina|(^|\/)runc( |$)|(^|\/)crun( |$)/;

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // not there, or removed meanwhile
  }
}

/** Every folder below `root` whose path contains `text`; does not follow links. */
function foldersWith(root: string, text: string, depth = 8): string[] {
  if (depth === 0) return [];
  let entries: { name: string; isDirectory(): boolean }[];
  try {
    entries = readdirSync(root, { withFileTypes: true });
  } catch {
    return [];
  }
  return entries
    .filter((entry) => entry.isDirectory())
    .flatMap((entry) => {
      const path = join(root, entry.name);
      return [...foldersWith(path, text, depth - 1), ...(path.includes(text) ? [path] : [])];
    });
}

function isOurs(info: ProcessInfo, marker: string): boolean {
  if (info.pid === process.pid) return false;
  const texts = [
    info.commandLine,
    readProcFile(info.pid, 'environ'),
    readProcFile(info.pid, 'cgroup'),
    readProcLink(info.pid, 'cwd'),
  ];
  return texts.some((text) => text.includes(marker));
}

export function ourProcesses(marker: string): ProcessInfo[] {
  return listProcesses().filter((info) => isOurs(info, marker) || (ALONE && OUR_PROGRAMS.test(info.commandLine)));
}

function mountsWith(marker: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((target) => target.includes(marker) || (ALONE && target.startsWith('/run/containerd/')));
}

function unitsWith(marker: string): string[] {
  if (!existsSync('/run/systemd/system')) return [];
  const args = ['list-units', '--all', '--plain', '--no-legend', '--type=scope,slice'];
  const units = execFileSync('systemctl', args, { encoding: 'utf8' });
  return units
    .split('\n')
    .map((line) => line.trim().split(/\s+/)[0] ?? '')
    .filter((unit) => unit.includes(marker) || unit.includes(marker.replaceAll('-', '\\x2d')));
}

/** Removes the empty folders runc leaves per namespace. */
function tidyNamespaces(daemon: Containerd): void {
  for (const namespace of daemon.namespaces) {
    const groups = foldersWith(CGROUP_ROOT, `/${namespace}`).filter((path) => path.endsWith(`/${namespace}`));
    for (const folder of [join(RUNC_ROOT, namespace), ...groups]) {
      try {
        rmdirSync(folder);
      } catch {
        // Not empty: what is inside is found and named below. Not there: nothing to do.
      }
    }
  }
}

function findAll(daemon: Containerd): Found {
  const { marker, dir } = daemon;
  const inDir = (folder: string): string[] => list(join(dir, folder)).map((name) => join(dir, folder, name));
  const bundles = ['state/io.containerd.runtime.v2.task', 'root/io.containerd.runtime.v2.task'];
  const unixSockets = readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .map((line) => line.split(' ').slice(7).join(' '));
  const things: [string, string[]][] = [
    [
      'process',
      ourProcesses(marker).map(
        (p) => `${p.pid} (parent ${p.ppid}, ${p.state}) ${p.commandLine || `[${p.name}]`} started ${p.startTime}`,
      ),
    ],
    ['mount', mountsWith(marker)],
    ['cgroup', foldersWith(CGROUP_ROOT, marker)],
    ['systemd unit', unitsWith(marker)],
    ['socket file', daemon.socketPaths.filter((path) => existsSync(path))],
    ['listening socket', unixSockets.filter((path) => path.includes(marker) || daemon.socketPaths.includes(path))],
    ['runc state', list(RUNC_ROOT).filter((name) => name.includes(marker))],
    ['bundle', bundles.flatMap((folder) => list(join(dir, folder)).flatMap((name) => inDir(join(folder, name))))],
    ['FIFO', inDir('fifo')],
    ['FIFO', list(FIFO_DIR).filter((name) => list(join(FIFO_DIR, name)).some((file) => file.includes(marker)))],
    ['temporary file', inDir('tmp')],
    ['state file', inDir('lamina').filter((path) => !/\.(lock|log)$/.test(path))],
  ];
  if (ALONE) {
    things.push(['socket file', list(SOCKET_DIR)], ['FIFO', list(FIFO_DIR)], ['runc state', list(RUNC_ROOT)]);
  }
  return new Set(things.flatMap(([kind, names]) => names.map((name) => `${kind}: ${name}`)));
}

/**
 * What was there before a test (where that matters, see above), to tell what the test has added.
 */
export class Leaks {
  readonly #daemon: Containerd;
  readonly #before: Found;

  /** Takes the snapshot. The daemon may run or not; it must not run at `check`. */
  constructor(daemon: Containerd) {
    this.#daemon = daemon;
    // Whatever carries the marker is new by its nature, and the daemon itself runs at this moment.
    this.#before = ALONE ? findAll(daemon) : new Set();
  }

  /** What is there now and was not before, by name. */
  find(): string[] {
    tidyNamespaces(this.#daemon);
    return [...findAll(this.#daemon)].filter((name) => !this.#before.has(name));
  }

  /**
   * Waits until nothing is left, or throws and names everything that is.
   * @param graceMs for what ends by itself: idle engines, processes on their way out; default
   *   `LATE_MS`
   */
  async check(graceMs = LATE_MS): Promise<void> {
    let left: string[] = [];
    try {
      await until(
        'nothing is left',
        () => {
          left = this.find();
          return left.length === 0;
        },
        { deadlineMs: graceMs },
      );
    } catch {
      throw new Error(`left behind:\n  ${left.join('\n  ')}`);
    }
  }

  /**
   * Removes what a failed or interrupted test left, so that the machine stays usable: processes,
   * mounts, cgroups, runc state, sockets. Synchronous, because a process that is told to end must
   * do it at once.
   */
  sweep(): void {
    const { marker, dir } = this.#daemon;
    for (let round = 0; round < SWEEP_ROUNDS; round += 1) {
      const ours = listProcesses().filter((info) => isOurs(info, marker));
      for (const info of ours) {
        sendSignal(info.pid, 'SIGKILL');
      }
      if (ours.length === 0) break;
    }
    for (const target of mountsWith(dir).reverse()) execFileSync('umount', ['-l', target]);
    for (const folder of foldersWith(CGROUP_ROOT, marker)) {
      try {
        rmdirSync(folder);
      } catch {
        // still in use: its processes have not been reaped yet
      }
    }
    const states = list(RUNC_ROOT).filter((name) => name.includes(marker));
    for (const path of [...states.map((name) => join(RUNC_ROOT, name)), ...this.#daemon.socketPaths]) {
      rmSync(path, { recursive: true, force: true });
    }
  }
}
