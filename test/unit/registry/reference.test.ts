/** Names as Docker and containerd read them: the tables of github.com/distribution/reference. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { familiarReference, formatReference, parseReference, RegistryError } from '../../../src/registry/index.js';

const HEX = 'f'.repeat(64);
const DIGEST = `sha256:${HEX}`;

/** What is typed; registry, repository, tag and digest. */
const PARSED: readonly (readonly [
  text: string,
  domain: string,
  path: string,
  tag?: string | undefined,
  digest?: string,
])[] = [
  ['test_com', 'docker.io', 'library/test_com', 'latest'],
  ['test.com:tag', 'docker.io', 'library/test.com', 'tag'],
  ['test.com:5000', 'docker.io', 'library/test.com', '5000'],
  ['test.com/repo:tag', 'test.com', 'repo', 'tag'],
  ['test:5000/repo', 'test:5000', 'repo', 'latest'],
  ['test:5000/repo:tag', 'test:5000', 'repo', 'tag'],
  [`test:5000/repo@${DIGEST}`, 'test:5000', 'repo', undefined, DIGEST],
  [`test:5000/repo:tag@${DIGEST}`, 'test:5000', 'repo', 'tag', DIGEST],
  ['lowercase:Uppercase', 'docker.io', 'library/lowercase', 'Uppercase'],
  ['sub-dom1.foo.com/bar/baz/quux:some-long-tag', 'sub-dom1.foo.com', 'bar/baz/quux', 'some-long-tag'],
  ['b.gcr.io/test.example.com/my-app:test.example.com', 'b.gcr.io', 'test.example.com/my-app', 'test.example.com'],
  ['xn--n3h.com/myimage:xn--n3h.com', 'xn--n3h.com', 'myimage', 'xn--n3h.com'],
  ['foo/foo_bar.com:8080', 'docker.io', 'foo/foo_bar.com', '8080'],
  ['192.168.1.1', 'docker.io', 'library/192.168.1.1', 'latest'],
  ['192.168.1.1:5000/repo:5050', '192.168.1.1:5000', 'repo', '5050'],
  ['[2001:db8::1]/repo', '[2001:db8::1]', 'repo', 'latest'],
  ['[2001:db8:1:2:3:4:5:6]/repo:tag', '[2001:db8:1:2:3:4:5:6]', 'repo', 'tag'],
  [`[2001:db8::1]:5000/repo:tag@${DIGEST}`, '[2001:db8::1]:5000', 'repo', 'tag', DIGEST],
  ['[::1]:5000/repo', '[::1]:5000', 'repo', 'latest'],
  ['localhost/fooo/bar', 'localhost', 'fooo/bar', 'latest'],
  ['localhost:5000/a', 'localhost:5000', 'a', 'latest'],
  ['LOCALDOMAIN/fooo', 'LOCALDOMAIN', 'fooo', 'latest'],
  ['FOO/bar', 'FOO', 'bar', 'latest'],
  ['docker.io/debian', 'docker.io', 'library/debian', 'latest'],
  ['index.docker.io/library/debian', 'docker.io', 'library/debian', 'latest'],
  ['index.docker.io/debian', 'docker.io', 'library/debian', 'latest'],
  ['library/foo/bar', 'docker.io', 'library/foo/bar', 'latest'],
  ['store/foo/bar', 'docker.io', 'store/foo/bar', 'latest'],
  ['docker---rules/docker', 'docker.io', 'docker---rules/docker', 'latest'],
  ['dock__er/docker', 'docker.io', 'dock__er/docker', 'latest'],
  [`example.com/${'a'.repeat(255)}:tag`, 'example.com', 'a'.repeat(255), 'tag'],
  [
    'docker.io/1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a',
    'docker.io',
    'library/1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f1e3d5d7c9b1a3f5e7d9c1b3a',
    'latest',
  ],
  ['dbcc1', 'docker.io', 'library/dbcc1', 'latest'],
  [`redis@sha512:${HEX}${HEX}`, 'docker.io', 'library/redis', undefined, `sha512:${HEX}${HEX}`],
];

for (const [text, domain, path, tag, digest] of PARSED) {
  test(`reference ${text.slice(0, 80)}: is ${domain} ${path.slice(0, 40)}`, () => {
    const reference = parseReference(text);
    assert.deepEqual(reference, { domain, path, tag, digest });
    assert.deepEqual(parseReference(formatReference(reference)), reference);
    assert.deepEqual(parseReference(familiarReference(reference)), reference);
  });
}

