/**
 * Mounting a container's root filesystem from containerd's list of mounts, and unmounting it again.
 *
 * INVARIANTS: mountAll leaves either every mount of its list or none. A `target` never leads out of rootfs: it is resolved by the
 * kernel with rootfs as its root (openInRoot), and mounted on by descriptor.
 */
import { closeSync, readlinkSync, realpathSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Code, codeOf, isErrno, LaminaError, messageOf, UndoStack } from '../base/index.js';
import { mapLowerDirs } from './idmap.js';
import { binding } from './load-binding.js';
import {
  idMapLines,
  type MountOptions,
  MS_BIND,
  MS_BIND_ATTRIBUTES,
  MS_REC,
  MS_REMOUNT,
  parseMountOptions,
} from './mount-options.js';
import { shortenLowerDirs } from './overlay-options.js';
import { type MountInfo, readMountsBelow, readPageSize } from './procfs.js';

/** One mount as the daemon lists it. */
export interface MountSpec {
  readonly type: string;
  readonly source: string;
  /** Path inside rootfs; empty or absent is rootfs itself. */
  readonly target?: string;
  readonly options: readonly string[];
}

/** Runs a helper program (`mount.fuse3`, `mount.fuse`) and resolves once what it mounts is there. */
export type MountHelper = (program: string, args: readonly string[]) => Promise<void>;

export interface MountAllOptions {
  /** Looked at between mounts; aborting undoes those made. */
  readonly signal?: AbortSignal;
  /** For types `fuse.X` and `fuse3.X`; without it they are refused. */
  readonly helper?: MountHelper;
}

export interface UnmountOptions {
  readonly signal?: AbortSignal;
  /** How long a busy mount is tried again, in all. Default 2500 ms. */
  readonly busyTimeoutMs?: number;
}

/** Do not follow a symbolic link that has taken the mount point's place. */
const UMOUNT_NOFOLLOW = 8;
const BUSY_RETRY_MS = 50;
const BUSY_TIMEOUT_MS = 2500;
/** What the kernel and containerd keep free of the page that holds the options. */
const OPTIONS_RESERVE = 512;

/** Where something is mounted: usable in a system call, until it is closed. */
interface Target extends Disposable {
  readonly path: string;
}

/** The mount point now: before the mount the directory, after it what is mounted there. */
function openTarget(rootfs: string, target: string): Target {
  if (target === '') return { path: rootfs, [Symbol.dispose]: () => undefined };
  const fd = binding().openInRoot(rootfs, target);
  return { path: `/proc/self/fd/${fd}`, [Symbol.dispose]: () => closeSync(fd) };
}

/** The path by which to unmount: a descriptor would keep the mount busy. */
function plainPath(rootfs: string, target: string): string {
  if (target === '') return rootfs;
  using opened = openTarget(rootfs, target);
  return readlinkSync(opened.path);
}

function helperCall(mount: MountSpec, target: string): [program: string, args: string[]] | undefined {
  const match = /^(fuse3?)\.(.+)$/.exec(mount.type);
  const [, family, type] = match ?? [];
  if (family === undefined || type === undefined) return undefined;
  const options = mount.options.filter((option) => !option.startsWith('X-containerd.'));
  return [`mount.${family}`, [mount.source, target, ...options.flatMap((option) => ['-o', option]), '-t', type]];
}

async function mountData(
  cwd: string | undefined,
  source: string,
  target: string,
  type: string,
  flags: number,
  data: string,
) {
  const limit = readPageSize();
  // The kernel would cut them off without a word.
  if (Buffer.byteLength(data) >= limit) {
    throw new LaminaError(Code.InvalidArgument, `options of ${Buffer.byteLength(data)} bytes do not fit in a page`);
  }
  if (cwd === undefined) await binding().mount(source, target, type, flags, data);
  else await binding().mountAt(cwd, source, target, type, flags, data);
}

/** The first call: makes the mount, with all but what needs calls of its own. */
async function makeMount(mount: MountSpec, options: MountOptions, target: string): Promise<void> {
  let source = mount.source;
  let loopFd: number | undefined;
  if (options.loop) [source, loopFd] = await binding().loopAttach(source, (options.flags & 1) !== 0);
  try {
    const { cwd, data } = shortenLowerDirs(options.data, readPageSize() - OPTIONS_RESERVE);
    await mountData(cwd, source, target, mount.type, options.flags, data.join(','));
  } finally {
    // Once mounted, or not, nothing but the mount holds the device: it detaches by itself.
    if (loopFd !== undefined) closeSync(loopFd);
  }
}

async function openUserNamespace(options: MountOptions): Promise<number | undefined> {
  const { uidMap, gidMap } = options;
  if (uidMap === undefined && gidMap === undefined) return undefined;
  if (uidMap === undefined || gidMap === undefined) {
    throw new LaminaError(Code.InvalidArgument, 'uidmap= and gidmap= are given only together');
  }
  return binding().userNamespace(idMapLines('uidmap', uidMap), idMapLines('gidmap', gidMap));
}

