import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it, test } from 'node:test';
import fc from 'fast-check';
import { findHosts, hostFolders } from '../../../src/registry/hosts.js';
import { parseHostsFile } from '../../../src/registry/hosts-file.js';
import { RegistryError } from '../../../src/registry/index.js';

const ALL = ['pull', 'resolve', 'push', 'referrers'];

/** containerd's own example, and what it makes of it. */
const EXAMPLE = `
server = "https://test-default.registry"
ca = "/etc/path/default"
[header]
  x-custom-1 = "custom header"
[host."https://mirror.registry"]
  capabilities = ["pull"]
  ca = "mirror.pem"
  skip_verify = false
  [host."https://mirror.registry".header]
    x-custom-2 = ["value1", "value2"]
[host."https://mirror-bak.registry/us"]
  capabilities = ["pull"]
  skip_verify = true
[host."http://mirror.registry"]
  capabilities = ["Pull"]
[host."https://test-1.registry"]
  capabilities = ["pull", "resolve", "push", "referrers"]
  ca = ["/etc/certs/test-1-ca.pem", "special.pem"]
  client = [["/etc/certs/client.cert", "/etc/certs/client.key"],["/etc/certs/client.pem", ""]]
[host."https://test-2.registry"]
  client = "/etc/certs/client.pem"
[host."https://test-3.registry"]
  client = ["/etc/certs/client-1.pem", "/etc/certs/client-2.pem"]
[host."https://noncompliantmirror.registry/v2/namespaceprefix"]
  capabilities = ["pull"]
  override_path = true
[host."https://noprefixnoncompliant.registry"]
  override_path = true
[host."https://dial-timeout.registry"]
  dial_timeout = "3s"
[host."plain.registry:5000"]
`;

test('hosts.toml: hosts in their order, the server last, paths beside the file', () => {
  const { hosts, warnings } = parseHostsFile(EXAMPLE, '/d/hosts.toml', '/d');
  assert.deepEqual(warnings, []);
  const urls = hosts.map(({ server }) => `${server?.scheme}://${server?.host}${server?.path}`);
  assert.deepEqual(urls, [
    'https://mirror.registry/v2',
    'https://mirror-bak.registry/us/v2',
    'http://mirror.registry/v2',
    'https://test-1.registry/v2',
    'https://test-2.registry/v2',
    'https://test-3.registry/v2',
    'https://noncompliantmirror.registry/v2/namespaceprefix',
    'https://noprefixnoncompliant.registry',
    'https://dial-timeout.registry/v2',
    'https://plain.registry:5000/v2',
    'https://test-default.registry/v2',
  ]);
  assert.deepEqual(
    hosts.map(({ capabilities }) => capabilities.length),
    [1, 1, 1, 4, 4, 4, 1, 4, 4, 4, 4],
  );
  assert.deepEqual(hosts.map(({ skipVerify }) => skipVerify).indexOf(true), 1);
  assert.deepEqual(hosts[0]?.headers, { 'x-custom-2': ['value1', 'value2'] });
  assert.deepEqual(hosts[0]?.ca, ['/d/mirror.pem']);
  assert.deepEqual(hosts[3]?.ca, ['/etc/certs/test-1-ca.pem', '/d/special.pem']);
  assert.deepEqual(hosts[3]?.client, [
    ['/etc/certs/client.cert', '/etc/certs/client.key'],
    ['/etc/certs/client.pem', ''],
  ]);
  assert.deepEqual(hosts[5]?.client, [
    ['/etc/certs/client-1.pem', ''],
    ['/etc/certs/client-2.pem', ''],
  ]);
  assert.equal(hosts[8]?.dialTimeoutMs, 3000);
  assert.deepEqual([hosts[10]?.ca, hosts[10]?.headers], [['/etc/path/default'], { 'x-custom-1': ['custom header'] }]);
});

