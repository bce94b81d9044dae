/** Everything the client does, against Debian's docker-registry. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import {
  anonymous,
  type Credentials,
  credentialsFor,
  digestOf,
  hashFor,
  MediaType,
  Registry,
  RegistryError,
  type RegistryOptions,
} from '../../../src/registry/index.js';
import { Authority, type Certificate } from '../../lib/registry/certificates.js';
import { DebianRegistry, USER } from '../../lib/registry/debian.js';
import { collect, makeImage, pushImage, randomLayer, sourceOf } from '../../lib/registry/image.js';
import { IDENTITY, TokenServer } from '../../lib/registry/token-server.js';
import { requires } from '../../lib/requires.js';

const skip = requires({ programs: ['docker-registry', 'openssl'] });
const PASSWORD: Credentials = { kind: 'password', ...USER };

/** Runs with a client of its own. */
async function withRegistry<T>(options: RegistryOptions, work: (registry: Registry) => Promise<T>): Promise<T> {
  using registry = new Registry({ retry: { attempts: 2, baseMs: 10 }, ...options });
  return await work(registry);
}

function failsAs(kind: string, pattern = /./): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof RegistryError, String(error));
    assert.equal(error.kind, kind, error.message);
    assert.match(error.message, pattern);
    return true;
  };
}

