/** What networks and bad servers do between the client and a real registry. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, describe, it } from 'node:test';
import {
  type AttemptReport,
  credentialsFor,
  digestOf,
  type Limits,
  Registry,
  RegistryError,
  type RegistryOptions,
  type RetryPolicy,
} from '../../../src/registry/index.js';
import { DebianRegistry, freePort, USER } from '../../lib/registry/debian.js';
import { type Fault, FaultProxy } from '../../lib/registry/fault-proxy.js';
import { collect, makeImage, pushImage, randomLayer, sourceOf } from '../../lib/registry/image.js';
import { requires } from '../../lib/requires.js';
import { LATE_MS, until, within } from '../../lib/wait.js';

const skip = requires({ programs: ['docker-registry'] });

const SIZE = 3_000_000;
const BLOB = /\/blobs\/sha256/;
const MANIFEST = /\/manifests\//;
const RETRY: Partial<RetryPolicy> = { attempts: 3, baseMs: 5, maxPauseMs: 2_000 };

describe('a registry behind a bad network', { skip }, () => {
  let server: DebianRegistry;
  let proxy: FaultProxy;
  let name: string;
  const layer = randomLayer(SIZE);
  const image = makeImage([layer]);
  const [descriptor = { mediaType: '', digest: '', size: 0 }] = image.layers;
  let attempts: AttemptReport[] = [];

  before(async () => {
    server = await DebianRegistry.start();
    proxy = await FaultProxy.start(server.port);
    name = `${proxy.host}/bad/network`;
    await client(async (registry) => await pushImage(registry, name, image, 'latest'));
  });
  after(async () => {
    await proxy.stop();
    await server.stop();
  });

  async function client<T>(work: (registry: Registry) => Promise<T>, options: RegistryOptions = {}): Promise<T> {
    attempts = [];
    using registry = new Registry({
      retry: RETRY,
      observer: { onAttempt: (report) => attempts.push(report) },
      ...options,
    });
    return await work(registry);
  }

  const readAll = async (registry: Registry): Promise<Buffer> =>
    await collect(registry.repository(name).readBlob(descriptor));
  const errors = (): (string | undefined)[] => attempts.map(({ error }) => error);

  async function fails(kind: string, work: Promise<unknown>, pattern = /./): Promise<RegistryError> {
    let found: unknown;
    await assert.rejects(within('it fails', LATE_MS, work), (error) => {
      found = error;
      assert.ok(error instanceof RegistryError, String(error));
      assert.equal(error.kind, kind, error.message);
      assert.match(error.message, pattern);
      assert.ok(error.message.length < 1500, error.message);
      return true;
    });
    return found as RegistryError;
  }

  describe('a blob', () => {
    it('goes on where it was cut, and is the same bytes', async () => {
      let cuts = 0;
      proxy.use(({ url, method }) => {
        if (method !== 'GET' || !BLOB.test(url) || cuts === 2) return undefined;
        cuts += 1;
        return { cutAt: 1_000_000 };
      });
      assert.deepEqual(await client(readAll), layer);
      assert.deepEqual(errors(), ['network', 'network', undefined]);
      const ranges = proxy.seen.filter(({ url }) => BLOB.test(url)).map(({ headers }) => headers.range);
      assert.deepEqual(ranges, [undefined, `bytes=1000000-${SIZE - 1}`, `bytes=2000000-${SIZE - 1}`]);
      assert.equal(
        attempts.reduce((sum, { bytes }) => sum + bytes, 0),
        SIZE,
      );
    });

    it('goes on at a server that knows no Range', async () => {
      proxy.use(({ url }, index) =>
        BLOB.test(url) ? { ignoreRange: true, ...(index < 3 ? { cutAt: 900_000 } : {}) } : undefined,
      );
      assert.deepEqual(await client(readAll, { retry: { ...RETRY, attempts: 5 } }), layer);
    });

    it('counts its tries anew when it has come on', async () => {
      proxy.use(({ url }) => (BLOB.test(url) ? { cutAt: 1_100_000 } : undefined));
      assert.deepEqual(await client(readAll, { retry: { ...RETRY, attempts: 2 } }), layer);
    });

    it('is given up when it does not come on', async () => {
      proxy.use(({ url }) => (BLOB.test(url) ? { cutAt: 1_000 } : undefined));
      await fails('network', client(readAll), /3 tries/);
      assert.deepEqual(errors(), ['network', 'network', 'network']);
    });

    it('that stalls is read again from there', async () => {
      proxy.first(1, 'GET', BLOB, { stallAt: 100_000 });
      assert.deepEqual(await client(readAll, { retry: RETRY, limits: { idleMs: 100 } }), layer);
      proxy.use(({ url }) => (BLOB.test(url) ? { stallAt: 10 } : undefined));
      await fails('timeout', client(readAll, { retry: RETRY, limits: { idleMs: 50 } }));
    });

    it('of which a byte is changed is refused at its end, and not asked for again', async () => {
      proxy.use(({ url }) => (BLOB.test(url) ? { corruptAt: 1_234_567 } : undefined));
      await fails('digest', client(readAll), /has the digest sha256:/);
      assert.equal(proxy.count('GET', BLOB), 1);
    });

    for (const [what, fault] of [
      ['shorter than its descriptor says', { shortenTo: 1000 }],
      ['longer than its descriptor says', { lengthenBy: 1000 }],
      ['longer than its descriptor says, in chunks', { lengthenBy: 1000, headers: { 'content-length': '' } }],
    ] as const) {
      it(`${what} is refused`, async () => {
        proxy.use(({ url }) => (BLOB.test(url) ? fault : undefined));
        await fails('size', client(readAll));
        assert.equal(proxy.count('GET', BLOB), 1);
      });
    }

    it('of which another part is sent is refused', async () => {
      proxy.use(({ url }) => (BLOB.test(url) ? { headers: { 'content-range': `bytes 5-9/${SIZE}` } } : undefined));
      const part = (registry: Registry) =>
        collect(registry.repository(name).readBlob(descriptor, { offset: 10, length: 5 }));
      await fails('size', client(part), /another range/);
    });

    it('can be read many times at once under one signal, without a warning of Node', async () => {
      proxy.use(() => undefined);
      const warnings: string[] = [];
      const onWarning = (warning: Error): void => void warnings.push(warning.message);
      process.on('warning', onWarning);
      const stop = new AbortController();
      await client(async (registry) => {
        const repository = registry.repository(name);
        const read = async (offset: number) =>
          await collect(repository.readBlob(descriptor, { offset, length: 100_000, signal: stop.signal }));
        const parts = await Promise.all(Array.from({ length: 30 }, async (_, index) => await read(index * 100_000)));
        assert.deepEqual(Buffer.concat(parts), layer);
      });
      await new Promise((resolve) => setImmediate(resolve));
      process.off('warning', onWarning);
      assert.deepEqual(warnings, []);
    });

    it('can be left in the middle, by a break and by a signal', async () => {
      proxy.use(() => undefined);
      const results: string[] = [];
      const observer = { onOperation: ({ result }: { result: string }) => void results.push(result) };
      await client(
        async (registry) => {
          for await (const chunk of registry.repository(name).readBlob(descriptor)) {
            assert.ok(chunk.length > 0);
            break;
          }
          proxy.use(({ url }) => (BLOB.test(url) ? { stallAt: 1_000 } : undefined));
          const stop = new AbortController();
          const reading = collect(registry.repository(name).readBlob(descriptor, { signal: stop.signal }));
          await until('the blob is asked for', () => proxy.count('GET', BLOB) === 1);
          stop.abort(new Error('enough'));
          await fails('aborted', reading);
        },
        { observer },
      );
      assert.deepEqual(results, ['stopped', 'aborted']);
    });
  });

  describe('a manifest', () => {
    const manifest = async (registry: Registry) => (await registry.repository(name).manifest('latest')).bytes;

    it('is asked for again after 5xx, 408, and broken connections', async () => {
      const faults: Fault[] = [
        { answer: { status: 503, body: 'busy' } },
        { reset: true },
        { answer: { status: 408 } },
        { cutAt: 10 },
        { answer: { status: 500 } },
      ];
      proxy.use((_, index) => faults[index]);
      assert.deepEqual(await client(manifest, { retry: { ...RETRY, attempts: 6 } }), image.manifest);
      assert.deepEqual(errors(), ['server', 'network', 'timeout', 'network', 'server', undefined]);
      for (const { pauseMs } of attempts.slice(0, 5)) assert.ok(pauseMs !== undefined && pauseMs <= 5 * 2 ** 5);
    });

    it('is not asked for again after 4xx and 501', async () => {
      for (const [status, kind] of [
        [400, 'rejected'],
        [401, 'unauthorized'],
        [403, 'denied'],
        [404, 'not-found'],
        [405, 'unsupported'],
        [418, 'rejected'],
        [501, 'server'],
      ] as const) {
        proxy.use(() => ({ answer: { status } }));
        await fails(kind, client(manifest), new RegExp(`answered ${status}`));
        assert.equal(proxy.seen.length, 1);
      }
    });

    it('waits as long as a 429 asks for, and not longer than it may', async () => {
      proxy.first(1, 'GET', MANIFEST, { answer: { status: 429, headers: { 'retry-after': '1' } } });
      assert.deepEqual(await client(manifest), image.manifest);
      assert.equal(attempts[0]?.error, 'rate-limited');
      assert.ok((attempts[0]?.pauseMs ?? 0) >= 1000);
      const date = new Date(Date.now() + 3_600_000).toUTCString();
      for (const retryAfter of ['3600', date]) {
        proxy.use(() => ({
          answer: {
            status: 429,
            headers: { 'retry-after': retryAfter },
            body: '{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}',
          },
        }));
        const error = await fails('rate-limited', client(manifest), /"slow down"/);
        assert.ok((error.retryAfterMs ?? 0) > 3_500_000);
        assert.equal(proxy.seen.length, 1);
      }
    });

    it('that is changed, or sent under another digest, is refused', async () => {
      proxy.use(() => ({ corruptAt: 3 }));
      await fails('digest', client(manifest));
      proxy.use(() => ({ headers: { 'docker-content-digest': digestOf(Buffer.from('other')) } }));
      await fails('digest', client(manifest));
      proxy.use(() => ({ headers: { 'docker-content-digest': 'md5:d41d8cd98f00b204e9800998ecf8427e' } }));
      await fails('protocol', client(manifest));
      proxy.use(() => ({ headers: { 'docker-content-digest': digestOf(Buffer.from('other')) } }));
      await fails(
        'digest',
        client((registry) => registry.repository(name).resolve(image.digest)),
      );
      proxy.use(() => ({ headers: { 'content-type': 'application/vnd.oci.image.index.v1+json' } }));
      await fails('protocol', client(manifest), /it is sent as/);
    });

    it('is resolved where a registry tells no digest, or knows no HEAD', async () => {
      const resolve = async (registry: Registry) => (await registry.repository(name).resolve('latest')).digest;
      proxy.use(({ method }) => ({ headers: { 'docker-content-digest': '' }, ...(method === 'HEAD' ? {} : {}) }));
      assert.equal(await client(resolve), image.digest);
      proxy.use(({ method }) => (method === 'HEAD' ? { answer: { status: 405 } } : undefined));
      assert.equal(await client(resolve), image.digest);
    });

    it('that does not come in time is given up, at each place where it may hang', async () => {
      const limits: Partial<Limits> = { responseMs: 60, idleMs: 60, bodyMs: 60 };
      for (const fault of [{ delayMs: 1000 }, { stallAt: 5 }]) {
        proxy.use(() => fault);
        await fails('timeout', client(manifest, { limits, retry: { ...RETRY, attempts: 2 } }));
        assert.deepEqual(errors(), ['timeout', 'timeout']);
      }
    });

    it('can be given up while it waits for an answer, and for the next try', async () => {
      for (const fault of [{ delayMs: 500 }, { answer: { status: 503 } }]) {
        proxy.use(() => fault);
        const stop = new AbortController();
        const retry = { ...RETRY, baseMs: 60_000, maxPauseMs: 60_000, totalMs: 600_000 };
        const reading = client((registry) => registry.repository(name).manifest('latest', { signal: stop.signal }), {
          retry,
        });
        await until('it is asked for', () => proxy.seen.length === 1);
        stop.abort();
        await fails('aborted', reading);
      }
    });
  });

  describe('a redirect', () => {
    const manifest = async (registry: Registry) => (await registry.repository(name).manifest('latest')).bytes;
    const redirect = (status: number, location: string): Fault => ({ answer: { status, headers: { location } } });

    it('on the same host is followed', async () => {
      for (const status of [301, 302, 303, 307, 308]) {
        proxy.use(({ url }, index) => (index < 1 ? redirect(status, `${url}?again`) : undefined));
        assert.deepEqual(await client(manifest), image.manifest);
      }
    });

    it('to another host is followed without credentials', async () => {
      const seen: string[] = [];
      const other = createServer((request, response) => {
        seen.push(request.headers.authorization ?? 'none');
        response.end(layer);
      });
      const port = await freePort();
      await new Promise<void>((resolve) => other.listen(port, '127.0.0.1', resolve));
      try {
        const basic = 'Basic realm="test"';
        proxy.use(({ headers, url }) => {
          if (headers.authorization === undefined)
            return { answer: { status: 401, headers: { 'www-authenticate': basic } } };
          return BLOB.test(url) ? redirect(307, `http://127.0.0.1:${port}/blob?signature=secret`) : undefined;
        });
        const credentials = credentialsFor(proxy.host, { kind: 'password', ...USER });
        assert.deepEqual(await client(readAll, { credentials }), layer);
        assert.deepEqual(seen, ['none']);
        assert.ok(proxy.seen.some(({ headers }) => headers.authorization?.startsWith('Basic ') === true));
      } finally {
        other.closeAllConnections();
        other.close();
      }
    });

    it('that goes on and on, to itself, nowhere, or to plain HTTP elsewhere is refused', async () => {
      for (const [location, kind] of [
        ['LOOP', 'redirect'],
        ['SELF', 'redirect'],
        ['http://example.test/blob', 'insecure'],
        ['ftp://127.0.0.1/blob', 'protocol'],
        ['file:///etc/passwd', 'protocol'],
        ['http://user:word@127.0.0.1:1/', 'protocol'],
        ['http://[::bad/', 'protocol'],
      ] as const) {
        proxy.use(({ url }, index) => {
          const to = location === 'LOOP' ? `/v2/loop/${index}` : location === 'SELF' ? url : location;
          return redirect(302, to);
        });
        await fails(kind, client(manifest));
        assert.ok(proxy.seen.length <= 6, `${location}: ${proxy.seen.length} requests`);
      }
    });

    it('of what is sent is not followed', async () => {
      proxy.use(({ method }) => (method === 'PUT' ? redirect(307, '/elsewhere') : undefined));
      await fails(
        'redirect',
        client((registry) => registry.repository(name).pushManifest(image.manifest)),
      );
    });
  });

  describe('a push', () => {
    const blob = randomLayer(500_000);
    const target = { digest: digestOf(blob), size: blob.length };
    const push = async (registry: Registry, chunkBytes?: number) =>
      await registry.repository(name).pushBlob(target, sourceOf(blob), chunkBytes === undefined ? {} : { chunkBytes });
    const gone = async () => {
      proxy.use(() => undefined);
      await client((registry) => registry.repository(name).deleteBlob(target.digest)).catch(() => undefined);
    };

    it('of a blob begins anew when it breaks', async () => {
      await gone();
      proxy.first(1, 'PUT', /uploads/, { cutRequestAt: 100_000 });
      assert.equal(await client(push), 'uploaded');
      assert.equal(proxy.count('POST', /uploads/), 2);
    });

    it('of a blob in pieces goes on with the piece that broke', async () => {
      await gone();
      proxy.first(1, 'PATCH', /uploads/, { cutRequestAt: 50_000 });
      assert.equal(await client((registry) => push(registry, 200_000)), 'uploaded');
      await gone();
      let patches = 0;
      proxy.use(({ method }) => {
        if (method !== 'PATCH') return undefined;
        patches += 1;
        return patches === 2 ? { loseAnswer: true } : undefined;
      });
      assert.equal(await client((registry) => push(registry, 200_000)), 'uploaded');
    });

    it('that is refused ends at once and leaves no upload', async () => {
      await gone();
      proxy.use(({ method }) => (method === 'PATCH' ? { answer: { status: 403 } } : undefined));
      await fails(
        'denied',
        client((registry) => push(registry, 200_000)),
      );
      assert.equal(proxy.count('DELETE', /uploads/), 1);
    });

    it('to a place that the registry names elsewhere goes without credentials, and never to plain HTTP there', async () => {
      await gone();
      proxy.use(({ method }) =>
        method === 'POST' ? { headers: { location: 'http://uploads.test/place' } } : undefined,
      );
      await fails('insecure', client(push), /uploads\.test is not configured/);
    });

    it('of a manifest is repeated, and its deletion may have been done when it is', async () => {
      proxy.first(1, 'PUT', MANIFEST, { loseAnswer: true });
      await client((registry) => registry.repository(name).pushManifest(image.manifest, { tag: 'gone' }));
      proxy.first(1, 'DELETE', MANIFEST, { loseAnswer: true });
      await client((registry) => registry.repository(name).deleteManifest(image.digest));
      assert.equal(proxy.count('DELETE', MANIFEST), 2);
    });
  });
});
