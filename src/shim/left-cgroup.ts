/** The cgroup of a container that its runtime knows nothing of. */
import { normalize } from 'node:path';
import { Code, codeOf, pathFromBytes } from '../base/index.js';
import { Cgroup, type CgroupLayout, currentLayout, parseSystemdPath, unitPath } from '../cgroups/index.js';
import { readSpec } from '../oci/index.js';

/** How long what was in it may take to go. */
const LEFT_MS = 2_000;

/**
 * Removes the cgroup that a runtime had made and not come to note: killed in between, it leaves one
 * that its own `delete` does not know of. What was in it ends by itself, as its parent is gone.
 * @throws {LaminaError} FailedPrecondition when processes are in it
 */
export async function removeLeftCgroup(bundle: string, isSystemd: boolean): Promise<void> {
  const configured = readSpec(bundle).linux?.cgroupsPath;
  if (configured === undefined) return;
  // As the runtime reads it: what is no text in the JSON is no byte of a path.
  const text = pathFromBytes(Buffer.from(configured, 'utf8'));
  const path = isSystemd ? unitPath(parseSystemdPath(text)) : text;
  // A relative one begins where the runtime was; the root is nobody's.
  if (!path.startsWith('/') || normalize(path) === '/') return;
  const layout = currentLayout();
  await removeGroup(path, layout);
  // On such hosts runc makes one there as well.
  if (layout.mode === 'hybrid') await removeGroup(path, { mode: 'unified', unified: layout.unified });
}

async function removeGroup(path: string, layout: CgroupLayout): Promise<void> {
  try {
    using cgroup = Cgroup.load(path, { layout });
    await cgroup.destroy({ timeoutMs: LEFT_MS });
  } catch (error) {
    if (codeOf(error) !== Code.NotFound) throw error;
  }
}