describe('a registry without authentication', { skip }, () => {
  let server: DebianRegistry;
  const layers = [randomLayer(300_000), randomLayer(70_000)];
  const amd64 = makeImage(layers);
  const arm64 = makeImage([randomLayer(1000)], { os: 'linux', architecture: 'arm64', variant: 'v8' });

  before(async () => {
    server = await DebianRegistry.start();
  });
  after(async () => await server.stop());

  it('takes an image and gives it back', async () => {
    await withRegistry({}, async (registry) => {
      const name = `${server.host}/first/image`;
      await pushImage(registry, name, amd64, 'one');
      const repository = registry.repository(name);
      const resolved = await repository.resolve('one');
      assert.deepEqual(resolved, {
        mediaType: MediaType.OciManifest,
        digest: amd64.digest,
        size: amd64.manifest.length,
      });
      const image = await repository.image('one', { platform: { os: 'linux', architecture: 'amd64' } });
      assert.deepEqual(image.manifest.bytes, amd64.manifest);
      for (const [index, layer] of image.manifest.content.layers.entries()) {
        assert.deepEqual(await collect(repository.readBlob(layer)), layers[index]);
      }
    });
  });

  it('pushes a blob once: what is there, or in another repository, is not sent', async () => {
    await withRegistry({}, async (registry) => {
      const blob = randomLayer(50_000);
      const descriptor = { digest: digestOf(blob), size: blob.length };
      const push = async (name: string, mountFrom?: string) =>
        await registry
          .repository(`${server.host}/${name}`)
          .pushBlob(descriptor, sourceOf(blob), mountFrom === undefined ? {} : { mountFrom });
      assert.equal(await push('mount/a'), 'uploaded');
      assert.equal(await push('mount/a'), 'present');
      assert.equal(await push('mount/b', 'mount/a'), 'mounted');
      assert.equal(await push('mount/c', 'mount/never'), 'uploaded');
      assert.equal(await push('mount/d'), 'uploaded');
    });
  });

  it('pushes a blob in pieces', async () => {
    await withRegistry({}, async (registry) => {
      const blob = randomLayer(250_001);
      const descriptor = { mediaType: MediaType.OciLayer, digest: digestOf(blob), size: blob.length };
      const repository = registry.repository(`${server.host}/pieces`);
      assert.equal(await repository.pushBlob(descriptor, sourceOf(blob), { chunkBytes: 100_000 }), 'uploaded');
      assert.deepEqual(await collect(repository.readBlob(descriptor)), blob);
      const empty = { mediaType: MediaType.OciLayer, digest: digestOf(Buffer.alloc(0)), size: 0 };
      await repository.pushBlob(empty, sourceOf(Buffer.alloc(0)));
      assert.deepEqual(await collect(repository.readBlob(empty)), Buffer.alloc(0));
    });
  });

  it('refuses a source that is not what was said, and leaves no blob', async () => {
    await withRegistry({}, async (registry) => {
      const blob = randomLayer(5000);
      const repository = registry.repository(`${server.host}/liar`);
      const digest = digestOf(blob);
      await assert.rejects(
        repository.pushBlob({ digest, size: 4000 }, () => sourceOf(blob)(0, 5000)),
        failsAs('size'),
      );
      await assert.rejects(
        repository.pushBlob({ digest, size: 6000 }, () => sourceOf(blob)(0, 5000)),
        failsAs('size'),
      );
      const other = digestOf(Buffer.from('other'));
      await assert.rejects(repository.pushBlob({ digest: other, size: 5000 }, sourceOf(blob)), failsAs('rejected'));
      assert.equal(await repository.hasBlob(digest), false);
      assert.equal(await repository.hasBlob(other), false);
    });
  });

  it('reads a part of a blob, and goes on from a part with its hash', async () => {
    await withRegistry({}, async (registry) => {
      const [blob = Buffer.alloc(0)] = layers;
      const [descriptor] = amd64.layers;
      assert.ok(descriptor);
      const name = `${server.host}/ranges`;
      await pushImage(registry, name, amd64);
      const repository = registry.repository(name);
      const part = await collect(repository.readBlob(descriptor, { offset: 1000, length: 5000 }));
      assert.deepEqual(part, blob.subarray(1000, 6000));
      const hash = hashFor(descriptor.digest).update(blob.subarray(0, 1000));
      assert.deepEqual(await collect(repository.readBlob(descriptor, { offset: 1000, hash })), blob.subarray(1000));
      const wrong = hashFor(descriptor.digest).update(blob.subarray(0, 999));
      await assert.rejects(collect(repository.readBlob(descriptor, { offset: 1000, hash: wrong })), failsAs('digest'));
      await assert.rejects(collect(repository.readBlob(descriptor, { offset: 400_000 })), failsAs('rejected'));
    });
  });

  it('chooses the manifest for a platform', async () => {
    await withRegistry({}, async (registry) => {
      const name = `${server.host}/multi`;
      await pushImage(registry, name, amd64);
      await pushImage(registry, name, arm64);
      const entry = (digest: string, size: number, platform: object) => ({
        mediaType: MediaType.OciManifest,
        digest,
        size,
        platform,
      });
      const index = {
        schemaVersion: 2,
        mediaType: MediaType.OciIndex,
        manifests: [
          entry(arm64.digest, arm64.manifest.length, { os: 'linux', architecture: 'arm64', variant: 'v8' }),
          entry(amd64.digest, amd64.manifest.length, { os: 'linux', architecture: 'amd64' }),
        ],
      };
      const repository = registry.repository(name);
      await repository.pushManifest(Buffer.from(JSON.stringify(index)), { tag: 'all' });
      const chosen = async (architecture: string, variant?: string) => {
        const platform = { os: 'linux', architecture, variant };
        return (await repository.image('all', { platform })).manifest.descriptor.digest;
      };
      assert.equal(await chosen('amd64', 'v3'), amd64.digest);
      assert.equal(await chosen('arm64'), arm64.digest);
      assert.equal(await chosen('arm64', 'v9.2'), arm64.digest);
      await assert.rejects(
        chosen('s390x'),
        failsAs('no-platform', /linux\/s390x; there is linux\/arm64\/v8, linux\/amd64/),
      );
    });
  });

  it('lists tags over pages', async () => {
    await withRegistry({}, async (registry) => {
      const name = `${server.host}/tags`;
      await pushImage(registry, name, arm64);
      const repository = registry.repository(name);
      const tags = ['a', 'b', 'c', 'd', 'e'];
      for (const tag of tags) await repository.pushManifest(arm64.manifest, { tag });
      const list = async (pageSize?: number) => {
        const found: string[] = [];
        for await (const tag of repository.tags(pageSize === undefined ? {} : { pageSize })) found.push(tag);
        return found.sort((a, b) => a.localeCompare(b));
      };
      assert.deepEqual(await list(), tags);
      assert.deepEqual(await list(2), tags);
    });
  });

  it('keeps the list of referrers itself where the registry has none', async () => {
    await withRegistry({}, async (registry) => {
      const name = `${server.host}/signed`;
      await pushImage(registry, name, amd64, 'latest');
      const repository = registry.repository(name);
      const empty = Buffer.from('{}');
      const config = { mediaType: MediaType.OciEmpty, digest: digestOf(empty), size: 2 };
      await repository.pushBlob(config, sourceOf(empty));
      const subject = { mediaType: MediaType.OciManifest, digest: amd64.digest, size: amd64.manifest.length };
      const attach = async (artifactType: string) =>
        await repository.pushManifest(
          Buffer.from(
            JSON.stringify({
              schemaVersion: 2,
              mediaType: MediaType.OciManifest,
              artifactType,
              config,
              layers: [],
              subject,
            }),
          ),
        );
      assert.deepEqual(await repository.referrers(amd64.digest), []);
      const signature = await attach('application/x.signature');
      const bill = await attach('application/x.bill');
      await attach('application/x.bill');
      const digests = (found: readonly { digest: string }[]) => found.map(({ digest }) => digest);
      assert.deepEqual(digests(await repository.referrers(amd64.digest)), [signature.digest, bill.digest]);
      const bills = await repository.referrers(amd64.digest, { artifactType: 'application/x.bill' });
      assert.deepEqual(digests(bills), [bill.digest]);
    });
  });

  it('deletes manifests and blobs', async () => {
    await withRegistry({}, async (registry) => {
      const name = `${server.host}/gone`;
      await pushImage(registry, name, arm64, 'tag');
      const repository = registry.repository(name);
      await repository.deleteManifest(arm64.digest);
      await assert.rejects(repository.resolve('tag'), failsAs('not-found'));
      await assert.rejects(repository.deleteManifest(arm64.digest), failsAs('not-found'));
      const [layer] = arm64.layers;
      assert.ok(layer);
      await repository.deleteBlob(layer.digest);
      assert.equal(await repository.hasBlob(layer.digest), false);
    });
  });

  it('says what is not there in one line', async () => {
    await withRegistry({}, async (registry) => {
      const repository = registry.repository(`${server.host}/never/pushed`);
      await assert.rejects(
        repository.image('latest'),
        failsAs('not-found', /^fetch the manifest of 127.*never\/pushed:latest/),
      );
      await assert.rejects(collect(repository.tags() as never), failsAs('not-found'));
      const descriptor = { mediaType: MediaType.OciLayer, digest: digestOf(Buffer.from('x')), size: 1 };
      await assert.rejects(collect(repository.readBlob(descriptor)), failsAs('not-found'));
    });
  });

  it('reports attempts and operations', async () => {
    const attempts: string[] = [];
    const operations: string[] = [];
    const observer = {
      onAttempt: (report: { operation: string; error: string | undefined; bytes: number }) => {
        attempts.push(`${report.operation} ${report.error ?? 'ok'} ${report.bytes}`);
      },
      onOperation: (report: { operation: string; result: string; attempts: number; bytes: number }) => {
        operations.push(`${report.operation} ${report.result} ${report.attempts} ${report.bytes}`);
        throw new Error('a hook that throws disturbs nothing');
      },
    };
    await withRegistry({ observer }, async (registry) => {
      const repository = registry.repository(`${server.host}/first/image`);
      const [layer] = amd64.layers;
      assert.ok(layer);
      await collect(repository.readBlob(layer));
      await assert.rejects(repository.resolve('never'));
    });
    assert.deepEqual(attempts, ['blob ok 300000', 'resolve not-found 0']);
    assert.deepEqual(operations, ['blob ok 1 300000', 'resolve not-found 1 0']);
  });
});

