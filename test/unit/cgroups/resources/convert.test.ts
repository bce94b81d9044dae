import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  cpuListBits,
  cpuMax,
  cpuQuotaPerSec,
  ioWeight,
  limitText,
  pidsMax,
  ResourceError,
  roundedQuota,
  swapMax,
  weightFromShares,
} from '../../../../src/cgroups/resources/index.js';

describe('weightFromShares', () => {
  it('gives the published points', () => {
    const points: [shares: number, weight: number][] = [
      [0, 0],
      [1, 1],
      [2, 1],
      [3, 2],
      [100, 17],
      [128, 21],
      [200, 29],
      [256, 35],
      [500, 58],
      [512, 59],
      [1000, 99],
      [1023, 100],
      [1024, 100],
      [1025, 101],
      [2048, 174],
      [3333, 256],
      [8192, 532],
      [100_000, 4340],
      [262_143, 10_000],
      [262_144, 10_000],
      [Number.MAX_SAFE_INTEGER, 10_000],
    ];
    for (const [shares, weight] of points) assert.equal(weightFromShares(shares), weight, `${shares}`);
  });

  it('never falls, and stays in 1..10000', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 300_000 }), fc.nat(50_000), (shares, more) => {
        const [low, high] = [weightFromShares(shares), weightFromShares(shares + more)];
        assert.ok(low >= 1 && low <= high && high <= 10_000);
        assert.ok(Number.isInteger(low));
      }),
    );
  });
});

describe('swapMax', () => {
  it('takes the memory limit off the total, by the first rule that applies', () => {
    const rows: [limit: number | undefined, swap: number | undefined, result: number | undefined][] = [
      [undefined, undefined, undefined],
      [0, 0, undefined],
      [100, 0, undefined],
      [100, undefined, undefined],
      [-1, 0, -1],
      [-1, undefined, -1],
      [100, -1, -1],
      [0, -1, -1],
      [undefined, -1, -1],
      [-1, -1, -1],
      [-1, 500, 500],
      [100, 100, 0],
      [100, 300, 200],
      [52_428_800, 96_468_992, 44_040_192],
    ];
    for (const [limit, swap, result] of rows) {
      const memory = { ...(limit === undefined ? {} : { limit }), ...(swap === undefined ? {} : { swap }) };
      assert.equal(swapMax(memory), result, JSON.stringify(memory));
    }
  });

  it('refuses a total without, or below, a limit', () => {
    for (const memory of [{ swap: 5 }, { limit: 0, swap: 5 }, { limit: 100, swap: 99 }]) {
      assert.throws(() => swapMax(memory), { name: 'ResourceError', field: 'resources.memory.swap' });
    }
  });
});

describe('cpuMax', () => {
  it('has "max" without quota, and 100 ms without period', () => {
    const rows: [quota: number | undefined, period: number | undefined, text: string][] = [
      [50_000, 100_000, '50000 100000'],
      [5000, undefined, '5000 100000'],
      [5000, 0, '5000 100000'],
      [undefined, 50_000, 'max 50000'],
      [0, 50_000, 'max 50000'],
      [-1, 50_000, 'max 50000'],
      [-1, undefined, 'max 100000'],
    ];
    for (const [quota, period, text] of rows) assert.equal(cpuMax(quota, period), text);
  });
});

