/** Places the shim's own processes into the cgroup a client asks for (option ShimCgroup). */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, normalize } from 'node:path';
import { type Logger, messageOf } from '../base/index.js';
import { currentLayout } from '../cgroups/index.js';

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

/** Mount points: of the unified hierarchy, or of all v1 controllers, each once however many share it. */
function hierarchies(): Set<string> {
  const layout = currentLayout();
  if (layout.mode === 'unified') return new Set([layout.unified.mountPoint]);
  return new Set([...layout.controllers.values()].map(({ mountPoint }) => mountPoint));
}
