/**
 * Mounting a container's root filesystem from containerd's list of mounts, and unmounting it again.
 * What is to be done is found out here; the worker does it, as both may wait for a disk: an
 * overlay's last unmount writes what is unwritten of its upper filesystem.
 *
 * INVARIANTS: mountAll leaves either every mount of its list or none. A `target` never leads out of
 * rootfs.
 */
import { tmpdir } from 'node:os';
import { Code, codeOf, isErrno, LaminaError, messageOf } from '../base/index.js';
import { idMapLines, MS_BIND_ATTRIBUTES, parseMountOptions } from './mount-options.js';
import { lowerDirsOf, shortenLowerDirs, withLowerDirs } from './overlay-options.js';
import { readPageSize } from './procfs.js';
import { type RunWork, WorkError } from './work.js';

/** One mount as the daemon lists it. */
export interface MountSpec {
  readonly type: string;
  readonly source: string;
  /** Path inside rootfs; empty or absent is rootfs itself. */
  readonly target?: string;
  readonly options: readonly string[];
}

export interface MountAllOptions {
  readonly work: RunWork;
  /** What a helper (`mount.fuse`) may take; absent: as long as it likes. */
  readonly helperTimeoutMs?: number;
}

export interface UnmountOptions {
  readonly work: RunWork;
  /** How long a busy mount is tried again. Default 2500 ms. */
  readonly busyTimeoutMs?: number;
}

const BUSY_TIMEOUT_MS = 2500;
/** What the kernel and containerd keep free of the page that holds the options. */
const OPTIONS_RESERVE = 512;

/** The words of a mount that a helper program makes; undefined where none is needed. */
function helperWords(mount: MountSpec, timeoutMs: number): string[] | undefined {
  const match = /^(fuse3?)\.(.+)$/.exec(mount.type);
  const [, family, type] = match ?? [];
  if (family === undefined || type === undefined) return undefined;
  const options = mount.options.filter((option) => !option.startsWith('X-containerd.'));
  const args = [...options.flatMap((option) => ['-o', option]), '-t', type];
  return [
    'helper',
    String(timeoutMs),
    `mount.${family}`,
    mount.source,
    mount.target ?? '',
    String(args.length),
    ...args,
  ];
}

interface Mapping {
  readonly uidMap: string;
  readonly gidMap: string;
  /**
   * Layers that are to be mapped before the overlay is mounted over them, in the order of its
   * options.
   */
  readonly lowers: readonly string[];
  /** Where the temporary mounts are made, to which the options are relative. */
  readonly cwd: string;
  readonly data: readonly string[];
}

function mappingOf(type: string, options: ReturnType<typeof parseMountOptions>): Mapping | undefined {
  const { uidMap, gidMap, data } = options;
  if (uidMap === undefined && gidMap === undefined) return undefined;
  if (uidMap === undefined || gidMap === undefined) {
    throw new LaminaError(Code.InvalidArgument, 'uidmap= and gidmap= are given only together');
  }
  const maps = { uidMap: idMapLines('uidmap', uidMap), gidMap: idMapLines('gidmap', gidMap) };
  if (type !== 'overlay') return { ...maps, lowers: [], cwd: '', data };
  const lowers = lowerDirsOf(data).map((lower) => lower.replace(/\\(.)/g, '$1'));
  if (lowers.length === 0) throw new LaminaError(Code.InvalidArgument, 'uidmap= and gidmap= need lowerdir=');
  // Their places are called by their numbers.
  const short = withLowerDirs(
    data,
    lowers.map((_, index) => String(index)),
  );
  return { ...maps, lowers, cwd: tmpdir(), data: short };
}

function mountWords(mount: MountSpec): string[] {
  const options = parseMountOptions(mount.options);
  const mapping = mappingOf(mount.type, options);
  const limit = readPageSize();
  const short = mapping === undefined ? shortenLowerDirs(options.data, limit - OPTIONS_RESERVE) : mapping;
  const data = short.data.join(',');
  // The kernel would cut them off without a word.
  if (Buffer.byteLength(data) >= limit) {
    throw new LaminaError(Code.InvalidArgument, `options of ${Buffer.byteLength(data)} bytes do not fit in a page`);
  }
  const numbers = [options.flags, options.flags & MS_BIND_ATTRIBUTES, options.propagation, options.loop ? 1 : 0];
  return [
    ...['mount', mount.type, mount.source, mount.target ?? '', ...numbers.map(String), short.cwd ?? '', data],
    ...[mapping?.uidMap ?? '', mapping?.gidMap ?? '', String(mapping?.lowers.length ?? 0), ...(mapping?.lowers ?? [])],
  ];
}

/** Why a step failed, for a message that names source and target already. */
function reason(error: unknown): string {
  if (!isErrno(error)) return messageOf(error);
  if (error.syscall === 'helper') return error.path ?? '';
  const text = error.message.replace(/^\w+: /, '').replace(/, \w+(?: '.*')?$/s, '');
  if (error.syscall === 'mount') return text;
  return error.path === undefined ? `${error.syscall}: ${text}` : `${error.syscall} ${error.path}: ${text}`;
}

function mountError(error: unknown, mount: MountSpec | undefined, rootfs: string): unknown {
  if (mount === undefined) return error;
  const inside = mount.target ?? '';
  const target = inside === '' ? rootfs : `${rootfs}/${inside.replace(/^\/+/, '')}`;
  const text = `failed to mount rootfs component: mount ${mount.source} on ${target}: ${reason(error)}`;
  const left = error instanceof WorkError ? error.left.map((line) => new Error(line)) : [];
  const cause = left.length === 0 ? error : new AggregateError([error, ...left], 'mounts were left behind');
  return new LaminaError(codeOf(error), text, { subject: target, cause });
}

/**
 * Mounts a list on rootfs, in order. Nested targets must exist (an earlier mount may bring them).
 * @throws LaminaError `failed to mount rootfs component: ...` with the errno's code; everything
 *   mounted has been unmounted then. What could not be is in `cause`, an AggregateError.
 */
export async function mountAll(mounts: readonly MountSpec[], rootfs: string, options: MountAllOptions): Promise<void> {
  const words = mounts.map((mount) => {
    try {
      return helperWords(mount, options.helperTimeoutMs ?? 0) ?? mountWords(mount);
    } catch (error) {
      throw mountError(error, mount, rootfs);
    }
  });
  try {
    await options.work({ what: 'mount', args: ['mount', rootfs, ...words.flat()] });
  } catch (error) {
    throw error instanceof WorkError ? mountError(error, mounts[error.index], rootfs) : error;
  }
}

/**
 * Unmounts everything at and below path, deepest first, several on top of each other included. An
 * absent path, or one where nothing is mounted, is fine. Nothing is detached lazily: what is busy
 * for longer than the timeout fails.
 * @throws {WorkError} EBUSY, EPERM
 */
export async function unmountRecursive(path: string, options: UnmountOptions): Promise<void> {
  await options.work({ what: 'unmount', args: ['unmount', path, String(options.busyTimeoutMs ?? BUSY_TIMEOUT_MS)] });
}