const REFUSED: readonly (readonly [text: string, why: RegExp])[] = [
  ['', /it is empty/],
  [':justtag', /no repository/],
  [`@${DIGEST}`, /no repository/],
  ['repo@sha256:ffffffffffffffffffffffffffffffffff', /digest/],
  [`validname@invaliddigest:${HEX}`, /digest/],
  [`repo@sha256:${HEX.toUpperCase()}`, /digest/],
  ['Uppercase:tag', /lower case/],
  ['test:5000/Uppercase/lowercase:tag', /lower case/],
  [`domain/${'a'.repeat(256)}:tag`, /longer than 255/],
  ['aa/asdf$$^/aa', /no repository/],
  ['[2001:db8::1]', /no repository|no registry/],
  ['[2001:db8::1]:5000', /no repository|no registry/],
  ['[fe80::1%eth0]:5000/repo', /no registry/],
  ['[2001:db8:3:4::192.0.2.33]:5000/debian', /no registry/],
  ['fc00::1:5000/debian', /no registry/],
  ['https://github.com/docker/docker', /no registry/],
  ['docker/Docker', /lower case/],
  ['-docker', /no repository/],
  ['-docker/docker', /no repository/],
  ['-docker.io/docker/docker', /no registry/],
  ['docker///docker', /no repository/],
  ['docker.io/docker///docker', /no repository/],
  ['docker-/docker', /no repository/],
  ['____/____', /no repository/],
  ['dock..er/docker', /no registry/],
  ['dock_.er/docker', /no registry/],
  ['docker/', /no repository/],
  ['docker.io/', /no repository/],
  ['a:b:c', /no tag/],
  ['a:-foo', /no tag/],
  ['a: b', /no tag/],
  ['a\n', /no repository/],
  ['a:tag\n', /no tag/],
  [HEX, /identifier/],
  ['x'.repeat(2000), /longer than 1024/],
];

for (const [text, why] of REFUSED) {
  test(`reference ${JSON.stringify(text.slice(0, 60))}: refused`, () => {
    assert.throws(
      () => parseReference(text),
      (error) => error instanceof RegistryError && error.kind === 'bad-reference' && why.test(error.message),
    );
  });
}

const FAMILIAR: readonly (readonly [text: string, short: string])[] = [
  ['docker.io/library/ubuntu:20.04', 'ubuntu:20.04'],
  [`ubuntu@${DIGEST}`, `ubuntu@${DIGEST}`],
  ['docker.io/dmcgowan/myapp', 'dmcgowan/myapp:latest'],
  ['docker.io/library/foo/bar', 'library/foo/bar:latest'],
  ['example.com:8000/privatebasee', 'example.com:8000/privatebasee:latest'],
  // Each would be read as another repository.
  ['docker.io/foo.bar/baz', 'docker.io/foo.bar/baz:latest'],
  ['docker.io/localhost/baz', 'docker.io/localhost/baz:latest'],
  [`docker.io/library/${HEX}`, `docker.io/library/${HEX}:latest`],
];

for (const [text, short] of FAMILIAR) {
  test(`reference ${text.slice(0, 60)}: is shown as ${short.slice(0, 60)}`, () => {
    assert.equal(familiarReference(parseReference(text)), short);
  });
}

test('reference: what is accepted is stable, and what is shown is the same, whatever is typed', () => {
  const piece = fc.constantFrom(
    'a',
    'A',
    '0',
    '.',
    ':',
    '/',
    '@',
    '-',
    '_',
    '[',
    ']',
    'docker.io',
    'localhost',
    DIGEST,
    ' ',
    '\n',
    '%',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const text = pieces.join('');
      let reference: ReturnType<typeof parseReference>;
      try {
        reference = parseReference(text);
      } catch (error) {
        assert.ok(error instanceof RegistryError);
        return;
      }
      assert.deepEqual(parseReference(formatReference(reference)), reference);
      assert.deepEqual(parseReference(familiarReference(reference)), reference);
      assert.match(reference.path, /^[a-z0-9][a-z0-9/._-]*$/);
    }),
    { numRuns: 3000 },
  );
});