/** Mounts one entry; every mount made is registered with undo at once. */
async function mountOne(
  mount: MountSpec,
  givenRootfs: string,
  undo: UndoStack,
  helper: MountHelper | undefined,
): Promise<void> {
  const rootfs = realpathSync(givenRootfs);
  const where = mount.target ?? '';
  const undoMount = (): void => {
    const path = plainPath(rootfs, where);
    undo.add(`mount on ${path}`, () => unmountOne(path, BUSY_TIMEOUT_MS, undefined));
  };
  using target = openTarget(rootfs, where);
  const call = helperCall(mount, plainPath(rootfs, where));
  if (call !== undefined) {
    if (helper === undefined) {
      throw new LaminaError(Code.Unimplemented, `type ${mount.type} needs the helper ${call[0]}`, {
        subject: mount.type,
      });
    }
    await helper(...call);
    undoMount();
    return;
  }

  const options = parseMountOptions(mount.options);
  const userNamespace = await openUserNamespace(options);
  try {
    if (userNamespace !== undefined && mount.type === 'overlay') {
      await using lowers = await mapLowerDirs(options.data, userNamespace);
      await makeMount(mount, { ...options, data: lowers.data }, target.path);
      undoMount();
    } else {
      await makeMount(mount, options, target.path);
      if ((options.flags & MS_REMOUNT) === 0) undoMount();
    }
    if (userNamespace !== undefined && mount.type !== 'overlay') {
      using mounted = openTarget(rootfs, where);
      await binding().idmapMount(mounted.path, mounted.path, userNamespace);
      undoMount();
    }
  } finally {
    if (userNamespace !== undefined) closeSync(userNamespace);
  }
  using mounted = openTarget(rootfs, where);
  const attributes = options.flags & MS_BIND_ATTRIBUTES;
  if ((options.flags & MS_BIND) !== 0 && attributes !== 0) {
    const flags = (options.flags & ~MS_REC) | MS_REMOUNT;
    await binding().mount('none', mounted.path, '', flags, '');
  }
  if (options.propagation !== 0) await binding().mount('none', mounted.path, '', options.propagation, '');
}

/** Why a step failed, for a message that names source and target already. */
function reason(error: unknown): string {
  if (!isErrno(error)) return messageOf(error);
  const text = error.message.replace(/^\w+: /, '').replace(/, \w+(?: '.*')?$/s, '');
  if (error.syscall === 'mount') return text;
  return error.path === undefined ? `${error.syscall}: ${text}` : `${error.syscall} ${error.path}: ${text}`;
}

/**
 * Mounts a list on rootfs, in order. Nested targets must exist (an earlier mount may bring them).
 * @throws LaminaError `failed to mount rootfs component: ...` with the errno's code; everything mounted has been unmounted then. What
 *   could not be is in `cause`, an AggregateError.
 */
export async function mountAll(
  mounts: readonly MountSpec[],
  rootfs: string,
  options: MountAllOptions = {},
): Promise<void> {
  const undo = new UndoStack();
  for (const mount of mounts) {
    try {
      if (options.signal?.aborted === true)
        throw new LaminaError(Code.Canceled, 'canceled', { cause: options.signal.reason });
      await mountOne(mount, rootfs, undo, options.helper);
    } catch (error) {
      const left: Error[] = [];
      await undo.run((message) => left.push(new Error(message)));
      const target =
        mount.target === undefined || mount.target === '' ? rootfs : `${rootfs}/${mount.target.replace(/^\/+/, '')}`;
      const text = `failed to mount rootfs component: mount ${mount.source} on ${target}: ${reason(error)}`;
      const cause = left.length === 0 ? error : new AggregateError([error, ...left], 'mounts were left behind');
      throw new LaminaError(codeOf(error), text, { subject: target, cause });
    }
  }
}

/** Unmounts one mount point; not being mounted is fine. */
async function unmountOne(path: string, busyTimeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
  const deadline = performance.now() + busyTimeoutMs;
  for (;;) {
    try {
      await binding().umount(path, UMOUNT_NOFOLLOW);
      return;
    } catch (error) {
      // EINVAL: no mount point. ENOENT: it was below one that has been unmounted since the list was read.
      if (isErrno(error, 'EINVAL', 'ENOENT')) return;
      if (!isErrno(error, 'EBUSY') || performance.now() + BUSY_RETRY_MS > deadline) throw error;
    }
    // Nothing tells when the last user of a mount goes.
    await delay(BUSY_RETRY_MS, undefined, signal === undefined ? {} : { signal });
  }
}

/**
 * Mount points at and below path in the order they can be unmounted: a mount after all that is mounted on it. The order comes from the
 * mounts' parents, because with mounts on top of each other a path alone does not tell which is reached by it.
 */
function mountsBelow(path: string): string[] {
  const found = readMountsBelow(path);
  const ids = new Set(found.map((info) => info.id));
  const order: string[] = [];
  const visit = (info: MountInfo): void => {
    // The latest first: it may hide the others.
    for (const child of found.filter((other) => other.parentId === info.id && other !== info).reverse()) visit(child);
    order.push(info.mountPoint);
  };
  for (const info of found.filter((candidate) => !ids.has(candidate.parentId)).reverse()) visit(info);
  return order;
}

/**
 * Unmounts everything at and below path, deepest first, several on top of each other included. An absent path, or one where
 * nothing is mounted, is fine. Nothing is detached lazily: what is busy for longer than the timeout fails.
 * @throws errno EBUSY, EPERM; AbortError when the signal ends the wait for a busy one
 */
export async function unmountRecursive(path: string, options: UnmountOptions = {}): Promise<void> {
  let real: string;
  try {
    real = realpathSync(path);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return;
    throw error;
  }
  for (const mountPoint of mountsBelow(real)) {
    await unmountOne(mountPoint, options.busyTimeoutMs ?? BUSY_TIMEOUT_MS, options.signal);
  }
}
