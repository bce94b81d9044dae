import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, it } from 'node:test';
import { Cgroup } from '../../../src/cgroups/index.js';
import { REPO } from '../../lib/repo.js';
import { requires } from '../../lib/requires.js';
import { LATE_MS } from '../../lib/wait.js';

const skip = requires({ root: true, cgroup: 'v2', systemd: true });

/** The JavaScript blocks of docs/cgroups.md, each with the heading it is under. */
function findExamples(): { heading: string; code: string }[] {
  const sections = readFileSync(join(REPO, 'docs/cgroups.md'), 'utf8').split(/^#+ /m);
  return sections.flatMap((section) =>
    [...section.matchAll(/```js\n(.*?)```/gs)].map(([, code = '']) => ({
      heading: section.split('\n')[0] ?? '',
      code,
    })),
  );
}

/**
 * Runs a module as a user of the package would have it: imports of 'lamina/cgroups' resolve from
 * the repository.
 */
async function run(code: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], { cwd: REPO, timeout: LATE_MS });
  const output = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].on('data', (chunk: Buffer) => {
      output[stream] += chunk.toString();
    });
  }
  const exit = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code: exit, ...output };
}

describe('the examples of docs/cgroups.md', { skip }, () => {
  afterEach(async () => {
    // An example that failed half way.
    if (!existsSync('/sys/fs/cgroup/jobs')) return;
    const jobs = Cgroup.load('/jobs');
    await jobs.kill();
    await jobs.destroy();
  });

  for (const { heading, code } of findExamples()) {
    it(`under "${heading}" print what they say`, async () => {
      const expected = [...code.matchAll(/console\.log\(.*\/\/ prints (.*)$/gm)]
        .map(([, text]) => `${text}\n`)
        .join('');
      assert.deepEqual(await run(code), { code: 0, stdout: expected, stderr: '' });
    });
  }
});
