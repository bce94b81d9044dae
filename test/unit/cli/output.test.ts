import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Code } from '../../../src/base/index.js';
import { printable, table } from '../../../src/cli/output/table.js';
import { formatBytes, formatTime, readDuration } from '../../../src/cli/output/units.js';

describe('a table', () => {
  it('is aligned, with numbers to the right and nothing behind the last column', () => {
    const columns = [{ title: 'NAME' }, { title: 'SIZE', isRight: true }, { title: 'WHY' }];
    assert.deepEqual(
      table(columns, [
        ['web', '1.0 KiB', 'x'],
        ['änderung', '5 B', ''],
      ]),
      ['NAME         SIZE  WHY', 'web       1.0 KiB  x', 'änderung      5 B'],
    );
  });

  it('without rows is nothing', () => assert.deepEqual(table([{ title: 'NAME' }], []), []));

  it('never lets a name move the cursor, begin a line or change the terminal', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary' }), { minLength: 1 }), (names) => {
        const lines = table(
          [{ title: 'A' }, { title: 'B' }],
          names.map((name) => [name, 'x']),
        );
        assert.equal(lines.length, names.length + 1);
        for (const line of lines) assert.doesNotMatch(line, /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
      }),
    );
    assert.equal(printable('a\u001b[31mb\n\u202ec'), 'a\\u{1b}[31mb\\u{a}\\u{202e}c');
  });
});

describe('a size', () => {
  const sizes: readonly (readonly [number, string])[] = [
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [1024 ** 2 - 1, '1.0 MiB'],
    [1536 * 1024, '1.5 MiB'],
    [13_200_000_000, '12.3 GiB'],
    [2 ** 60, '1024.0 PiB'],
  ];
  for (const [bytes, text] of sizes) it(`of ${bytes} bytes is ${text}`, () => assert.equal(formatBytes(bytes), text));
});

describe('a duration', () => {
  const good: readonly (readonly [string, number])[] = [
    ['90s', 90_000],
    ['1h30m', 5_400_000],
    ['7d', 604_800_000],
    ['1d12h', 129_600_000],
    ['0.5d', 43_200_000],
    ['1.5h', 5_400_000],
    ['250ms', 250],
  ];
  for (const [text, ms] of good) it(`is read: ${text}`, () => assert.equal(readDuration('--expires', text), ms));

  it('that is none, is nothing, has passed or never ends is refused', () => {
    for (const text of [
      '',
      '1',
      'h',
      '1y',
      '-1h',
      '0',
      '0s',
      '1h 30m',
      '1d-2h',
      '999999999d',
      'd',
      '1hd',
      'NaN',
      '1e9h',
    ]) {
      const expected = { code: Code.InvalidArgument, message: /^--expires is ".*", expected a duration such as / };
      assert.throws(() => readDuration('--expires', text), expected, text);
    }
  });
});

describe('a time', () => {
  it('is written in UTC, to the second', () => {
    assert.equal(formatTime(Date.UTC(2026, 10, 28, 20, 31, 38, 999)), '2026-11-28 20:31:38Z');
  });
});
