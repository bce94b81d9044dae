import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDuration, parseTime } from '../../../src/gc/index.js';

const TIMES: readonly (readonly [text: string, iso: string | undefined])[] = [
  ['2026-02-28T23:59:59Z', '2026-02-28T23:59:59.000Z'],
  ['2024-02-29T00:00:00+02:30', '2024-02-28T21:30:00.000Z'],
  ['2026-01-01T00:00:00-23:59', '2026-01-01T23:59:00.000Z'],
  ['2026-01-01T00:00:00.25Z', '2026-01-01T00:00:00.250Z'],
  ['2026-01-01T00:00:00,5Z', '2026-01-01T00:00:00.500Z'],
  ['0001-01-01T00:00:00Z', '0001-01-01T00:00:00.000Z'],
  ['2026-02-29T00:00:00Z', undefined],
  ['2026-13-01T00:00:00Z', undefined],
  ['2026-00-01T00:00:00Z', undefined],
  ['2026-01-01T24:00:00Z', undefined],
  ['2026-01-01T00:00:60Z', undefined],
  ['2026-01-01t00:00:00z', undefined],
  ['2026-01-01T00:00:00', undefined],
  ['2026-01-01 00:00:00Z', undefined],
  ['2026-01-01T00:00:00+0200', undefined],
  ['2026-01-01', undefined],
  ['', undefined],
];

for (const [text, iso] of TIMES) {
  test(`time "${text}": ${iso ?? 'refused'}`, () => {
    const found = parseTime(text);
    assert.equal(found === undefined ? undefined : new Date(found).toISOString(), iso);
  });
}

const DURATIONS: readonly (readonly [text: string, ms: number | undefined])[] = [
  ['0', 0],
  ['1h30m', 5_400_000],
  ['-1.5s', -1_500],
  ['+2ms', 2],
  ['.5s', 500],
  ['1.s', 1_000],
  ['1us', 0.001],
  ['1µs', 0.001],
  ['300ns', 0.0003],
  ['2562047h', 2_562_047 * 3_600_000],
  ['2562048h', undefined],
  ['1', undefined],
  ['', undefined],
  ['-', undefined],
  ['s', undefined],
  ['1d', undefined],
  ['1h 30m', undefined],
  ['.s', undefined],
];

for (const [text, ms] of DURATIONS) {
  test(`duration "${text}": ${ms ?? 'refused'}`, () => {
    assert.equal(parseDuration(text), ms);
  });
}
