import { type Any, cgroupsV1, cgroupsV2, packMessage } from '../api/index.js';
import type { CgroupStats } from '../cgroups/index.js';

/**
 * A cgroup's statistics as Task.Stats answers them: an Any of io.containerd.cgroups.v2.Metrics, or
 * of v1.Metrics on a v1 host. What no cgroup file tells (network, v1's cgroup_stats) stays empty,
 * as with containerd's own shim.
 */
export function packMetrics(stats: CgroupStats): Any {
  return stats.version === 2
    ? packMessage(cgroupsV2.Metrics, { ...stats, network: [] })
    : packMessage(cgroupsV1.Metrics, { ...stats, network: [], cgroupStats: undefined });
}