describe('roundedQuota', () => {
  it('gives what systemd makes of it', () => {
    assert.equal(cpuQuotaPerSec(500_000, 1_000_000), 500_000n);
    assert.equal(roundedQuota(500_000, 1_000_000), 500_000);
    assert.equal(cpuQuotaPerSec(123_456), 1_240_000n);
    assert.equal(roundedQuota(123_456), 124_000);
    assert.equal(cpuQuotaPerSec(500_000, 900_000), 560_000n);
    assert.equal(roundedQuota(500_000, 900_000), 504_000);
    assert.equal(cpuQuotaPerSec(-1, 1000), undefined);
    assert.equal(roundedQuota(-1, 1000), -1);
    assert.equal(roundedQuota(0, 1000), 0);
  });

  it('stays exact where a double would not', () => {
    assert.equal(cpuQuotaPerSec(9_007_199_254_740_991, 1_000_000), 9_007_199_254_750_000n);
  });

  it('is never below the request, and less than one per cent of a CPU above', () => {
    const quota = fc.integer({ min: 1000, max: 10_000_000_000 });
    fc.assert(
      fc.property(quota, fc.integer({ min: 1000, max: 1_000_000 }), (asked, period) => {
        const rounded = roundedQuota(asked, period);
        assert.ok(rounded >= asked, `${rounded}`);
        assert.ok((rounded - asked) / period < 0.01, `${rounded}`);
        assert.equal(roundedQuota(rounded, period) - rounded <= period / 100, true);
      }),
    );
  });
});

describe('ioWeight', () => {
  it('stretches 10..1000 to 1..10000', () => {
    for (const [weight, result] of [
      [10, 1],
      [500, 4950],
      [750, 7475],
      [1000, 10_000],
    ] as const) {
      assert.equal(ioWeight(weight), result);
    }
  });
});

describe('pidsMax and limitText', () => {
  it('say "max" for what has no limit', () => {
    assert.deepEqual([-1, -7, 0, 1, 99].map(pidsMax), ['max', 'max', '1', '1', '99']);
    assert.deepEqual([-1, 0, 4096, Number.MAX_SAFE_INTEGER].map(limitText), ['max', '0', '4096', '9007199254740991']);
    // What v1's files show for no limit, and the largest number of 64 bits as JSON.parse reads it.
    assert.deepEqual([Number(9223372036854771712n), 2 ** 63].map(limitText), [
      '9223372036854771712',
      '9223372036854775807',
    ]);
  });
});

describe('cpuListBits', () => {
  const rows: Record<string, number[]> = {
    '0': [0x01],
    '1': [0x02],
    '0-1': [0x03],
    '5-8': [0xe0, 0x01],
    '16': [0, 0, 1],
    '0-3,32-33': [0x0f, 0, 0, 0, 0x03],
    '0, 1,,2': [0x07],
    ' 4-4\n': [0x10],
    '7,0': [0x81],
    '0-7:2/4': [0x33],
    '0-7:1/2': [0x55],
  };
  for (const [list, bytes] of Object.entries(rows)) {
    it(`takes ${JSON.stringify(list)}`, () => assert.deepEqual([...cpuListBits(list)], bytes));
  }

  it('refuses everything else', () => {
    const bad = [
      '',
      ' ',
      ',',
      '1 - 2',
      '54-53',
      'a-1',
      '-3',
      '3-',
      '1-2-3',
      '0x1',
      '0-3:3/2',
      '0-3:0/2',
      '0-3:1/0',
      '65536',
      '0-999999999',
      '1e3',
    ];
    for (const list of bad) {
      assert.throws(() => cpuListBits(list), { name: 'ResourceError', field: 'resources.cpu.cpus' }, list);
    }
    assert.throws(() => cpuListBits('x', 'resources.cpu.mems'), { field: 'resources.cpu.mems' });
  });

  it('sets exactly the bits of the list', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(300), { minLength: 1 }), (cpus) => {
        const bits = cpuListBits(cpus.join(','));
        const set = [...bits].flatMap((byte, at) =>
          [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => byte & (1 << bit)).map((bit) => at * 8 + bit),
        );
        assert.deepEqual(
          set,
          cpus.toSorted((a, b) => a - b),
        );
        assert.notEqual(bits.at(-1), 0);
      }),
    );
  });

  it('throws nothing but ResourceError, whatever the text', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'0123456789-,:/ \na') }), (list) => {
        try {
          cpuListBits(list);
        } catch (error) {
          assert.ok(error instanceof ResourceError);
        }
      }),
    );
  });
});
