import assert from 'node:assert/strict';
import { LaminaError } from '../../../src/base/index.js';
import type { CgroupTreeError } from '../../../src/cgroups/index.js';

/** What a refusal must say, for `assert.rejects`: the situation of the tree, and these texts. */
export function situation(
  name: CgroupTreeError['situation'],
  ...texts: (string | number)[]
): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof LaminaError, String(error));
    assert.equal((error as CgroupTreeError).situation, name, error.message);
    for (const text of texts) assert.ok(error.message.includes(String(text)), error.message);
    return true;
  };
}
