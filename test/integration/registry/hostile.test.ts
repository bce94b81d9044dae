/**
 * A registry that means harm: whatever it sends, memory and time stay bounded, and there is one
 * clear error.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import {
  credentialsFor,
  digestOf,
  type Limits,
  MediaType,
  Registry,
  RegistryError,
} from '../../../src/registry/index.js';
import { collect } from '../../lib/registry/image.js';
import { answer, pour, RawServer, type Talk } from '../../lib/registry/raw-server.js';
import { LATE_MS, until, within } from '../../lib/wait.js';

const MIB = 1024 * 1024;
/**
 * What a client may need beyond its own: buffers of sockets, the largest document, and what the
 * collector has left.
 */
const MEMORY = 96 * MIB;
const SHORT: Partial<Limits> = { connectMs: 500, responseMs: 500, bodyMs: 500, idleMs: 300 };
const JSON_TYPE = { 'content-type': 'application/json' };
const DIGEST = digestOf(Buffer.from('x'));

type Work = (registry: Registry, name: string) => Promise<unknown>;

const manifest: Work = async (registry, name) => await registry.repository(name).manifest('latest');
const resolve: Work = async (registry, name) => await registry.repository(name).resolve('latest');
const image: Work = async (registry, name) => await registry.repository(name).image('latest');
const tags: Work = async (registry, name) => {
  let count = 0;
  for await (const _ of registry.repository(name).tags()) count += 1;
  return count;
};
const referrers: Work = async (registry, name) => await registry.repository(name).referrers(DIGEST);
const blob: Work = async (registry, name) => {
  const descriptor = { mediaType: MediaType.OciLayer, digest: DIGEST, size: 10 * MIB };
  for await (const _ of registry.repository(name).readBlob(descriptor));
};

const send =
  (body: string | Buffer, headers: Record<string, string> = JSON_TYPE, status = 200): Talk =>
  (socket) =>
    void socket.write(answer(body, headers, status));

/** Sends a byte now and then. */
function trickle(socket: Socket, start: string): void {
  socket.write(start);
  const timer = setInterval(() => socket.write('x'), 20);
  socket.on('close', () => clearInterval(timer));
}

const descriptor = (fields: object = {}): object => ({
  mediaType: MediaType.OciManifest,
  digest: DIGEST,
  size: 1,
  ...fields,
});
const indexOf = (manifests: unknown, more: object = {}): string =>
  JSON.stringify({ schemaVersion: 2, mediaType: MediaType.OciIndex, manifests, ...more });
const manifestOf = (more: object): string =>
  JSON.stringify({ schemaVersion: 2, mediaType: MediaType.OciManifest, config: descriptor(), layers: [], ...more });

/** An index whose only manifest is an index whose only manifest is an index. */
const endlessIndexes: Talk = (socket, head) => {
  const depth = nestedAt.get(/manifests\/(\S+)/.exec(head)?.[1] ?? '') ?? 0;
  socket.write(answer(nested(depth), JSON_TYPE));
};
/** By digest: how deep. */
const nestedAt = new Map<string, number>();
const DEEPEST = 40;

function nested(depth: number): string {
  if (depth >= DEEPEST) return manifestOf({});
  const child = nested(depth + 1);
  const digest = `sha256:${createHash('sha256').update(child).digest('hex')}`;
  nestedAt.set(digest, depth + 1);
  const platform = { os: 'linux', architecture: process.arch === 'x64' ? 'amd64' : process.arch };
  return indexOf([descriptor({ mediaType: MediaType.OciIndex, digest, size: child.length, platform })]);
}