describe('a registry with TLS', { skip }, () => {
  let folder: string;
  let authority: Authority;
  let client: Certificate;
  let server: DebianRegistry;
  const image = makeImage([randomLayer(1000)]);

  /** A hosts folder that configures the server. */
  function hostsDir(lines: readonly string[], name = server.host): string {
    const root = mkdtempSync(join(folder, 'hosts-'));
    mkdirSync(join(root, name));
    writeFileSync(join(root, name, 'hosts.toml'), lines.join('\n'));
    return root;
  }

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'lamina-tls-'));
    authority = new Authority(join(folder, 'ca'));
    client = authority.issue('client');
    server = await DebianRegistry.start({ tls: authority.issue('server'), clientCa: authority.ca.cert });
  });
  after(async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it('is reached with its authority and a client certificate', async () => {
    const lines = [
      `ca = "${authority.ca.cert}"`,
      `client = [["${client.cert}", "${client.key}"]]`,
      '[header]',
      'x-test = "yes"',
    ];
    await withRegistry({ hostsDir: hostsDir(lines) }, async (registry) => {
      await pushImage(registry, `${server.host}/tls`, image, 'latest');
      assert.equal((await registry.repository(`${server.host}/tls`).resolve('latest')).digest, image.digest);
    });
  });

  it('is not trusted without its authority, and never asked in plain text then', async () => {
    const lines = [`client = [["${client.cert}", "${client.key}"]]`];
    for (const options of [{}, { hostsDir: hostsDir(lines) }]) {
      await withRegistry(options, async (registry) => {
        await assert.rejects(registry.repository(`${server.host}/tls`).resolve('latest'), failsAs('tls'));
      });
    }
  });

  it('is reached without a check of its certificate where that is configured, in either layout', async () => {
    const lines = ['skip_verify = true', `client = [["${client.cert}", "${client.key}"]]`];
    await withRegistry({ hostsDir: hostsDir(lines) }, async (registry) => {
      assert.equal((await registry.repository(`${server.host}/tls`).resolve('latest')).digest, image.digest);
    });
    const root = mkdtempSync(join(folder, 'hosts-'));
    const own = join(root, `127.0.0.1_${server.port}_`);
    mkdirSync(own);
    for (const [from, to] of [
      [authority.ca.cert, 'ca.crt'],
      [client.cert, 'client.cert'],
      [client.key, 'client.key'],
    ] as const) {
      writeFileSync(join(own, to), await import('node:fs').then(({ readFileSync }) => readFileSync(from)));
    }
    await withRegistry({ hostsDir: root }, async (registry) => {
      assert.equal((await registry.repository(`${server.host}/tls`).resolve('latest')).digest, image.digest);
    });
  });

  it('refuses clients without a certificate', async () => {
    await withRegistry({ hostsDir: hostsDir([`ca = "${authority.ca.cert}"`]) }, async (registry) => {
      await assert.rejects(registry.repository(`${server.host}/tls`).resolve('latest'), (error) => {
        assert.ok(error instanceof RegistryError);
        // The refusal comes behind the handshake (TLS 1.3), as an alert or as a closed connection.
        return error.kind === 'tls' || error.kind === 'network';
      });
    });
  });

  it('serves as a mirror: what it lacks comes from the next host', async () => {
    const upstream = await DebianRegistry.start();
    try {
      await withRegistry({}, async (registry) => await pushImage(registry, `${upstream.host}/only/here`, image, 'one'));
      const lines = [
        `server = "http://${upstream.host}"`,
        `[host."https://${server.host}"]`,
        `ca = "${authority.ca.cert}"`,
        `client = [["${client.cert}", "${client.key}"]]`,
        '[host."http://127.0.0.1:1"]',
      ];
      const hosts: string[] = [];
      const observer = {
        onAttempt: ({ host, error }: { host: string; error: string | undefined }) =>
          hosts.push(`${host} ${error ?? 'ok'}`),
      };
      await withRegistry({ hostsDir: hostsDir(lines, 'images.test'), observer }, async (registry) => {
        const repository = registry.repository('images.test/only/here:one');
        assert.equal((await repository.resolve('one')).digest, image.digest);
        await repository.resolve('one');
        await repository.pushManifest(image.manifest, { tag: 'two' }).catch(() => undefined);
      });
      assert.deepEqual(hosts.slice(0, 5), [
        `${server.host} not-found`,
        '127.0.0.1:1 network',
        `${upstream.host} ok`,
        `${server.host} not-found`,
        `${upstream.host} ok`,
      ]);
    } finally {
      await upstream.stop();
    }
  });
});

