import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Code, LaminaError } from '../../../../src/base/index.js';
import { parseGvariant, textProperty } from '../../../../src/cgroups/systemd/gvariant.js';

const invalid = (error: unknown): boolean => error instanceof LaminaError && error.code === Code.InvalidArgument;

describe('GVariant text', () => {
  const good: [string, string, unknown][] = [
    ['true', 'b', true],
    ['42', 'i', 42],
    ['-0x10', 'i', -16],
    ['1.5', 'd', 1.5],
    ['uint64 18446744073709551615', 't', 18446744073709551615n],
    ['@t 7', 't', 7n],
    ['int64 -5', 'x', -5n],
    ['byte 255', 'y', 255],
    ["'inactive-or-failed'", 's', 'inactive-or-failed'],
    ['"a\\"b\\n\\u00e9"', 's', 'a"b\né'],
    ["['a', 'b']", 'as', ['a', 'b']],
    ['[uint32 1, 2]', 'au', [1, 2]],
    ['@as []', 'as', []],
    [
      "[('/dev/null', 'rw'), ('/dev/zero', 'r')]",
      'a(ss)',
      [
        ['/dev/null', 'rw'],
        ['/dev/zero', 'r'],
      ],
    ],
    ["('a', uint64 5)", '(st)', ['a', 5n]],
    ["@a(st) [('/dev/sda', 5)]", 'a(st)', [['/dev/sda', 5n]]],
    ['(1,)', '(i)', [1]],
    ['[byte 1, 2]', 'ay', Buffer.from([1, 2])],
    ["objectpath '/a/b'", 'o', '/a/b'],
  ];
  for (const [text, signature, value] of good) {
    it(text, () => assert.deepEqual(parseGvariant(text), { signature, value }));
  }
  for (const text of [
    '',
    'x',
    '[]',
    '()',
    '1 2',
    "'a",
    'byte 256',
    'uint64 -1',
    '[1, true]',
    '@t true',
    '4294967296',
    '{1: 2}',
    '1.5.2',
    '@as 1',
    'uint64 uint32 1',
    '[1,',
    "@(ss) ('a',)",
  ]) {
    it(`refuses ${JSON.stringify(text)}`, () => assert.throws(() => parseGvariant(text), invalid));
  }
  it('refuses or parses any text', () => {
    const piece = fc.constantFrom('[', ']', '(', ')', ',', '@as ', "'a'", 'uint64 ', '1', ' ', 'true', '@', '\\', '-');
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(piece).map((pieces) => pieces.join('')),
        ),
        (text) => {
          try {
            parseGvariant(text);
          } catch (error) {
            if (!invalid(error)) throw error;
          }
        },
      ),
    );
  });
});

describe('a property given as text', () => {
  it('in seconds is one in microseconds', () => {
    const usec = { name: 'TimeoutStopUSec', signature: 't', value: 5_000_000n };
    assert.deepEqual(textProperty('TimeoutStopSec', '5'), usec);
    assert.deepEqual(textProperty('TimeoutStopSec', 'uint64 5'), usec);
    assert.deepEqual(textProperty('TimeoutStopSec', '1.5'), { ...usec, value: 1_500_000n });
    assert.deepEqual(textProperty('TimeoutStopUSec', 'uint64 5000000'), usec);
    assert.throws(() => textProperty('TimeoutStopSec', "'soon'"), invalid);
  });
  it('needs a name of letters', () => {
    for (const name of ['', 'ab', 'A1b', 'CPU Weight', 'CPUWeight=']) {
      assert.throws(() => textProperty(name, '1'), invalid, name);
    }
  });
});
