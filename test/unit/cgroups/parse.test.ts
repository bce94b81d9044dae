import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseHugepageSize } from '../../../src/cgroups/hugepages.js';
import {
  FlatKeyedParser,
  parseCounter,
  parseCounterText,
  parseDevice,
  parseIoStat,
  parseKey,
  parsePids,
  parsePressure,
  parseRdma,
  U64_MAX,
} from '../../../src/cgroups/parse.js';
import { parseBlkio, parsePartitions } from '../../../src/cgroups/v1/blkio.js';

function counter(text: string): bigint {
  const data = Buffer.from(text);
  return parseCounter(data, data.length);
}

const isU64 = (value: bigint): boolean => value >= 0n && value <= U64_MAX;

describe('parseCounter', () => {
  it('takes every u64, with and without a newline, and "max"', () => {
    assert.equal(counter('0\n'), 0n);
    assert.equal(counter('9223372036854771712\n'), 9223372036854771712n);
    assert.equal(counter('18446744073709551615'), U64_MAX);
    assert.equal(counter('max\n'), U64_MAX);
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: U64_MAX }), (value) => {
        assert.equal(counter(`${value}\n`), value);
        assert.equal(parseCounterText(String(value)), value);
      }),
    );
  });

  it('counts what is no u64 as 0', () => {
    for (const text of [
      '',
      '\n',
      '-1\n',
      '-9223372036854775808',
      '18446744073709551616',
      '12x',
      'maximum',
      'm',
      '1 2',
    ]) {
      assert.equal(counter(text), 0n, JSON.stringify(text));
    }
  });

  it('looks at the given length only', () => {
    assert.equal(parseCounter(Buffer.from('123456'), 3), 123n);
    assert.equal(parseCounter(Buffer.from('123456'), -1), 0n);
  });
});

describe('flat keyed parser', () => {
  const fields = { anon: 'anon', kernel_stack: 'kernelStack', oom: 'oom', oom_kill: 'oomKill' } as const;
  const parse = (parser: FlatKeyedParser<'anon' | 'kernelStack' | 'oom' | 'oomKill'>, text: string): unknown =>
    parser.parse(Buffer.from(text), Buffer.byteLength(text));

  it('takes known keys, passes over others, and fills what is missing with 0', () => {
    const parser = new FlatKeyedParser(fields);
    const result = { anon: 7n, kernelStack: 0n, oom: 1n, oomKill: U64_MAX };
    assert.deepEqual(parse(parser, 'anon 7\nnew_thing 3\noom 1\noom_kill 18446744073709551615\n'), result);
  });

  it('does not trust the order it has learnt', () => {
    const parser = new FlatKeyedParser(fields);
    parse(parser, 'anon 1\noom 2\noom_kill 3\n');
    assert.deepEqual(parse(parser, 'oom_kill 4\nanon 5\nfile 9\noom 6'), {
      anon: 5n,
      kernelStack: 0n,
      oom: 6n,
      oomKill: 4n,
    });
    assert.deepEqual(parse(parser, 'oom_killer 4\nanonymous 5\n'), parser.empty());
  });

  it('ignores bytes behind the length, which an earlier file has left', () => {
    const parser = new FlatKeyedParser(fields);
    assert.deepEqual(parser.parse(Buffer.from('anon 1\noom 2\n'), 7), {
      anon: 1n,
      kernelStack: 0n,
      oom: 0n,
      oomKill: 0n,
    });
  });

  it('gives a u64 for every field whatever the text', () => {
    const parser = new FlatKeyedParser(fields);
    const line = fc.oneof(
      fc.string(),
      fc.tuple(fc.constantFrom(...Object.keys(fields), 'x'), fc.string()).map((pair) => pair.join(' ')),
    );
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        const data = Buffer.from(lines.join('\n'));
        const result = parser.parse(data, data.length);
        assert.deepEqual(Object.keys(result), Object.values(fields));
        assert.ok(Object.values(result).every(isU64));
      }),
    );
  });

  it('finds the last value of each key as a plain reading of the lines would', () => {
    const parser = new FlatKeyedParser(fields);
    const names = Object.keys(fields) as (keyof typeof fields)[];
    const entry = fc.tuple(fc.constantFrom(...names), fc.bigInt({ min: 0n, max: U64_MAX }));
    fc.assert(
      fc.property(fc.array(entry), (entries) => {
        const expected = parser.empty();
        for (const [name, value] of entries) expected[fields[name]] = value;
        assert.deepEqual(parse(parser, entries.map((pair) => `${pair.join(' ')}\n`).join('')), expected);
      }),
    );
  });
});

describe('parseKey', () => {
  it('finds one key and no other that begins alike', () => {
    assert.equal(parseKey('oom_killer 3\noom 1\noom_kill 2\n', 'oom_kill'), 2n);
    assert.equal(parseKey('oom_killer 3\n', 'oom_kill'), undefined);
    assert.equal(parseKey('', 'oom_kill'), undefined);
  });
});

