import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseRegistration } from '../../../src/cli/keepers.js';

const text = (fields: Readonly<Record<string, string>>): string =>
  Object.entries(fields)
    .map(([key, value]) => `${key}=${value}\0`)
    .join('');

describe('the registration of a keeper', () => {
  it('is read field by field; what is not known is ignored', () => {
    const fields = {
      pid: '7',
      namespace: 'k8s.io',
      id: 'a=b',
      socket: '/run/s/x',
      library: '/l',
      engine: '/run/e',
      new: 'x',
    };
    assert.deepEqual(parseRegistration(text({ ...fields, build: 'b' })), {
      socket: '/run/s/x',
      namespace: 'k8s.io',
      id: 'a=b',
      library: '/l',
      engineSocket: '/run/e',
      build: 'b',
    });
  });

  it('is none without an absolute socket', () => {
    for (const wrong of ['', '\0\0', 'socket', text({ socket: 'run/s/x' }), text({ id: 'x' })]) {
      assert.equal(parseRegistration(wrong), undefined, JSON.stringify(wrong));
    }
  });
});
