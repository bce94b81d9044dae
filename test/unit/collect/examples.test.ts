/** The JavaScript in docs/gc.md runs, and prints what it says. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { REPO } from '../../lib/repo.js';

const TEXT = readFileSync(join(REPO, 'docs/gc.md'), 'utf8');
const EXAMPLES = TEXT.split(/^#+ /m).flatMap((section) =>
  [...section.matchAll(/```js\n(.*?)```/gs)].map(([, code = '']) => ({ heading: section.split('\n')[0] ?? '', code })),
);

describe('the examples of docs/gc.md', () => {
  assert.ok(EXAMPLES.length >= 3);
  for (const { heading, code } of EXAMPLES) {
    test(`under "${heading}" print what they say`, () => {
      const folder = mkdtempSync(join(tmpdir(), 'lamina-example-'));
      try {
        // Imports of lamina/gc resolve from the repository, as in a package that has it installed.
        const own = code.replaceAll('/tmp/lamina-example-', join(folder, 'root-'));
        const run = spawnSync(process.execPath, ['--input-type=module', '-e', own], { cwd: REPO, encoding: 'utf8' });
        const expected = [...code.matchAll(/\/\/ prints (.*)$/gm)].map(([, text]) => `${text}\n`).join('');
        assert.deepEqual(
          { status: run.status, stdout: run.stdout, stderr: run.stderr },
          { status: 0, stdout: expected, stderr: '' },
        );
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    });
  }
});
