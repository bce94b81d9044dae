/**
 * Which cgroup hierarchies this machine has and where they are mounted.
 *
 * The filesystem magic of /sys/fs/cgroup decides: cgroup2 means unified. Else the v1 controllers
 * are where /proc/self/mountinfo says, and a cgroup2 beside them (systemd's "unified", without
 * controllers) makes the mode hybrid.
 */
import { readFileSync, statfsSync } from 'node:fs';
import { Code, fsPath, isErrno, LaminaError, pathFromBytes, unescapeOctal } from '../base/index.js';

export type CgroupMode = 'unified' | 'hybrid' | 'legacy';

/** A mounted hierarchy. */
export interface CgroupMount {
  readonly mountPoint: string;
  /**
   * The cgroup that is seen at the mount point; not "/" in a container without a cgroup namespace.
   */
  readonly root: string;
}

export type CgroupLayout =
  | { readonly mode: 'unified'; readonly unified: CgroupMount }
  | {
      readonly mode: 'hybrid';
      readonly unified: CgroupMount;
      /**
       * Controller ("memory", "name=systemd") → where; controllers mounted together share a mount.
       */
      readonly controllers: ReadonlyMap<string, CgroupMount>;
    }
  | { readonly mode: 'legacy'; readonly controllers: ReadonlyMap<string, CgroupMount> };

export interface DetectOptions {
  /** Default /sys/fs/cgroup. */
  readonly root?: string;
  /** Default: the content of /proc/self/mountinfo. */
  readonly mountInfo?: string;
}

const CGROUP2_SUPER_MAGIC = 0x63677270;
/** Mount options of a v1 hierarchy that name no controller. */
const OTHER_OPTIONS = new Set(['ro', 'rw', 'xattr', 'noprefix', 'clone_children', 'none', 'all', 'favordynmods']);

function isCgroup2(path: string): boolean {
  try {
    return statfsSync(fsPath(path)).type === CGROUP2_SUPER_MAGIC;
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return false;
    throw error;
  }
}

export interface CgroupMounts {
  readonly unified: readonly CgroupMount[];
  readonly controllers: ReadonlyMap<string, CgroupMount>;
}

/**
 * Finds the cgroup mounts in the text of a mountinfo file (proc_pid_mountinfo(5)). Where a
 * controller is mounted more than once, the mount below `preferred` wins, then the first.
 */
export function parseCgroupMounts(mountInfo: string, preferred = '/sys/fs/cgroup'): CgroupMounts {
  const unified: CgroupMount[] = [];
  const controllers = new Map<string, CgroupMount>();
  for (const line of mountInfo.split('\n')) {
    const [head = '', tail] = line.split(' - ', 2);
    const [, , , root, mountPoint] = head.split(' ');
    const [type, , options = ''] = tail?.split(' ') ?? [];
    if (root === undefined || mountPoint === undefined) continue;
    const mount = { mountPoint: unescapeOctal(mountPoint), root: unescapeOctal(root) };
    if (type === 'cgroup2') unified.push(mount);
    if (type !== 'cgroup') continue;
    for (const name of options.split(',')) {
      if (name === '' || OTHER_OPTIONS.has(name) || (name.includes('=') && !name.startsWith('name='))) continue;
      const known = controllers.get(name)?.mountPoint;
      if (known === undefined || (!isBelow(known, preferred) && isBelow(mount.mountPoint, preferred))) {
        controllers.set(name, mount);
      }
    }
  }
  return { unified, controllers };
}

function isBelow(path: string, parent: string): boolean {
  return path === parent || path.startsWith(`${parent}/`);
}

/**
 * Looks at the machine.
 * @throws {LaminaError} FailedPrecondition if no cgroup hierarchy is mounted
 */
export function detectCgroups(options: DetectOptions = {}): CgroupLayout {
  const { root = '/sys/fs/cgroup', mountInfo = pathFromBytes(readFileSync('/proc/self/mountinfo')) } = options;
  const { unified, controllers } = parseCgroupMounts(mountInfo, root);
  if (isCgroup2(root)) {
    return {
      mode: 'unified',
      unified: unified.find((mount) => mount.mountPoint === root) ?? { mountPoint: root, root: '/' },
    };
  }
  if (controllers.size === 0) {
    throw new LaminaError(Code.FailedPrecondition, `no cgroup hierarchy is mounted at ${root}`, { subject: root });
  }
  const beside = unified.find((mount) => isBelow(mount.mountPoint, root)) ?? unified[0];
  return beside === undefined ? { mode: 'legacy', controllers } : { mode: 'hybrid', unified: beside, controllers };
}

let detected: CgroupLayout | undefined;

/**
 * This machine's layout, looked up once: mounts of cgroup hierarchies do not move under a running
 * node.
 */
export function currentLayout(): CgroupLayout {
  detected ??= detectCgroups();
  return detected;
}