for (const [what, text, pattern] of [
  ['is no TOML', 'server = ', /hosts\.toml: /],
  ['has a capability that is not known', 'capabilities = ["fly"]', /capabilities: pull, resolve/],
  ['has a server with a password', 'server = "https://a:b@c"', /the URL|at most a path/],
  ['has a server that is no URL', 'server = "https://:x"', /the URL/],
  ['has a server of another scheme', 'server = "httpx://a"', /http:\/\/ or https/],
  ['has a flag that is text', 'skip_verify = "yes"', /skip_verify: true or false/],
  ['has half a pair', 'client = [["a"]]', /client: pairs/],
  ['has three of a pair', 'client = [["a","b","c"]]', /client: pairs/],
  ['has a number for a file', 'ca = 7', /ca: the path/],
  ['has a header with a line break', '[header]\nx = "a\\nb"', /header\.x: text/],
  ['has a header whose name is none', '[header]\n"a b" = "c"', /header's name/],
  ['has a time that is none', 'dial_timeout = "soon"', /dial_timeout: a duration/],
  ['has a host that is no table', 'host = 7', /host: tables/],
] as const) {
  test(`hosts.toml that ${what}: refused by name of file and key`, () => {
    assert.throws(
      () => parseHostsFile(text, '/d/hosts.toml', '/d'),
      (error) => error instanceof RegistryError && error.kind === 'config' && pattern.test(error.message),
    );
  });
}

test('hosts.toml: a key that is not known is told, as it may be a mistake', () => {
  const { warnings } = parseHostsFile('skip_verfiy = true\n[host."https://a"]\nserver="x"', 'f', '/');
  assert.deepEqual(warnings, [
    'f: "skip_verfiy" is not known and has no effect',
    'f: host."https://a": "server" is not known and has no effect',
  ]);
});

test('hosts.toml: whatever it is, it is parsed or refused by an error of ours', () => {
  const line = fc.constantFrom(
    'server = "a"',
    '[host."b"]',
    '[header]',
    'ca = [[1]]',
    '__proto__ = 1',
    '[host.__proto__]',
    'client = {}',
    '=',
    'x',
    '[[host]]',
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 6 }), (lines) => {
      try {
        parseHostsFile(lines.join('\n'), 'f', '/');
      } catch (error) {
        assert.ok(error instanceof RegistryError, String(error));
      }
    }),
  );
});

test('folders of a registry: with a port in both spellings, then the default', () => {
  assert.deepEqual(hostFolders('/c', 'a.test:5000'), ['/c/a.test_5000_', '/c/a.test:5000', '/c/_default']);
  assert.deepEqual(hostFolders('/c', 'docker.io'), ['/c/docker.io', '/c/_default']);
  assert.deepEqual(hostFolders('/c', '[::1]:5000'), ['/c/[::1]_5000_', '/c/[::1]:5000', '/c/_default']);
});

describe('the hosts of a registry', () => {
  let root: string;

  before(() => {
    root = mkdtempSync(join(tmpdir(), 'lamina-hosts-'));
    const write = (path: string, text: string): void => {
      mkdirSync(join(root, path, '..'), { recursive: true });
      writeFileSync(join(root, path), text);
    };
    write(
      'docker.io/hosts.toml',
      'server = "https://docker.io"\n[host."https://mirror.test"]\ncapabilities = ["pull"]\n',
    );
    write('certs.test/ca.crt', 'CA');
    write('certs.test/client.cert', 'CERT');
    write('certs.test/client.key', 'KEY');
    write('certs.test/alone.cert', 'BOTH');
    write('gone.test/hosts.toml', 'ca = "gone.pem"');
    write('_default/hosts.toml', 'server = "https://default.test"');
  });
  after(() => rmSync(root, { recursive: true, force: true }));

  const find = (domain: string, hostsDir: string | undefined = root) =>
    findHosts(domain, { hostsDir, isPlain: (host) => host.startsWith('plain.test'), warn: () => undefined });
  const urls = (domain: string, hostsDir?: string) =>
    find(domain, hostsDir).map(
      ({ scheme, host, path, isMirror }) => `${scheme}://${host}${path}${isMirror ? ' ns' : ''}`,
    );

  it('are the configured ones, a mirror being told which registry is meant', () => {
    assert.deepEqual(urls('docker.io'), ['https://mirror.test/v2 ns', 'https://registry-1.docker.io/v2']);
    assert.deepEqual(urls('other.test:5000'), ['https://default.test/v2 ns']);
    assert.deepEqual(
      find('docker.io').map(({ capabilities }) => capabilities),
      [['pull'], ALL],
    );
  });

  it('are the registry itself where nothing is configured', () => {
    for (const [domain, url] of [
      ['docker.io', 'https://registry-1.docker.io/v2'],
      ['a.test:5000', 'https://a.test:5000/v2'],
      ['localhost:5000', 'auto://localhost:5000/v2'],
      ['127.0.0.1:80', 'http://127.0.0.1:80/v2'],
      ['[::1]:443', 'https://[::1]:443/v2'],
      ['localhost', 'https://localhost/v2'],
      ['plain.test:5000', 'http://plain.test:5000/v2'],
    ] as const) {
      assert.deepEqual(urls(domain, join(root, 'never')), [url]);
    }
  });

  it("have the certificates of Docker's layout", () => {
    assert.deepEqual(find('certs.test')[0]?.tls, {
      ca: ['CA'],
      client: [
        { cert: 'BOTH', key: 'BOTH' },
        { cert: 'CERT', key: 'KEY' },
      ],
      skipVerify: false,
    });
  });

  it('are not guessed when a file is missing or a port is none', () => {
    assert.throws(() => find('gone.test'), /gone\.pem/);
    assert.throws(
      () => findHosts('a.test:99999', { hostsDir: undefined, isPlain: () => false, warn: () => undefined }),
      /no host/,
    );
  });
});