const CASES: readonly (readonly [what: string, kind: string, work: Work, talk: Talk, pattern?: RegExp])[] = [
  ['accepts and says nothing', 'timeout', manifest, () => undefined, /did not answer/],
  ['sends what is no HTTP', 'protocol', manifest, (socket) => void socket.write('SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n')],
  ['hangs up', 'network', manifest, (socket) => void socket.end()],
  [
    'sends headers without end',
    'limit',
    manifest,
    (socket) => {
      socket.write('HTTP/1.1 200 OK\r\n');
      pour(socket, (count) => `x-header-${count}: ${'y'.repeat(1000)}\r\n`);
    },
    /too many headers/,
  ],
  [
    'sends one byte of a header now and then',
    'timeout',
    manifest,
    (socket) => trickle(socket, 'HTTP/1.1 200 OK\r\nx: '),
  ],
  [
    'sends interim answers without end',
    'limit',
    manifest,
    (socket) => pour(socket, () => 'HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n'.repeat(1000)),
    /interim/,
  ],
  [
    'wants another protocol',
    'network',
    manifest,
    (socket) => void socket.write('HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n'),
  ],
  [
    'sends a manifest without end',
    'limit',
    manifest,
    (socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n');
      pour(socket, () => ' '.repeat(60_000));
    },
    /larger than the 4194304 bytes/,
  ],
  [
    'claims a manifest of a terabyte',
    'limit',
    manifest,
    (socket) => void socket.write('HTTP/1.1 200 OK\r\ncontent-length: 1099511627776\r\n\r\n{'),
  ],
  [
    'claims a manifest of a terabyte in a HEAD',
    'limit',
    resolve,
    (socket) =>
      void socket.write(
        `HTTP/1.1 200 OK\r\ncontent-length: 1099511627776\r\ncontent-type: ${MediaType.OciManifest}\r\ndocker-content-digest: ${DIGEST}\r\n\r\n`,
      ),
  ],
  [
    'sends two lengths',
    'protocol',
    manifest,
    (socket) => void socket.write('HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}'),
  ],
  [
    'sends a byte of a manifest now and then',
    'timeout',
    manifest,
    (socket) => trickle(socket, 'HTTP/1.1 200 OK\r\n\r\n'),
  ],
  [
    'sends a compressed manifest',
    'protocol',
    manifest,
    send('x', { ...JSON_TYPE, 'content-encoding': 'gzip' }),
    /encoded \(gzip\)/,
  ],
  ['sends a page for browsers', 'protocol', manifest, send('<html>', { 'content-type': 'text/html' })],
  ['sends JSON that is as deep as it is long', 'protocol', manifest, send('['.repeat(4_000_000))],
  ['sends a list', 'protocol', manifest, send('[]')],
  ['sends null', 'protocol', manifest, send('null')],
  ['sends a manifest of numbers', 'protocol', manifest, send(manifestOf({ config: 7 }))],
  ['sends layers that are no list', 'protocol', manifest, send(manifestOf({ layers: {} }))],
  ['sends a size that is negative', 'protocol', manifest, send(manifestOf({ config: descriptor({ size: -1 }) }))],
  ['sends a size that is text', 'protocol', manifest, send(manifestOf({ config: descriptor({ size: '1' }) }))],
  ['sends a size beyond all numbers', 'protocol', manifest, send(manifestOf({ config: descriptor({ size: 1e300 }) }))],
  ['sends a layer of a petabyte', 'limit', manifest, send(manifestOf({ layers: [descriptor({ size: 2 ** 50 })] }))],
  [
    'sends a digest that is a path',
    'protocol',
    manifest,
    send(manifestOf({ config: descriptor({ digest: 'sha256:../../etc/passwd' }) })),
  ],
  [
    'sends a digest that is weak',
    'protocol',
    manifest,
    send(manifestOf({ config: descriptor({ digest: `md5:${'0'.repeat(32)}` }) })),
  ],
  [
    'sends a document that is both',
    'protocol',
    manifest,
    send(manifestOf({ manifests: [descriptor()] })),
    /manifest and index/,
  ],
  ['sends a manifest as schema 1', 'unsupported', manifest, send('{"schemaVersion":1}'), /schema 1/],
  [
    'sends 10,000 layers',
    'limit',
    manifest,
    send(manifestOf({ layers: Array.from({ length: 10_000 }, () => descriptor()) })),
  ],
  ['sends 10,000 manifests', 'limit', image, send(indexOf(Array.from({ length: 10_000 }, () => descriptor())))],
  ['sends indexes within each other', 'limit', image, endlessIndexes, /indexes within each other/],
  [
    'sends tags without end',
    'limit',
    tags,
    (socket, head) => {
      const page = Number(/last=(\d+)/.exec(head)?.[1] ?? 0) + 1;
      socket.write(answer('{"tags":["a"]}', { ...JSON_TYPE, link: `<?last=${page}>; rel="next"` }));
    },
    /more than 1000 pages/,
  ],
  [
    'sends the same page of tags again',
    'protocol',
    tags,
    send('{"tags":["a"]}', { ...JSON_TYPE, link: '<?last=a>; rel="next"' }),
    /circle/,
  ],
  [
    'sends the next page elsewhere',
    'insecure',
    tags,
    send('{"tags":["a"]}', { ...JSON_TYPE, link: '<http://127.0.0.1:1/v2/evil/tags/list>; rel="next"' }),
  ],
  [
    'sends the next page of another list',
    'protocol',
    tags,
    send('{"tags":["a"]}', { ...JSON_TYPE, link: '</v2/other/tags/list>; rel="next"' }),
  ],
  ['sends a tag that is a path', 'protocol', tags, send('{"tags":["../../x"]}')],
  ['sends a million tags', 'limit', tags, send(`{"tags":[${'"a",'.repeat(999_999)}"a"]}`)],
  ['sends referrers that are no index', 'protocol', referrers, send(manifestOf({}))],
  [
    'sends a blob without end',
    'size',
    blob,
    (socket) => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      pour(socket, () => 'z'.repeat(60_000));
    },
  ],
  ['sends a byte of a blob now and then', 'timeout', blob, (socket) => trickle(socket, 'HTTP/1.1 200 OK\r\n\r\n')],
  ['refuses with a novel', 'denied', manifest, send('no '.repeat(2_000_000), {}, 403), /answered 403 "no no/],
  [
    'refuses without end',
    'denied',
    manifest,
    (socket) => {
      socket.write('HTTP/1.1 403 X\r\n\r\n');
      pour(socket, () => 'no '.repeat(20_000));
    },
  ],
  [
    'refuses with escape sequences',
    'denied',
    manifest,
    send('{"errors":[{"code":"DENIED","message":"\\u001b]0;own\\u0007\\u202eevil\\r\\nmore"}]}', {}, 403),
    /"\]0;own evil more"$/,
  ],
  ['asks for what is not known', 'unsupported', manifest, send('', { 'www-authenticate': 'Negotiate' }, 401)],
  [
    'asks for a token of a server in plain text elsewhere',
    'insecure',
    manifest,
    send('', { 'www-authenticate': 'Bearer realm="http://tokens.test/"' }, 401),
  ],
  [
    'asks for a token of a file',
    'protocol',
    manifest,
    send('', { 'www-authenticate': 'Bearer realm="file:///etc/passwd"' }, 401),
  ],
  ['asks for a token of nothing', 'protocol', manifest, send('', { 'www-authenticate': 'Bearer service="x"' }, 401)],
  [
    'asks again and again',
    'unauthorized',
    manifest,
    (socket, head) => {
      const realm = `Bearer realm="http://${/host: (\S+)/i.exec(head)?.[1] ?? ''}/token"`;
      socket.write(head.includes('/token') ? answer('{"token":"x"}') : answer('', { 'www-authenticate': realm }, 401));
    },
  ],
  [
    'gives a token without end',
    'limit',
    manifest,
    (socket, head) => {
      const realm = `Bearer realm="http://${/host: (\S+)/i.exec(head)?.[1] ?? ''}/token"`;
      if (!head.includes('/token')) return void socket.write(answer('', { 'www-authenticate': realm }, 401));
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      pour(socket, () => 'x'.repeat(60_000));
    },
  ],
  [
    'sends its token server in circles',
    'redirect',
    manifest,
    (socket, head) => {
      const host = /host: (\S+)/i.exec(head)?.[1] ?? '';
      const hop = Number(/\/token(\d+)/.exec(head)?.[1] ?? 0);
      if (!head.includes('/token'))
        return void socket.write(answer('', { 'www-authenticate': `Bearer realm="http://${host}/token0"` }, 401));
      socket.write(answer('', { location: `/token${hop + 1}` }, 302));
    },
  ],
];

