import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { findDigest, parseKey } from '../../../src/cli/key.js';
import { ResourceType } from '../../../src/gc/index.js';

const HEX = 'ab'.repeat(32);
const { Content, Container, Image, Ingest, Lease, Snapshot } = ResourceType;

describe('a key', () => {
  const good: readonly (readonly [text: string, type: number, key: string, isBeginning?: true])[] = [
    [`content/sha256:${HEX}`, Content, `sha256:${HEX}`],
    [`sha256:${HEX}`, Content, `sha256:${HEX}`],
    [HEX, Content, `sha256:${HEX}`],
    [`sha512:${HEX}${HEX}`, Content, `sha512:${HEX}${HEX}`],
    ['sha256:ab', Content, 'sha256:ab', true],
    ['content/ab12', Content, 'ab12', true],
    ['ab', Content, 'ab', true],
    ['image/docker.io/library/nginx:1', Image, 'docker.io/library/nginx:1'],
    ['image/sha256:ab', Image, 'sha256:ab'],
    ['snapshot/overlayfs/web', Snapshot, 'overlayfs/web'],
    ['snapshot/overlayfs/a/b c/d', Snapshot, 'overlayfs/a/b c/d'],
    ['lease/x y', Lease, 'x y'],
    ['ingest/layer-sha256:ab', Ingest, 'layer-sha256:ab'],
    ['container/web', Container, 'web'],
  ];
  for (const [text, type, key, isBeginning = false] of good) {
    it(`is understood: ${text.slice(0, 40)}`, () => assert.deepEqual(parseKey(text), { type, key, isBeginning }));
  }

  it('that names nothing is refused with all that it could be', () => {
    const bad = ['', 'a', 'x', 'image/', 'image', 'snapshot/overlayfs', 'snapshot/overlayfs/', 'snapshot//a', 'lease/'];
    const more = [
      'content/',
      'content/xyz',
      'sha256:',
      'sha256:a',
      'sha256:AB',
      'md5:abcd',
      `sha256:${HEX}0`,
      'task/web',
    ];
    for (const text of [...bad, ...more]) {
      assert.throws(() => parseKey(text), { code: Code.InvalidArgument, message: /expected content\/DIGEST, / }, text);
    }
  });
});

describe('the beginning of a digest', () => {
  const digests = ['sha256:aa11', 'sha256:aa22', 'sha512:aa11ff', 'sha256:bb00'];

  it('is enough where one digest begins so, however often it is there', () => {
    assert.equal(findDigest('bb', 'default', [...digests, ...digests]), 'sha256:bb00');
    assert.equal(findDigest('sha256:aa1', 'default', digests), 'sha256:aa11');
    assert.equal(findDigest('aa2', 'default', digests), 'sha256:aa22');
  });

  it('that fits several names them', () => {
    const ambiguous = {
      code: Code.FailedPrecondition,
      message: /ambiguous: 3 digests begin so \(sha256:aa11, sha256:aa22, sha512:aa11ff\)/,
    };
    assert.throws(() => findDigest('aa', 'default', digests), ambiguous);
    const many = Array.from({ length: 9 }, (_, at) => `sha256:cc${at}`);
    assert.throws(() => findDigest('cc', 'default', many), { message: /9 digests .*cc4 and more\)/ });
  });

  it('that fits none is not found', () => {
    assert.throws(() => findDigest('dd', 'web', digests), {
      code: Code.NotFound,
      message: /content dd of web: no digest/,
    });
    assert.throws(() => findDigest('sha256:aa11ff', 'web', digests), { code: Code.NotFound });
  });
});
