import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it, test } from 'node:test';
import fc from 'fast-check';
import { askHelper, isHelperName } from '../../../src/registry/credential-helper.js';
import { credentialsIn, hostOfKey, parseDockerConfig } from '../../../src/registry/docker-config.js';
import { type Credentials, credentialsFor, dockerCredentials, RegistryError } from '../../../src/registry/index.js';
import { until } from '../../lib/wait.js';

const signal = new AbortController().signal;
const basic = (pair: string): string => Buffer.from(pair).toString('base64');
const password = (username: string, word: string): Credentials => ({ kind: 'password', username, password: word });

const CONFIG = JSON.stringify({
  auths: {
    'https://index.docker.io/v1/': { auth: basic('hub:with:colons') },
    'a.test:5000': { username: 'plain', password: 'word' },
    'https://b.test/v2/': { auth: basic('padded:word\0\0') },
    'c.test': { identitytoken: 'refresh', auth: basic('x:y') },
    'd.test': { registrytoken: 'bearer' },
    'empty.test': {},
  },
  proxies: { default: {} },
});

for (const [host, expected] of [
  ['docker.io', password('hub', 'with:colons')],
  ['registry-1.docker.io', password('hub', 'with:colons')],
  ['a.test:5000', password('plain', 'word')],
  ['a.test', undefined],
  ['b.test', password('padded', 'word')],
  ['B.TEST', password('padded', 'word')],
  ['c.test', { kind: 'identity', token: 'refresh' }],
  ['d.test', { kind: 'bearer', token: 'bearer' }],
  ['empty.test', undefined],
  ['__proto__', undefined],
  ['constructor', undefined],
] as const) {
  test(`config.json: credentials for ${host}`, async () => {
    assert.deepEqual(await credentialsIn(parseDockerConfig(CONFIG, 'f'), host, true, {}), expected);
  });
}

test('config.json: what is wrong is told by its place, and secrets are not', () => {
  for (const text of [
    '{"auths":{"x":{"auth":"c2VjcmV0"}}}',
    '{"auths":[]}',
    '{"auths":{"x":7}}',
    'secret',
    '[]',
    '{"credHelpers":7}',
  ]) {
    assert.throws(
      () => parseDockerConfig(text, '/r/config.json'),
      (error) =>
        error instanceof RegistryError &&
        error.kind === 'config' &&
        /config\.json/.test(error.message) &&
        !/secret/.test(error.message),
      text,
    );
  }
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), (auths, credHelpers) => {
      try {
        parseDockerConfig(JSON.stringify({ auths, credHelpers }), 'f');
      } catch (error) {
        assert.ok(error instanceof RegistryError);
      }
    }),
  );
});

test('config.json: keys may be URLs', () => {
  assert.equal(hostOfKey('https://a.test:5000/v1/'), 'a.test:5000');
  assert.equal(hostOfKey('http://a.test'), 'a.test');
  assert.equal(hostOfKey('a.test/team'), 'a.test');
});

test('credentials for one host: no other gets them', async () => {
  const source = credentialsFor('docker.io', password('a', 'b'));
  assert.deepEqual(await source('registry-1.docker.io', signal), password('a', 'b'));
  assert.equal(await source('registry-1.docker.io.evil.test', signal), undefined);
});

for (const [name, isIt] of [
  ['pass', true],
  ['ecr-login', true],
  ['osx_keychain.2', true],
  ['', false],
  ['../evil', false],
  ['a/b', false],
  ['-x', false],
  ['.hidden', false],
  ['a b', false],
  ['a;b', false],
  ['a\n', false],
  ['x'.repeat(65), false],
] as const) {
  test(`credential helper ${JSON.stringify(name.slice(0, 20))}: ${isIt ? 'a' : 'no'} name`, () => {
    assert.equal(isHelperName(name), isIt);
  });
}

