/** Places the shim's own processes into the cgroup a client asks for (option ShimCgroup). */
import { type Logger, messageOf } from '../base/index.js';
import { Cgroup, CgroupTreeError } from '../cgroups/index.js';

/**
 * Puts a process into the group `path`, counted from the root of the hierarchy, or of every v1
 * hierarchy. It is made if it is not there. A failure is logged: the container runs all the same.
 */
export async function joinShimCgroup(path: string, pid: number, log: Logger): Promise<void> {
  try {
    using cgroup = await createOrLoad(path.startsWith('/') ? path : `/${path}`);
    await cgroup.apply(pid);
  } catch (error) {
    log.warn({ pid, cgroup: path, error: messageOf(error) }, 'join the shim cgroup');
  }
}

/** A group that has processes already is another shim's, or the client's. */
async function createOrLoad(path: string): Promise<Cgroup> {
  try {
    return await Cgroup.create({ path });
  } catch (error) {
    if (error instanceof CgroupTreeError && error.situation === 'not-empty') return Cgroup.load(path);
    throw error;
  }
}
