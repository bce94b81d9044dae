import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { REPO } from '../../lib/repo.js';
import { example } from './example.js';

describe('the example of docs/ttrpc.md', () => {
  it('runs', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'lamina-ttrpc-'));
    try {
      assert.deepEqual(await example(join(folder, 'events.sock')), ['k8s.io /tasks/oom', 'closed']);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  const source = join(REPO, 'test/unit/ttrpc/example.ts');
  const skip = existsSync(source) ? false : 'the sources are not here';
  it('is printed there as it is compiled', { skip }, () => {
    const printed = /```ts\n(.*?)```/s.exec(readFileSync(join(REPO, 'docs/ttrpc.md'), 'utf8'))?.[1];
    const compiled = readFileSync(source, 'utf8');
    // The page shows the names under which the library is used, not the paths inside this
    // repository.
    const paths = {
      '../../../src/api/index.js': 'lamina/api',
      '../../../src/ttrpc/index.js': 'lamina/ttrpc',
    };
    const expected = Object.entries(paths).reduce((text, [from, to]) => text.replace(`'${from}'`, `'${to}'`), compiled);
    assert.equal(printed, expected);
  });
});
