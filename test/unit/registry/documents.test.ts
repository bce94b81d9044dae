import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cleanText, refusal } from '../../../src/registry/errors.js';
import {
  DEFAULT_LIMITS,
  digestOf,
  isDigest,
  MediaType,
  parseManifest,
  RegistryError,
} from '../../../src/registry/index.js';

const DIGEST = digestOf(Buffer.from('x'));
const entry = { mediaType: MediaType.OciLayerGzip, digest: DIGEST, size: 1 };
const parse = (value: unknown, type?: string) =>
  parseManifest(Buffer.from(JSON.stringify(value)), type, 'it', DEFAULT_LIMITS);

test('manifest: only what is known is kept, and nothing reaches a prototype', () => {
  const text = `{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"${DIGEST}","size":1,"urls":["http://evil"],"data":"eA==",
    "annotations":{"__proto__":"x","a":"b"}},"layers":null,"__proto__":{"polluted":true}}`;
  const manifest = parseManifest(Buffer.from(text), MediaType.OciManifest, 'it', DEFAULT_LIMITS);
  assert.ok(manifest.kind === 'manifest');
  assert.deepEqual(
    Object.keys(manifest.config).sort((a, b) => (a < b ? -1 : 1)),
    ['annotations', 'digest', 'mediaType', 'size'],
  );
  assert.deepEqual(Object.entries(manifest.config.annotations ?? {}), [
    ['__proto__', 'x'],
    ['a', 'b'],
  ]);
  assert.equal('polluted' in {}, false);
  assert.equal('polluted' in manifest, false);
});

test('manifest: its type is what is said of it and by it, when that agrees', () => {
  const manifest = { config: entry, layers: [entry] };
  assert.equal(parse(manifest, MediaType.DockerManifest).mediaType, MediaType.DockerManifest);
  assert.equal(parse(manifest, 'application/json').mediaType, MediaType.OciManifest);
  assert.equal(parse({ manifests: [] }, undefined).kind, 'index');
  assert.equal(
    parse({ ...manifest, mediaType: MediaType.OciManifest }, `${MediaType.OciManifest}; charset=utf-8`).kind,
    'manifest',
  );
  for (const [value, type, kind] of [
    [{ ...manifest, mediaType: MediaType.OciManifest }, MediaType.OciIndex, 'protocol'],
    [{ ...manifest, mediaType: 'application/x.other' }, 'application/json', 'protocol'],
    [manifest, 'application/x.other', 'protocol'],
    [{ ...manifest, manifests: [] }, MediaType.OciManifest, 'protocol'],
    [{ manifests: [], config: entry }, MediaType.OciIndex, 'protocol'],
    [{ manifests: [], layers: [] }, MediaType.DockerList, 'protocol'],
    [manifest, 'application/vnd.docker.distribution.manifest.v1+prettyjws', 'unsupported'],
    [{ schemaVersion: 1, fsLayers: [] }, 'application/json', 'unsupported'],
  ] as const) {
    assert.throws(
      () => parse(value, type),
      (error) => error instanceof RegistryError && error.kind === kind,
      type,
    );
  }
});

test('manifest: whatever JSON it is, it is parsed or refused by an error of ours', () => {
  const value = fc.oneof(fc.jsonValue(), fc.constant([entry]), fc.constant(entry), fc.constant(MediaType.OciIndex));
  const names = [
    'schemaVersion',
    'mediaType',
    'config',
    'layers',
    'manifests',
    'subject',
    'annotations',
    'artifactType',
  ];
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...names), value), (document) => {
      try {
        const parsed = parse(document, 'application/json');
        for (const part of parsed.kind === 'index' ? parsed.manifests : [parsed.config, ...parsed.layers]) {
          assert.ok(isDigest(part.digest) && Number.isSafeInteger(part.size));
        }
      } catch (error) {
        assert.ok(error instanceof RegistryError, String(error));
      }
    }),
    { numRuns: 1000 },
  );
});

for (const [text, isIt] of [
  [DIGEST, true],
  [`sha384:${'a'.repeat(96)}`, true],
  [`sha512:${'a'.repeat(128)}`, true],
  [`sha256:${'a'.repeat(63)}`, false],
  [`sha256:${'A'.repeat(64)}`, false],
  [`SHA256:${'a'.repeat(64)}`, false],
  [`md5:${'a'.repeat(32)}`, false],
  [`constructor:${'a'.repeat(64)}`, false],
  [`sha256:${'a'.repeat(64)}\n`, false],
  ['sha256', false],
  [':', false],
  ['', false],
] as const) {
  test(`digest ${JSON.stringify(text.slice(0, 30))}: ${isIt}`, () => assert.equal(isDigest(text), isIt));
}

test('words of a registry: one line, without what moves the cursor or turns the text, bounded', () => {
  assert.equal(cleanText('a\r\nb\tc'), 'a b c');
  assert.equal(
    cleanText('\u001b[31mred\u001b[0m \u202eleft\u2066 \u200bzero \u0085 \u2028 end \ud800'),
    '[31mred [0m left zero end',
  );
  assert.equal(cleanText('x'.repeat(1000), 10), `${'x'.repeat(10)}…`);
  assert.equal(cleanText('😀'.repeat(20), 3), '😀😀😀…');
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 2000 }), fc.nat({ max: 300 }), (text, most) => {
      const clean = cleanText(text, most);
      assert.doesNotMatch(clean, /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
      assert.ok([...clean].length <= most + 1);
    }),
  );
});

test('refusal: its class is of the status, or of the code that says more; only some are worth another try', () => {
  const body = (code: unknown, message: unknown = 'because') => JSON.stringify({ errors: [{ code, message }] });
  for (const [status, text, kind, isTransient, message] of [
    [404, body('MANIFEST_UNKNOWN'), 'not-found', false, 'h answered 404 "because"'],
    [403, '', 'denied', false, 'h answered 403'],
    [400, body('TOOMANYREQUESTS'), 'rate-limited', true, 'h answered 400 "because"'],
    [429, body('DENIED'), 'rate-limited', true, 'h answered 429 "because"'],
    [404, body('DENIED'), 'denied', false, 'h answered 404 "because"'],
    [503, body('DENIED'), 'server', true, 'h answered 503 "because"'],
    [501, '', 'server', false, 'h answered 501'],
    [408, '', 'timeout', true, 'h answered 408'],
    [302, '', 'protocol', false, 'h answered 302'],
    [500, '<html><body>Sorry', 'server', true, 'h answered 500'],
    [500, 'plain words', 'server', true, 'h answered 500 "plain words"'],
    [400, body(7, { a: 1 }), 'rejected', false, undefined],
    [400, '{"errors":"x"}', 'rejected', false, undefined],
    [400, 'null', 'rejected', false, undefined],
  ] as const) {
    const error = refusal('h', status, text);
    assert.deepEqual([error.kind, error.isTransient, error.status], [kind, isTransient, status]);
    if (message !== undefined) assert.equal(error.message, message);
  }
});
