/** The examples of docs/registry.md, run as they stand. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Registry } from '../../../src/registry/index.js';
import { DebianRegistry } from '../../lib/registry/debian.js';
import { makeImage, pushImage, randomLayer } from '../../lib/registry/image.js';
import { REPO } from '../../lib/repo.js';
import { requires } from '../../lib/requires.js';
import { LATE_MS } from '../../lib/wait.js';

const skip = requires({ programs: ['docker-registry'] });

function findExamples(): { heading: string; code: string }[] {
  const sections = readFileSync(join(REPO, 'docs/registry.md'), 'utf8').split(/^#+ /m);
  return sections.flatMap((section) =>
    [...section.matchAll(/```js\n(.*?)```/gs)].map(([, code = '']) => ({
      heading: section.split('\n')[0] ?? '',
      code,
    })),
  );
}

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

describe('the examples of docs/registry.md', { skip }, () => {
  let server: DebianRegistry;

  before(async () => {
    server = await DebianRegistry.start();
    using registry = new Registry();
    await pushImage(registry, `${server.host}/demo/hello`, makeImage([randomLayer(5000)]), '1');
  });
  after(async () => await server.stop());

  const examples = findExamples();
  assert.ok(examples.length >= 4);
  for (const { heading, code } of examples) {
    it(`under "${heading}" print what they say`, async () => {
      const expected = [...code.matchAll(/\/\/ prints (.*)$/gm)].map(([, text]) => `${text}\n`).join('');
      assert.notEqual(expected, '');
      assert.deepEqual(await run(code.replaceAll('localhost:5000', server.host)), {
        code: 0,
        stdout: expected,
        stderr: '',
      });
    });
  }
});
