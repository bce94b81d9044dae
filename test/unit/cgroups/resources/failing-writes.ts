/** What holds for v1 and v2 when a write is refused. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { CgroupFileError } from '../../../../src/cgroups/index.js';
import { type Applied, ResourceError } from '../../../../src/cgroups/resources/index.js';
import type { LinuxResources } from '../../../../src/oci/index.js';
import { resources } from './arbitrary.js';
import type { FakeGroup } from './fake-group.js';

export type SetLimits = (group: FakeGroup, update: LinuxResources, saved: LinuxResources) => Promise<Applied>;

/** Sets; undefined if it is refused in one of the ways that are promised. */
export async function attempt(
  set: SetLimits,
  group: FakeGroup,
  saved: LinuxResources,
  update: LinuxResources,
): Promise<Applied | undefined> {
  try {
    return await set(group, update, saved);
  } catch (error) {
    if (error instanceof CgroupFileError || error instanceof ResourceError) return undefined;
    throw error;
  }
}

/**
 * After any limits, and others laid over them with any one write refused, undoing what was done
 * leaves every file as it was.
 */
export async function assertFilesStay(
  set: SetLimits,
  fresh: () => FakeGroup,
  failures: readonly string[],
): Promise<void> {
  await fc.assert(
    fc.asyncProperty(resources, resources, fc.nat(), fc.constantFrom(...failures), async (first, update, at, code) => {
      const group = fresh();
      const saved = (await attempt(set, group, {}, first))?.resources ?? {};
      const before = group.sorted();
      const rehearsal = group.clone();
      // Only what succeeds without it has all its writes before the first that puts something back.
      if ((await attempt(set, rehearsal, saved, update)) !== undefined)
        group.refuseNth(at % (rehearsal.log.length + 1), code);
      const applied = await attempt(set, group, saved, update);
      group.refuse = () => undefined;
      await applied?.undo();
      assert.deepEqual(group.sorted(), before);
    }),
    { numRuns: 500 },
  );
}
