import { describe, test } from 'node:test';
import { checkExample, findExamples } from '../../lib/examples.js';
import { newRoot } from './kit.js';

describe('the examples of docs/store.md', () => {
  for (const example of findExamples('docs/store.md')) {
    test(`under "${example.heading}" print what they say`, async (t) => {
      await checkExample(example, { env: { LAMINA_ROOT: newRoot(t) } });
    });
  }
});
