import { after, before, describe, it } from 'node:test';
import { Registry } from '../../../src/registry/index.js';
import { checkExample, findExamples } from '../../lib/examples.js';
import { DebianRegistry } from '../../lib/registry/debian.js';
import { makeImage, pushImage, randomLayer } from '../../lib/registry/image.js';
import { requires } from '../../lib/requires.js';

const skip = requires({ programs: ['docker-registry'] });

describe('the examples of docs/registry.md', { skip }, () => {
  let server: DebianRegistry;

  before(async () => {
    server = await DebianRegistry.start();
    using registry = new Registry();
    await pushImage(registry, `${server.host}/demo/hello`, makeImage([randomLayer(5000)]), '1');
  });
  after(async () => await server.stop());

  for (const example of findExamples('docs/registry.md')) {
    it(`under "${example.heading}" print what they say`, async () => {
      await checkExample(example, { replaced: { 'localhost:5000': server.host } });
    });
  }
});
