import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { fsPath, pathFromBytes, pathToBytes, unescapeOctal } from '../../../src/base/index.js';

const bytesOf = (...codes: number[]): Buffer => Buffer.from(codes);

describe('a path of the kernel', () => {
  it('is the text that its bytes are in UTF-8', () => {
    for (const text of ['/web', '/ünï', '/盒/𝕏/🐳', '/\r\u2028\u0085', '/\ufffd', '']) {
      assert.equal(pathFromBytes(Buffer.from(text)), text);
      assert.deepEqual(pathToBytes(text), Buffer.from(text));
      assert.equal(fsPath(text), text, 'and goes to the system as it is');
    }
  });

  it('keeps what is no UTF-8, byte by byte', () => {
    assert.equal(pathFromBytes(bytesOf(0x2f, 0xff)), '/\udcff');
    assert.equal(pathFromBytes(bytesOf(0xc3, 0x2f)), '\udcc3/', 'half a sequence');
    assert.equal(pathFromBytes(bytesOf(0xc0, 0xaf)), '\udcc0\udcaf', 'an overlong "/"');
    assert.equal(pathFromBytes(bytesOf(0xed, 0xb3, 0xbf)), '\udced\udcb3\udcbf', 'half a surrogate pair');
    assert.equal(pathFromBytes(bytesOf(0xf0, 0x9f, 0x90, 0xb3, 0x80)), '🐳\udc80');
    assert.deepEqual(fsPath('/a\udcff'), bytesOf(0x2f, 0x61, 0xff));
  });

  it('comes back as the bytes it was, and no two are one', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.uint8Array(), (one, other) => {
        assert.deepEqual(pathToBytes(pathFromBytes(one)), Buffer.from(one));
        assert.equal(pathFromBytes(one) === pathFromBytes(other), Buffer.compare(one, other) === 0);
      }),
    );
  });

  it('can be opened, joined and split, whatever bytes it has', () => {
    const dir = mkdtempSync(join(tmpdir(), 'lamina-test-'));
    try {
      const name = pathFromBytes(bytesOf(0x61, 0xff, 0xc3, 0xbc, 0x80));
      mkdirSync(fsPath(join(dir, name, 'below')), { recursive: true });
      const [found] = readdirSync(dir, { encoding: 'buffer' });
      assert.equal(pathFromBytes(found ?? Buffer.of()), name);
      assert.deepEqual(readdirSync(fsPath(`${dir}/${name}`)), ['below']);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it('has no escapes left of those in mountinfo', () => {
    assert.equal(unescapeOctal('/a\\040b\\011\\012\\134\\043/ü'), '/a b\t\n\\#/ü');
    assert.equal(unescapeOctal('/a\\04'), '/a\\04');
  });
});