describe('a hostile registry', () => {
  let server: RawServer;

  before(async () => {
    server = await RawServer.start();
  });
  after(async () => await server.stop());

  for (const [what, kind, work, talk, pattern = /./] of CASES) {
    it(`that ${what}: ${kind}`, async () => {
      server.talk = talk;
      server.seen.length = 0;
      using registry = new Registry({
        limits: SHORT,
        retry: { attempts: 2, baseMs: 5 },
        plainHttp: [server.host],
        credentials: credentialsFor('elsewhere.test', { kind: 'bearer', token: 'secret' }),
      });
      const name = `${server.host}/evil/image`;
      const before = process.memoryUsage.rss();
      await assert.rejects(within('it fails', LATE_MS, work(registry, name)), (error) => {
        assert.ok(error instanceof RegistryError, String(error));
        assert.equal(error.kind, kind, error.message);
        assert.match(error.message, pattern);
        assert.ok(error.message.length < 1000, error.message);
        assert.doesNotMatch(error.message, /[\p{Cc}\p{Cf}]/u);
        return true;
      });
      const grown = process.memoryUsage.rss() - before;
      assert.ok(grown < MEMORY, `${Math.round(grown / MIB)} MiB more`);
      assert.ok(server.seen.length <= 1100);
      registry.close();
      await until('no connection is left', () => server.open === 0);
    });
  }

  it('that speaks no TLS behind a name that is to: nothing is sent in plain text', async () => {
    server.seen.length = 0;
    const port = server.host.split(':')[1];
    using registry = new Registry({ limits: SHORT, retry: { attempts: 1 } });
    // Not a name of loopback, though it leads there.
    await assert.rejects(registry.repository(`0.0.0.0:${port}/evil/image`).resolve('latest'), (error) => {
      assert.ok(error instanceof RegistryError);
      return error.kind === 'tls' || error.kind === 'timeout' || error.kind === 'network';
    });
    assert.deepEqual(
      server.seen.filter((line) => line.includes('HTTP')),
      [],
    );
  });
});