describe('a credential helper', () => {
  let folder: string;
  let env: NodeJS.ProcessEnv;

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'lamina-helper-'));
    env = { PATH: `${folder}:/usr/bin:/bin`, HOME: folder };
    const write = (name: string, script: string): void => {
      const path = join(folder, `docker-credential-${name}`);
      writeFileSync(path, `#!/bin/sh\n${script}\n`);
      chmodSync(path, 0o755);
    };
    write('good', `read -r server; printf '{"ServerURL":"%s","Username":"%s","Secret":"%s"}' "$server" "$1" "$server"`);
    write('token', `cat >/dev/null; printf '{"Username":"<token>","Secret":"refresh"}'`);
    write('none', 'cat >/dev/null; echo "credentials not found in native keychain"; exit 1');
    write('broken', `printf 'it is \\033[31mlocked'; exit 3`);
    write('garbage', 'echo hello');
    write('half', `echo '{"Username":"x"}'`);
    write('null', 'echo null');
    write('flood', 'yes');
    write('hangs', `sleep 1000 & echo $! > ${folder}/pid; wait`);
    write('deaf', `exec 0<&-; printf '{"Username":"a","Secret":"b"}'`);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** An orphan that was killed may stay a zombie where nothing reaps it. */
  const isAlive = (pid: number): boolean => {
    try {
      return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
    } catch {
      return false;
    }
  };
  const ask = async (name: string, more: object = {}) => await askHelper(name, 'https://a.test', { env, ...more });
  const fails = async (work: Promise<unknown>, pattern: RegExp): Promise<void> => {
    await assert.rejects(
      work,
      (error) => error instanceof RegistryError && error.kind === 'credentials' && pattern.test(error.message),
    );
  };

  it('is asked by its standard input and answers with JSON', async () => {
    assert.deepEqual(await ask('good'), password('get', 'https://a.test'));
    assert.deepEqual(await ask('token'), { kind: 'identity', token: 'refresh' });
    assert.equal(await ask('none'), undefined);
    assert.deepEqual(await ask('deaf'), password('a', 'b'));
  });

  it('that fails, is not there, or says something else is an error with its name', async () => {
    await fails(ask('broken'), /docker-credential-broken: ended with 3: it is \[31mlocked/);
    await fails(ask('missing'), /docker-credential-missing: .*ENOENT/);
    await fails(ask('garbage'), /no JSON/);
    await fails(ask('half'), /no Username and Secret/);
    await fails(ask('null'), /no Username and Secret/);
    await fails(ask('../evil'), /no name of a credential helper/);
    await fails(askHelper('good', 'a\nb', { env }), /line breaks/);
  });

  it('that floods is ended, and so is one that hangs, with its children', async () => {
    await fails(ask('flood'), /more than 65536 bytes/);
    await fails(ask('hangs', { timeLimitMs: 300 }), /no answer within 300 ms/);
    const pid = readFileSync(join(folder, 'pid'), 'utf8').trim();
    await until('its child is gone', () => !isAlive(Number(pid)));
  });

  it('is given up by a signal', async () => {
    await assert.rejects(ask('hangs', { signal: AbortSignal.timeout(50) }), (error) => {
      return error instanceof RegistryError && error.kind === 'aborted';
    });
  });

  it('is named by config.json, for one host or all', async () => {
    mkdirSync(join(folder, '.docker'));
    const file = join(folder, '.docker/config.json');
    const config = {
      credHelpers: { 'a.test': 'token', 'index.docker.io': 'good' },
      credsStore: 'none',
      auths: { 'c.test': { auth: basic('u:p') } },
    };
    writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
    const source = dockerCredentials({ env });
    assert.deepEqual(await source('a.test', signal), { kind: 'identity', token: 'refresh' });
    assert.deepEqual(await source('registry-1.docker.io', signal), password('get', 'https://index.docker.io/v1/'));
    assert.deepEqual(await source('c.test', signal), password('u', 'p'));
    assert.equal(await source('d.test', signal), undefined);
    // Who can write the file could have any program in PATH run.
    chmodSync(file, 0o666);
    await fails(source('a.test', signal), /is not run/);
    rmSync(file);
    assert.equal(await source('a.test', signal), undefined);
  });
});
