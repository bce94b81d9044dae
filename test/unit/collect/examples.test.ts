import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { checkExample, findExamples } from '../../lib/examples.js';

describe('the examples of docs/gc.md', () => {
  for (const example of findExamples('docs/gc.md')) {
    test(`under "${example.heading}" print what they say`, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'lamina-example-'));
      try {
        await checkExample(example, { replaced: { '/tmp/lamina-example-': join(folder, 'root-') } });
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    });
  }
});
