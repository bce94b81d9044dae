import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { REPO } from '../../lib/repo.js';
import { newRoot } from './kit.js';

/** The JavaScript blocks of docs/store.md, each with the heading it is under. */
function findExamples(): { heading: string; code: string }[] {
  const sections = readFileSync(join(REPO, 'docs/store.md'), 'utf8').split(/^#+ /m);
  return sections.flatMap((section) =>
    [...section.matchAll(/```js\n(.*?)```/gs)].map(([, code = '']) => ({
      heading: section.split('\n')[0] ?? '',
      code,
    })),
  );
}

describe('the examples of docs/store.md', () => {
  for (const { heading, code } of findExamples()) {
    test(`under "${heading}" print what they say`, (t) => {
      const env = { ...process.env, LAMINA_ROOT: newRoot(t) };
      const expected = [...code.matchAll(/console\.log\(.*\/\/ prints (.*)$/gm)]
        .map(([, text]) => `${text}\n`)
        .join('');
      // As a user of the package would have it: the name resolves from the repository.
      const args = ['--input-type=module', '-e', code];
      const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: REPO, env, encoding: 'utf8' });
      assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: expected, stderr: '' });
    });
  }
});