describe('a registry with passwords', { skip }, () => {
  let server: DebianRegistry;
  const image = makeImage([randomLayer(1000)]);

  before(async () => {
    server = await DebianRegistry.start({ htpasswd: true });
  });
  after(async () => await server.stop());

  it('is used with the right one only', async () => {
    const name = `${server.host}/private`;
    const right = credentialsFor(server.host, PASSWORD);
    await withRegistry({ credentials: right }, async (registry) => {
      await pushImage(registry, name, image, 'latest');
      assert.equal((await registry.repository(name).resolve('latest')).digest, image.digest);
    });
    const wrong = credentialsFor(server.host, { ...PASSWORD, password: 'guess' } as Credentials);
    for (const credentials of [anonymous, wrong, credentialsFor('other.test', PASSWORD)]) {
      await withRegistry({ credentials }, async (registry) => {
        await assert.rejects(registry.repository(name).resolve('latest'), failsAs('unauthorized'));
        await assert.rejects(
          registry.repository(name).manifest('latest'),
          failsAs('unauthorized', /authentication required/),
        );
      });
    }
  });
});

describe('a registry with a token server', { skip }, () => {
  let folder: string;
  let tokens: TokenServer;
  let server: DebianRegistry;
  let name: string;
  const image = makeImage([randomLayer(1000)]);

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'lamina-token-'));
    const { ca } = new Authority(folder, 'signer');
    tokens = await TokenServer.start(ca);
    server = await DebianRegistry.start({ token: { realm: tokens.realm, certificate: ca.cert } });
    name = `${server.host}/team/image`;
    await withRegistry({ credentials: credentialsFor(server.host, PASSWORD) }, async (registry) => {
      await pushImage(registry, name, image, 'latest');
    });
  });
  after(async () => {
    await server.stop();
    await tokens.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Tokens that are asked for by a few operations of one client. */
  async function callsOf(options: RegistryOptions): Promise<readonly string[]> {
    tokens.calls.length = 0;
    await withRegistry(options, async (registry) => {
      const repository = registry.repository(name);
      await Promise.all([repository.resolve('latest'), repository.manifest('latest')]);
      await repository.image('latest', { platform: { os: 'linux', architecture: 'amd64' } });
    });
    return tokens.calls.map(({ method, parameters }) => `${method} ${parameters.get('grant_type') ?? ''}`.trim());
  }

  it('lets anybody read, with one token for many requests', async () => {
    const calls = await callsOf({});
    assert.ok(calls.length <= 2 && calls.every((call) => call === 'GET'), calls.join());
    await withRegistry({}, async (registry) => {
      await assert.rejects(pushImage(registry, name, makeImage([randomLayer(10)])), failsAs('unauthorized'));
    });
  });

  it('gives a token for a password by GET, and by POST where that is asked for', async () => {
    const credentials = credentialsFor(server.host, PASSWORD);
    assert.ok((await callsOf({ credentials })).every((call) => call === 'GET'));
    assert.ok((await callsOf({ credentials, oauth: true })).every((call) => call === 'POST password'));
    tokens.hasPost = false;
    assert.deepEqual((await callsOf({ credentials, oauth: true })).slice(0, 2), ['POST password', 'GET']);
    tokens.hasPost = true;
  });

  it('gives a token for an identity token, and for a refresh token in place of the password', async () => {
    const identity = credentialsFor(server.host, { kind: 'identity', token: IDENTITY });
    assert.ok((await callsOf({ credentials: identity })).every((call) => call === 'POST refresh_token'));
    tokens.givesRefreshToken = true;
    await withRegistry({ credentials: credentialsFor(server.host, PASSWORD) }, async (registry) => {
      tokens.calls.length = 0;
      await registry.repository(name).resolve('latest');
      await registry.repository(`${server.host}/team/other`).hasBlob(digestOf(Buffer.from('x')));
      assert.deepEqual(
        tokens.calls.map(({ method }) => method),
        ['GET', 'POST'],
      );
    });
    tokens.givesRefreshToken = false;
  });

  it('is asked for a new token when the old one has run out', async () => {
    tokens.lifeSeconds = 0.001;
    await withRegistry({}, async (registry) => {
      tokens.calls.length = 0;
      await registry.repository(name).resolve('latest');
      await registry.repository(name).resolve('latest');
      assert.ok(tokens.calls.length >= 2);
    });
    tokens.lifeSeconds = 300;
  });

  it('takes a bearer token as it is, and refuses a wrong one', async () => {
    const credentials = credentialsFor(server.host, { kind: 'bearer', token: 'nonsense' });
    await withRegistry({ credentials }, async (registry) => {
      await assert.rejects(registry.repository(name).resolve('latest'), failsAs('unauthorized'));
    });
  });

  it('says that a password is wrong', async () => {
    const credentials = credentialsFor(server.host, { ...PASSWORD, password: 'guess' } as Credentials);
    await withRegistry({ credentials }, async (registry) => {
      await assert.rejects(registry.repository(name).resolve('latest'), failsAs('unauthorized', /wrong password/));
    });
  });

  for (const [what, answer, kind] of [
    ['sends no token', '{}', 'protocol'],
    ['sends a token with a line break', '{"token":"a\\r\\nx-evil: 1"}', 'protocol'],
    ['sends no JSON', '<html>', 'protocol'],
    ['sends a list', '[]', 'protocol'],
  ] as const) {
    it(`is refused when it ${what}`, async () => {
      tokens.answer = (_, response) => response.end(answer);
      await withRegistry({}, async (registry) => {
        await assert.rejects(registry.repository(name).resolve('latest'), failsAs(kind, /the token server/));
      });
      tokens.answer = undefined;
    });
  }
});
