/** What runs where: the tables of github.com/containerd/platforms. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  candidates,
  formatPlatform,
  hostPlatform,
  MediaType,
  normalisePlatform,
  parsePlatform,
  platformRank,
  RegistryError,
} from '../../../src/registry/index.js';

const ARM = ['linux/arm/v5', 'linux/arm/v6', 'linux/arm', 'linux/arm/v7', 'linux/arm/v8'];

/** Wanted; what runs, best first; what does not. */
const RUNS: readonly (readonly [wanted: string, yes: readonly string[], no: readonly string[]])[] = [
  ['linux/amd64', ['linux/amd64', 'linux/amd64/v1', 'linux/386'], ['linux/amd64/v2', 'linux/arm64', 'windows/amd64']],
  ['linux/amd64/v3', ['linux/amd64/v3', 'linux/amd64/v2', 'linux/amd64', 'linux/386'], ['linux/amd64/v4']],
  ['linux/386', ['linux/386'], ['linux/amd64']],
  ['windows/amd64', ['windows/amd64', 'windows(10.0.17763)/amd64'], ['linux/amd64', 'windows/arm']],
  ['windows(10.0.17763)/amd64', ['windows(10.0.17763.1)/amd64', 'windows/amd64'], ['windows(10.0.20348)/amd64']],
  ['linux/arm/v8', [...ARM].reverse(), ['linux/arm/v4', 'linux/arm64']],
  ['linux/arm/v7', ['linux/arm/v7', 'linux/arm/v6', 'linux/arm/v5'], ['linux/arm/v8', 'linux/arm/v4', 'linux/arm64']],
  ['linux/arm/v6', ['linux/arm/v6', 'linux/arm/v5'], ['linux/arm', 'linux/arm/v7']],
  ['linux/arm/v5', ['linux/arm/v5'], ['linux/arm/v4', 'linux/arm']],
  ['linux/arm/v4', ['linux/arm/v4'], ['linux/arm/v5']],
  [
    'linux/arm64',
    ['linux/arm64', 'linux/arm64/v8', ...[...ARM].reverse()],
    ['linux/arm64/v9', 'linux/arm64/v8.1', 'linux/amd64'],
  ],
  ['linux/arm64/v8.1', ['linux/arm64/v8.1', 'linux/arm64/v8', 'linux/arm/v8'], ['linux/arm64/v9', 'linux/arm64/v8.2']],
  [
    'linux/arm64/v9',
    ['linux/arm64/v9', 'linux/arm64/v9.0', 'linux/arm64/v8.5', 'linux/arm64', 'linux/arm/v7'],
    ['linux/arm64/v8.6'],
  ],
  [
    'linux/arm64/v9.6',
    ['linux/arm64/v9.6', 'linux/arm64/v9.1', 'linux/arm64/v8.9', 'linux/arm64/v8.1'],
    ['linux/arm64/v8.10', 'linux/arm64/v9.7'],
  ],
  ['linux/arm64/v10', [], ['linux/arm64', 'linux/arm']],
  ['linux(+gpu)/amd64', ['linux(+gpu)/amd64', 'linux/amd64'], ['linux(+simd)/amd64']],
  ['linux/s390x', ['linux/s390x'], ['linux/amd64']],
];

for (const [wanted, yes, no] of RUNS) {
  test(`platform ${wanted}: runs what it can, best first`, () => {
    const ranks = yes.map((offer) => platformRank(parsePlatform(wanted), parsePlatform(offer)));
    assert.ok(
      ranks.every((rank, index) => rank !== undefined && rank >= (ranks[index - 1] ?? 0)),
      JSON.stringify(ranks),
    );
    for (const offer of no) assert.equal(platformRank(parsePlatform(wanted), parsePlatform(offer)), undefined, offer);
  });
}

const PARSED: readonly (readonly [text: string, formatted: string])[] = [
  ['linux/aarch64', 'linux/arm64'],
  ['linux/arm64/v8', 'linux/arm64'],
  ['Linux/x86_64', 'linux/amd64'],
  ['linux/arm', 'linux/arm/v7'],
  ['linux/armhf', 'linux/arm/v7'],
  ['linux/armel', 'linux/arm/v6'],
  ['linux/arm/7', 'linux/arm/v7'],
  ['i386', `${process.platform}/386`],
  ['s390x', `${process.platform}/s390x`],
  ['macOS', `darwin/${formatPlatform(hostPlatform()).split('/').slice(1).join('/')}`],
  ['linux', `linux/${formatPlatform(hostPlatform()).split('/').slice(1).join('/')}`],
];

for (const [text, formatted] of PARSED) {
  test(`platform ${text}: is ${formatted}`, () => assert.equal(formatPlatform(parsePlatform(text)), formatted));
}

for (const text of [
  '',
  '*',
  '/linux/arm',
  'linux/arm/',
  'linux /arm',
  'linux/&arm',
  'linux/arm/foo/bar',
  'linux(+%zz)/arm',
  'hal9000',
]) {
  test(`platform "${text}": refused`, () => {
    assert.throws(
      () => parsePlatform(text),
      (error) => error instanceof RegistryError && error.kind === 'bad-reference',
    );
  });
}

test('platform: a version and features may have any character, as %XX', () => {
  assert.deepEqual(parsePlatform('windows(10.0%2Bx+a%2Bb)/amd64'), {
    os: 'windows',
    architecture: 'amd64',
    osVersion: '10.0+x',
    osFeatures: ['a+b'],
  });
});

test('platform: normalising twice changes nothing, and everything runs on itself but unknown arm64', () => {
  const part = fc.constantFrom(
    'amd64',
    'arm',
    'arm64',
    '386',
    'v7',
    'v8',
    'v8.3',
    'v9',
    'v2',
    '8',
    '',
    'x86_64',
    'riscv64',
  );
  fc.assert(
    fc.property(part, part, (architecture, variant) => {
      const once = normalisePlatform({ os: 'linux', architecture, variant });
      assert.deepEqual(normalisePlatform(once), once);
      if (once.architecture !== 'arm64') assert.equal(platformRank(once, once), 0);
    }),
  );
});

test('index: candidates are those that run, best first, then those that say nothing', () => {
  const entry = (digit: string, platform?: object) => ({
    mediaType: MediaType.OciManifest,
    digest: `sha256:${digit.repeat(64)}`,
    size: 1,
    ...(platform === undefined ? {} : { platform: { os: 'linux', architecture: 'amd64', ...platform } }),
  });
  const manifests = [
    entry('1'),
    entry('2', { architecture: 'unknown', os: 'unknown' }),
    entry('3', { architecture: '386' }),
    entry('4', { variant: 'v3' }),
    entry('5', {}),
    entry('6', { variant: 'v2' }),
    entry('7', { osFeatures: ['gpu'] }),
    { ...entry('8', {}), mediaType: 'application/x.other' },
  ];
  const index = { kind: 'index' as const, mediaType: MediaType.OciIndex, manifests };
  const chosen = (text: string) => candidates(index, parsePlatform(text)).map(({ digest }) => digest[7]);
  assert.deepEqual(chosen('linux/amd64/v2'), ['6', '5', '3', '1']);
  assert.deepEqual(chosen('linux(+gpu)/amd64'), ['7', '5', '3', '1']);
  assert.deepEqual(chosen('linux/s390x'), ['1']);
});
