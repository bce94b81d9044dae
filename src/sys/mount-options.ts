/**
 * Mount options as containerd lists them, sorted into what mount(2) takes. Pure.
 *
 * @see mount(2), mount(8) "FILESYSTEM-INDEPENDENT MOUNT OPTIONS"
 */
import { Code, LaminaError } from '../base/index.js';

export const MS_RDONLY = 1;
export const MS_NOSUID = 2;
export const MS_NODEV = 4;
export const MS_NOEXEC = 8;
export const MS_SYNCHRONOUS = 16;
export const MS_REMOUNT = 32;
export const MS_MANDLOCK = 64;
export const MS_DIRSYNC = 128;
export const MS_NOSYMFOLLOW = 256;
export const MS_NOATIME = 1024;
export const MS_NODIRATIME = 2048;
export const MS_BIND = 4096;
export const MS_REC = 16384;
export const MS_UNBINDABLE = 1 << 17;
export const MS_PRIVATE = 1 << 18;
export const MS_SLAVE = 1 << 19;
export const MS_SHARED = 1 << 20;
export const MS_RELATIME = 1 << 21;
export const MS_STRICTATIME = 1 << 24;

/** What a bind mount takes only from a second call, with MS_REMOUNT. */
export const MS_BIND_ATTRIBUTES =
  MS_RDONLY |
  MS_NOSUID |
  MS_NODEV |
  MS_NOEXEC |
  MS_NOSYMFOLLOW |
  MS_NOATIME |
  MS_NODIRATIME |
  MS_RELATIME |
  MS_STRICTATIME;

const SET: ReadonlyMap<string, number> = new Map([
  ['bind', MS_BIND],
  ['dirsync', MS_DIRSYNC],
  ['mand', MS_MANDLOCK],
  ['noatime', MS_NOATIME],
  ['nodev', MS_NODEV],
  ['nodiratime', MS_NODIRATIME],
  ['noexec', MS_NOEXEC],
  ['nosuid', MS_NOSUID],
  ['nosymfollow', MS_NOSYMFOLLOW],
  ['rbind', MS_BIND | MS_REC],
  ['relatime', MS_RELATIME],
  ['remount', MS_REMOUNT],
  ['ro', MS_RDONLY],
  ['strictatime', MS_STRICTATIME],
  ['sync', MS_SYNCHRONOUS],
]);

const CLEAR: ReadonlyMap<string, number> = new Map([
  ['async', MS_SYNCHRONOUS],
  ['atime', MS_NOATIME],
  ['defaults', 0],
  ['dev', MS_NODEV],
  ['diratime', MS_NODIRATIME],
  ['exec', MS_NOEXEC],
  ['nomand', MS_MANDLOCK],
  ['norelatime', MS_RELATIME],
  ['nostrictatime', MS_STRICTATIME],
  ['rw', MS_RDONLY],
  ['suid', MS_NOSUID],
  ['symfollow', MS_NOSYMFOLLOW],
]);

const PROPAGATION: ReadonlyMap<string, number> = new Map([
  ['private', MS_PRIVATE],
  ['rprivate', MS_PRIVATE | MS_REC],
  ['rshared', MS_SHARED | MS_REC],
  ['rslave', MS_SLAVE | MS_REC],
  ['runbindable', MS_UNBINDABLE | MS_REC],
  ['shared', MS_SHARED],
  ['slave', MS_SLAVE],
  ['unbindable', MS_UNBINDABLE],
]);

export interface MountOptions {
  /** MS_* without propagation. */
  readonly flags: number;
  /** MS_SHARED, MS_PRIVATE, ... and MS_REC, for a call of their own; 0 when none is asked for. */
  readonly propagation: number;
  /** The filesystem's own options, in order. */
  readonly data: readonly string[];
  /** The source is a file that needs a loop device. */
  readonly loop: boolean;
  /** `inside:outside:size`, several separated by commas, as given in `uidmap=`. */
  readonly uidMap: string | undefined;
  readonly gidMap: string | undefined;
}

/**
 * Sorts options. `X-containerd.*` ones are for containerd's own mount manager and are dropped;
 * unknown ones are the filesystem's.
 */
export function parseMountOptions(options: readonly string[]): MountOptions {
  let flags = 0;
  let propagation = 0;
  let loop = false;
  let uidMap: string | undefined;
  let gidMap: string | undefined;
  const data: string[] = [];
  for (const option of options) {
    const propagated = PROPAGATION.get(option);
    if (SET.has(option)) flags |= SET.get(option) ?? 0;
    else if (CLEAR.has(option)) flags &= ~(CLEAR.get(option) ?? 0);
    else if (propagated !== undefined) propagation = propagated;
    else if (option === 'loop') loop = true;
    else if (option.startsWith('uidmap=')) uidMap = option.slice('uidmap='.length);
    else if (option.startsWith('gidmap=')) gidMap = option.slice('gidmap='.length);
    else if (option !== '' && !option.startsWith('X-containerd.')) data.push(option);
  }
  return { flags, propagation, data, loop, uidMap, gidMap };
}

/**
 * Turns `inside:outside:size[,...]` into the lines of /proc/PID/uid_map.
 * @throws LaminaError InvalidArgument naming the option
 */
export function idMapLines(option: string, map: string): string {
  return map
    .split(',')
    .map((entry) => {
      const numbers = entry.split(':');
      if (numbers.length !== 3 || numbers.some((number) => !/^\d{1,10}$/.test(number))) {
        throw new LaminaError(Code.InvalidArgument, `parse mount option ${option}=${map}: want inside:outside:size`, {
          subject: option,
        });
      }
      return `${numbers.join(' ')}\n`;
    })
    .join('');
}
