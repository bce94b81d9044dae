import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseChallenges } from '../../../src/registry/index.js';
import { DEFAULT_RETRY } from '../../../src/registry/limits.js';
import { nextLink } from '../../../src/registry/links.js';
import { isLoopback, nextUrl } from '../../../src/registry/origin.js';
import { parseRetryAfter, pauseBefore } from '../../../src/registry/retry.js';
import { parseRealm } from '../../../src/registry/token.js';

const plain = (header: string | readonly string[]) =>
  parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);

const CHALLENGES: readonly (readonly [header: string, parsed: unknown])[] = [
  [
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:foo/bar:pull,push"',
    [
      [
        'bearer',
        { realm: 'https://auth.docker.io/token', service: 'registry.docker.io', scope: 'repository:foo/bar:pull,push' },
      ],
    ],
  ],
  ['Bearer realm="x",empty="",service=y', [['bearer', { realm: 'x', empty: '', service: 'y' }]]],
  ['BASIC realm = "a b"', [['basic', { realm: 'a b' }]]],
  ['basic', [['basic', {}]]],
  [
    'Negotiate, Basic realm="x", Bearer realm="y" , service="z"',
    [
      ['basic', { realm: 'x' }],
      ['bearer', { realm: 'y', service: 'z' }],
    ],
  ],
  ['Negotiate abc==, Basic realm="x"', [['basic', { realm: 'x' }]]],
  ['Bearer realm="a\\"b\\\\c"', [['bearer', { realm: 'a"b\\c' }]]],
  ['Bearer realm="one",realm="two"', [['bearer', { realm: 'one' }]]],
  ['Bearer realm="never closed', [['bearer', {}]]],
  ['Bearer ,,, realm=x', [['bearer', {}]]],
  ['Digest realm="x"', []],
  ['', []],
  ['"', []],
];

for (const [header, parsed] of CHALLENGES) {
  test(`challenge ${header.slice(0, 70)}: read`, () => assert.deepEqual(plain(header), parsed));
}

test('challenge: in several headers, and whatever is in one, nothing is thrown and it takes no time', () => {
  assert.deepEqual(plain(['Basic realm="a"', 'Bearer realm="b"']), [
    ['basic', { realm: 'a' }],
    ['bearer', { realm: 'b' }],
  ]);
  const piece = fc.constantFrom('Bearer', 'basic', ' ', ',', '=', '"', '\\', 'realm', 'x', '\t', '==', '/');
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
      for (const { scheme } of parseChallenges(pieces.join(''))) assert.ok(['basic', 'bearer'].includes(scheme));
    }),
    { numRuns: 2000 },
  );
  for (const text of [' ', ',', '"', 'a=', '\\"', 'a ', 'Bearer a="']) parseChallenges(`Bearer ${text.repeat(50_000)}`);
});

test('challenge: every value that is quoted is read back', () => {
  fc.assert(
    fc.property(fc.string(), (value) => {
      const header = `Bearer realm="${value.replace(/["\\]/g, '\\$&')}"`;
      assert.equal(parseChallenges(header)[0]?.parameters.get('realm'), value);
    }),
  );
});

const LINKS: readonly (readonly [header: string, next: string | undefined])[] = [
  ['</v2/a/tags/list?last=b&n=2>; rel="next"', '/v2/a/tags/list?last=b&n=2'],
  ['<x>;rel=next', 'x'],
  ['<a>; rel="prev", <b>; title="x, y"; REL="last next"', 'b'],
  ['<a>; rel=nextish', undefined],
  ['<a>', undefined],
  ['a; rel=next', undefined],
  ['', undefined],
];

for (const [header, next] of LINKS) {
  test(`link ${header}: ${next ?? 'no next page'}`, () => assert.equal(nextLink(header), next));
}

test('link: takes no time, whatever it is', () => {
  for (const text of [' ', ';', ';a', '; ', '<', ',', ';a="', ' ;a =']) {
    assert.equal(nextLink(`<x>${text.repeat(50_000)}`), undefined);
  }
});

const NOW = Date.UTC(2026, 0, 1, 12, 0, 0);
const WAITS: readonly (readonly [header: string | undefined, ms: number | undefined])[] = [
  [undefined, undefined],
  ['0', 0],
  ['120', 120_000],
  [' 5 ', 5000],
  ['Thu, 01 Jan 2026 12:00:30 GMT', 30_000],
  ['Thu, 01 Jan 2026 11:00:00 GMT', 0],
  ['-1', undefined],
  ['1.5', undefined],
  ['99999999999999999999', undefined],
  ['soon', undefined],
  ['2026-01-01T12:00:30Z', undefined],
];

