import { existsSync } from 'node:fs';
import { afterEach, describe, it } from 'node:test';
import { Cgroup } from '../../../src/cgroups/index.js';
import { checkExample, findExamples } from '../../lib/examples.js';
import { requires } from '../../lib/requires.js';

const skip = requires({ root: true, cgroup: 'v2', systemd: true });

describe('the examples of docs/cgroups.md', { skip }, () => {
  afterEach(async () => {
    // An example that failed half way.
    if (!existsSync('/sys/fs/cgroup/jobs')) return;
    const jobs = Cgroup.load('/jobs');
    await jobs.kill();
    await jobs.destroy();
  });

  for (const example of findExamples('docs/cgroups.md')) {
    it(`under "${example.heading}" print what they say`, async () => {
      await checkExample(example);
    });
  }
});