describe('parsePressure', () => {
  const some = { avg10: 1.5, avg60: 0, avg300: 12.34, total: 123456789012n };

  it('reads both lines', () => {
    const text =
      'some avg10=1.50 avg60=0.00 avg300=12.34 total=123456789012\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n';
    assert.deepEqual(parsePressure(text), { some, full: { avg10: 0, avg60: 0, avg300: 0, total: 0n } });
  });

  it('does without the full line, as cpu.pressure is before Linux 5.13', () => {
    const text = 'some avg10=1.50 avg60=0.00 avg300=12.34 total=123456789012\n';
    assert.deepEqual(parsePressure(text), { some, full: undefined });
  });

  it('is absent for anything else', () => {
    for (const text of ['', 'some\n', 'some avg10=x avg60=0 avg300=0 total=0'])
      assert.equal(parsePressure(text), undefined);
  });
});

describe('parseIoStat', () => {
  it('reads the known keys and passes over the others', () => {
    const text = '8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=7\n253:16 wios=9\n';
    assert.deepEqual(parseIoStat(text), [
      { major: 8n, minor: 0n, rbytes: 1n, wbytes: 2n, rios: 3n, wios: 4n },
      { major: 253n, minor: 16n, rbytes: 0n, wbytes: 0n, rios: 0n, wios: 9n },
    ]);
  });

  it('leaves out lines with a device number only', () => {
    assert.deepEqual(
      parseIoStat('8:0\n8:16 \n\n8:32 rbytes=1\n').map((entry) => entry.minor),
      [32n],
    );
  });

  it('is not misled by names every object has', () => {
    assert.deepEqual(parseIoStat('8:0 constructor=1 __proto__=2 rbytes'), [
      { major: 8n, minor: 0n, rbytes: 0n, wbytes: 0n, rios: 0n, wios: 0n },
    ]);
  });
});

describe('parseRdma', () => {
  it('reads devices, with "max" as the largest u32', () => {
    assert.deepEqual(parseRdma('mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 hca_object=max\nodd\n'), [
      { device: 'mlx4_0', hcaHandles: 2, hcaObjects: 2000 },
      { device: 'ocrdma1', hcaHandles: 3, hcaObjects: 0xffffffff },
    ]);
  });
});

describe('parsePids', () => {
  it('leaves out 0, repetitions and what is no pid', () => {
    assert.deepEqual(parsePids('1\n0\n22\n1\n-3\nx\n4194304\n'), [1, 22, 4194304]);
  });
});

describe('parseBlkio', () => {
  const nameOf = (number: string): string => (number === '8:0' ? '/dev/sda' : '');

  it('reads lines with and without an operation and skips the total', () => {
    assert.deepEqual(parseBlkio('8:0 Read 10\n8:0 Discard 0\n7:1 5\nTotal 15\n8:0 a b c\n', nameOf), [
      { op: 'Read', device: '/dev/sda', major: 8n, minor: 0n, value: 10n },
      { op: 'Discard', device: '/dev/sda', major: 8n, minor: 0n, value: 0n },
      { op: '', device: '', major: 7n, minor: 1n, value: 5n },
    ]);
  });

  it('takes device names from /proc/partitions', () => {
    const text = 'major minor  #blocks  name\n\n   8        0  125034840 sda\n 259        1     262144 nvme0n1p1\n';
    assert.deepEqual(
      [...parsePartitions(text)],
      [
        ['8:0', '/dev/sda'],
        ['259:1', '/dev/nvme0n1p1'],
      ],
    );
  });
});

describe('parseHugepageSize', () => {
  it('names sizes as hugetlb files do', () => {
    assert.equal(parseHugepageSize('hugepages-64kB'), '64KB');
    assert.equal(parseHugepageSize('hugepages-2048kB'), '2MB');
    assert.equal(parseHugepageSize('hugepages-1048576kB'), '1GB');
    for (const name of ['', 'hugepages-kB', 'hugepages-0kB', 'hugepages-2048'])
      assert.equal(parseHugepageSize(name), undefined);
  });
});

describe('every parser', () => {
  it('takes arbitrary text without throwing, and gives u64 counters', () => {
    const word = fc.constantFrom(
      '8:0',
      'some',
      'rbytes=',
      'avg10=',
      'max',
      '-1',
      '99999999999999999999999',
      'hca_handle=',
      '\n',
      ' ',
      '=',
    );
    const text = fc.oneof(
      fc.string(),
      fc.array(fc.oneof(word, fc.string({ maxLength: 5 }))).map((words) => words.join('')),
    );
    fc.assert(
      fc.property(text, (input) => {
        for (const entry of parseIoStat(input)) assert.ok(Object.values(entry).every(isU64));
        for (const entry of parseBlkio(input, () => '')) assert.ok(isU64(entry.value));
        for (const entry of parseRdma(input)) assert.ok(entry.hcaHandles >= 0 && entry.hcaObjects <= 0xffffffff);
        for (const pid of parsePids(input)) assert.ok(Number.isSafeInteger(pid) && pid > 0);
        const total = parsePressure(input)?.some?.total;
        assert.ok(total === undefined || isU64(total));
        const device = parseDevice(input);
        assert.ok(device === undefined || (isU64(device.major) && isU64(device.minor)));
        assert.ok(isU64(counter(input)));
        assert.ok(isU64(parseKey(input, 'some') ?? 0n));
        parsePartitions(input);
      }),
    );
  });
});
