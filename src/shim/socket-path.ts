import { readFileSync, readlinkSync } from 'node:fs';
import { Code, LaminaError } from '../base/index.js';

/**
 * The path a unix socket is bound to, from /proc/PID/net/unix.
 * @param pid whose descriptor it is; default: ours
 * @throws LaminaError NotFound when it has none; errno when there is no such process
 */
export function socketPath(fd: number, pid: number | 'self' = 'self'): string {
  const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
  for (const line of readFileSync(`/proc/${pid}/net/unix`, 'utf8').split('\n')) {
    const [, , , , , , lineInode, path] = line.trim().split(/\s+/);
    if (inode !== undefined && lineInode === inode && path !== undefined) return path;
  }
  throw new LaminaError(Code.NotFound, `descriptor ${fd} is not a socket with a path`, { subject: String(fd) });
}