for (const [header, ms] of WAITS) {
  test(`Retry-After ${header ?? '(none)'}: ${ms ?? 'nothing'}`, () => assert.equal(parseRetryAfter(header, NOW), ms));
}

test('retry: pauses double up to a bound, and end with tries or time', () => {
  const error = { isTransient: true, retryAfterMs: undefined };
  const policy = { ...DEFAULT_RETRY, attempts: 10, totalMs: 1_000_000 };
  const pauses = [1, 2, 3, 8, 9].map((failed) => pauseBefore(policy, error, failed, 0, 1));
  assert.deepEqual(pauses, [250, 500, 1000, 30_000, 30_000]);
  assert.equal(pauseBefore(policy, error, 1, 0, 0), 125);
  assert.equal(pauseBefore(policy, error, 10, 0, 1), undefined);
  assert.equal(pauseBefore(policy, error, 1, 999_900, 1), undefined);
  assert.equal(pauseBefore(policy, { ...error, isTransient: false }, 1, 0, 1), undefined);
  assert.equal(pauseBefore(policy, { ...error, retryAfterMs: 7000 }, 1, 0, 1), 7000);
  assert.equal(pauseBefore(policy, { ...error, retryAfterMs: 30_001 }, 1, 0, 1), undefined);
});

for (const [host, isIt] of [
  ['localhost', true],
  ['LOCALHOST:80', true],
  ['127.0.0.1', true],
  ['127.1.2.3:5000', true],
  ['[::1]', true],
  ['[0:0:0:0:0:0:0:1]:5000', true],
  ['localhost.evil.test', false],
  ['127.0.0.1.evil.test', false],
  ['127.evil.test:1', false],
  ['0.0.0.0', false],
  ['[::]', false],
  ['[::ffff:127.0.0.1]', false],
  ['10.0.0.1', false],
] as const) {
  test(`host ${host}: is ${isIt ? '' : 'not '}loopback`, () => assert.equal(isLoopback(host), isIt));
}

const HTTPS = new URL('https://registry.test/v2/a/manifests/b?x=1');
const HTTP = new URL('http://localhost:5000/v2/');
const TARGETS: readonly (readonly [from: URL, to: string, result: string])[] = [
  [HTTPS, '/blob?signature=1#fragment', 'https://registry.test/blob?signature=1'],
  [HTTPS, 'c', 'https://registry.test/v2/a/manifests/c'],
  [HTTPS, 'https://cdn.test/x', 'https://cdn.test/x'],
  [HTTPS, '//cdn.test/x', 'https://cdn.test/x'],
  [HTTPS, 'http://registry.test/x', 'insecure'],
  [HTTPS, 'http://localhost/x', 'insecure'],
  [HTTPS, 'javascript:alert(1)', 'protocol'],
  [HTTPS, 'file:///etc/shadow', 'protocol'],
  [HTTPS, 'https://a:b@cdn.test/', 'protocol'],
  [HTTPS, 'https://', 'protocol'],
  [HTTP, 'http://localhost:5000/y', 'http://localhost:5000/y'],
  [HTTP, 'http://plain.test/y', 'http://plain.test/y'],
  [HTTP, 'http://other.test/y', 'insecure'],
  [HTTP, 'https://other.test/y', 'https://other.test/y'],
];

for (const [from, to, result] of TARGETS) {
  test(`from ${from.protocol}//${from.host} to ${to}: ${result}`, () => {
    let found: string;
    try {
      found = nextUrl(to, from, 'it', (host) => host === 'plain.test' || isLoopback(host)).href;
    } catch (error) {
      found = (error as { kind?: string }).kind ?? String(error);
    }
    assert.equal(found, result);
  });
}

for (const [realm, from, result] of [
  ['https://auth.test/token', HTTPS, 'https://auth.test/token'],
  ['http://registry.test/token', HTTPS, 'insecure'],
  ['http://localhost/token', HTTPS, 'insecure'],
  ['http://localhost:5001/token', HTTP, 'http://localhost:5001/token'],
  ['http://auth.test/token', HTTP, 'insecure'],
  ['https://auth.test/token', HTTP, 'https://auth.test/token'],
  ['/token', HTTPS, 'protocol'],
  ['https://u:p@auth.test/', HTTPS, 'protocol'],
  [undefined, HTTPS, 'protocol'],
] as const) {
  test(`token server ${realm ?? '(none)'} of ${from.host}: ${result}`, () => {
    let found: string;
    try {
      found = parseRealm(realm, from, () => false).href;
    } catch (error) {
      found = (error as { kind?: string }).kind ?? String(error);
    }
    assert.equal(found, result);
  });
}