describe('an upload that is broken off', () => {
  it('goes on where the registry says', async () => {
    const bytes = Buffer.from(Array.from({ length: 1000 }, (_, index) => index & 0xff));
    const digest = digestOf(bytes);
    const server = await RawServer.start();
    const ranges: string[] = [];
    let patches = 0;
    server.talk = (socket, head) => {
      const [method = '', path = ''] = head.split(' ');
      const location = { location: '/v2/up/blobs/uploads/1?state=a%20b' };
      if (method === 'HEAD') return void socket.write(answer('', {}, 404));
      if (method === 'POST') return void socket.write(answer('', location, 202));
      if (method === 'GET') return void socket.write(answer('', { ...location, range: '0-349' }, 204));
      if (method === 'PUT') {
        assert.equal(path, `/v2/up/blobs/uploads/1?state=a%20b&digest=${encodeURIComponent(digest)}`);
        return void socket.write(answer('', { 'docker-content-digest': digest }, 201));
      }
      ranges.push(/content-range: (\S+)/i.exec(head)?.[1] ?? '');
      patches += 1;
      if (patches === 2) return void socket.destroy();
      socket.write(answer('', location, 202));
    };
    try {
      using registry = new Registry({ plainHttp: [server.host], retry: { attempts: 3, baseMs: 5 } });
      const source = async function* (offset: number, length: number): AsyncGenerator<Buffer> {
        yield bytes.subarray(offset, offset + length);
      };
      const repository = registry.repository(`${server.host}/up`);
      assert.equal(await repository.pushBlob({ digest, size: 1000 }, source, { chunkBytes: 300 }), 'uploaded');
      assert.deepEqual(ranges, ['0-299', '300-599', '350-649', '650-949', '950-999']);
    } finally {
      await server.stop();
    }
  });

  it('a blob of nothing costs no request', async () => {
    using registry = new Registry();
    const empty = { mediaType: MediaType.OciLayer, digest: digestOf(Buffer.alloc(0)), size: 0 };
    const repository = registry.repository('never.test/x');
    assert.deepEqual(await collect(repository.readBlob(empty)), Buffer.alloc(0));
    await assert.rejects(collect(repository.readBlob({ ...empty, digest: DIGEST })), /has the digest/);
  });
});
