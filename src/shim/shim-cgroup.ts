/** Places the shim's own processes into the cgroup a client asks for (option ShimCgroup). */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, normalize } from 'node:path';
import { type Logger, messageOf } from '../base/index.js';

const ROOT = '/sys/fs/cgroup';

/**
 * Puts a process into `path` below the root of the cgroup file system: of the unified one, or of every v1 controller that is
 * mounted. A failure is logged: the container runs all the same, as with the stock shim on a host without that controller.
 */
export function joinShimCgroup(path: string, pid: number, log: Logger): void {
  const inside = normalize(`/${path}`);
  for (const root of hierarchies()) {
    const directory = join(root, inside);
    try {
      mkdirSync(directory, { recursive: true, mode: 0o755 });
      writeFileSync(join(directory, 'cgroup.procs'), String(pid));
    } catch (error) {
      log.warn({ pid, cgroup: directory, error: messageOf(error) }, 'join the shim cgroup');
    }
  }
}

function hierarchies(): string[] {
  if (existsSync(join(ROOT, 'cgroup.controllers'))) return [ROOT];
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => / - cgroup /.test(line))
    .map((line) => line.split(' ')[4] ?? '')
    .filter((mountPoint) => mountPoint !== '' && existsSync(join(mountPoint, 'cgroup.procs')));
}
