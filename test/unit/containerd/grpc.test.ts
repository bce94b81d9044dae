/** The gRPC client against servers that keep to the protocol, and those that do not. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Code, LaminaError } from '../../../src/base/index.js';
import { ContentDefinition, InfoResponse, ListContentResponse } from '../../../src/containerd/gen/daemon/content.js';
import { VersionDefinition, VersionResponse } from '../../../src/containerd/gen/daemon/version.js';
import { frame } from '../../../src/containerd/grpc-frame.js';
import { GrpcConnection } from '../../../src/containerd/index.js';

let dir: string;
let path: string;
const closing: (() => void)[] = [];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lamina-grpc-'));
  path = join(dir, 'c.sock');
});
afterEach(() => {
  for (const close of closing.splice(0)) close();
  rmSync(dir, { recursive: true, force: true });
});

type Answer = (stream: ServerHttp2Stream, headers: Readonly<Record<string, unknown>>) => void;

async function serve(answer: Answer): Promise<GrpcConnection> {
  const server = createHttp2Server();
  server.on('stream', (stream, headers) => {
    stream.on('error', () => undefined);
    answer(stream, headers);
  });
  const sessions = new Set<{ destroy(): void }>();
  server.on('session', (session) => sessions.add(session));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  closing.push(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return connection();
}

function connection(timeoutMs = 60_000): GrpcConnection {
  const made = new GrpcConnection(path, { timeoutMs });
  closing.push(() => made[Symbol.dispose]());
  return made;
}

/** Messages, then a status in the trailers. */
function finish(stream: ServerHttp2Stream, messages: readonly Uint8Array[], status: Record<string, string>): void {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers(status));
  stream.end(Buffer.concat(messages.map((message) => frame(message))));
}

function isError(code: Code, text: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof LaminaError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, text);
    assert.ok(error.message.includes(path), error.message);
    return true;
  };
}

describe('a call', () => {
  it('sends the authority localhost, its metadata and its deadline, and gets the answer', async () => {
    const seen: Record<string, unknown>[] = [];
    const made = await serve((stream, headers) => {
      seen.push({ ...headers });
      finish(stream, [VersionResponse.encode({ version: '9.9', revision: '' }).finish()], { 'grpc-status': '0' });
    });
    const client = made.client(VersionDefinition, { 'containerd-namespace': 'moby' });
    assert.equal((await client.version({}, { timeoutMs: 5_000 })).version, '9.9');
    assert.equal(seen[0]?.[':authority'], 'localhost');
    assert.equal(seen[0]?.[':path'], '/containerd.services.version.v1.Version/Version');
    assert.equal(seen[0]?.['containerd-namespace'], 'moby');
    assert.equal(seen[0]?.['grpc-timeout'], '5000m');
  });

  it('has the status in the headers alone when it fails at once, with its text decoded', async () => {
    const made = await serve((stream) => {
      const status = { 'grpc-status': '5', 'grpc-message': 'content %22x%22: not found' };
      stream.respond({ ':status': 200, 'content-type': 'application/grpc', ...status }, { endStream: true });
    });
    const client = made.client(ContentDefinition);
    await assert.rejects(client.info({ digest: 'x' }), isError(Code.NotFound, /Info: content "x": not found/));
  });

  it('with no message in its answer is an error, and so is an unknown status', async () => {
    const statuses = ['0', '99'];
    const made = await serve((stream) => finish(stream, [], { 'grpc-status': statuses.shift() ?? '' }));
    const client = made.client(ContentDefinition);
    await assert.rejects(client.info({ digest: 'x' }), isError(Code.Internal, /no message/));
    await assert.rejects(client.info({ digest: 'x' }), isError(Code.Unknown, /status 99/));
  });

  it('is given up at its deadline, and the connection goes on', async () => {
    let count = 0;
    const made = await serve((stream) => {
      count += 1;
      if (count > 1) finish(stream, [InfoResponse.encode({ info: undefined }).finish()], { 'grpc-status': '0' });
    });
    const client = made.client(ContentDefinition);
    const given = client.info({ digest: 'x' }, { timeoutMs: 20 });
    await assert.rejects(given, isError(Code.DeadlineExceeded, /Info within 20 ms/));
    await client.info({ digest: 'x' });
  });

  it('ends with its signal', async () => {
    const made = await serve(() => undefined);
    const abort = new AbortController();
    const call = made.client(ContentDefinition).info({ digest: 'x' }, { signal: abort.signal });
    abort.abort();
    await assert.rejects(call, { name: 'AbortError' });
  });
});

describe('an answer that streams', () => {
  const digests = Array.from({ length: 500 }, (_, at) => `sha256:${at}`);
  const parts = digests.map((digest) =>
    ListContentResponse.encode({
      info: [{ digest, size: 1n, createdAt: undefined, updatedAt: undefined, labels: {} }],
    }).finish(),
  );

  it('is every message, in order', async () => {
    const made = await serve((stream) => finish(stream, parts, { 'grpc-status': '0' }));
    const got: string[] = [];
    for await (const { info } of made.client(ContentDefinition).list({ filters: [] })) {
      got.push(...info.map(({ digest }) => digest));
    }
    assert.deepEqual(got, digests);
  });

  it('throws what it ends with, after its messages', async () => {
    const made = await serve((stream) =>
      finish(stream, parts.slice(0, 3), { 'grpc-status': '14', 'grpc-message': 'shutting down' }),
    );
    let count = 0;
    const all = async (): Promise<void> => {
      for await (const { info } of made.client(ContentDefinition).list({ filters: [] })) count += info.length;
    };
    await assert.rejects(all, isError(Code.Unavailable, /List: shutting down/));
    assert.equal(count, 3);
  });

  it('that breaks off is an error and never a shorter list', async () => {
    const breaks: ((stream: ServerHttp2Stream) => void)[] = [
      (stream) => stream.session?.destroy(),
      (stream) => stream.close(2),
      // No trailers.
      (stream) => stream.end(),
    ];
    const made = await serve((stream) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      stream.write(frame(parts[0] ?? new Uint8Array()), () => breaks[0]?.(stream));
    });
    for (; breaks.length > 0; breaks.shift()) {
      const all = async (): Promise<void> => {
        for await (const _ of made.client(ContentDefinition).list({ filters: [] }));
      };
      await assert.rejects(all, isError(Code.Unavailable, /try again/));
    }
  });

  it('that is cut within a message is an error', async () => {
    const made = await serve((stream) => {
      stream.respond({ ':status': 200 }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.end(frame(parts[0] ?? new Uint8Array()).subarray(0, 7));
    });
    const all = async (): Promise<void> => {
      for await (const _ of made.client(ContentDefinition).list({ filters: [] }));
    };
    await assert.rejects(all, isError(Code.DataLoss, /cut off/));
  });

  it('is given up at the server when it is not read to its end', async () => {
    let closed: () => void;
    const isClosed = new Promise<void>((resolve) => {
      closed = resolve;
    });
    const made = await serve((stream) => {
      stream.on('close', () => closed());
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' });
      for (const part of parts) stream.write(frame(part));
    });
    for await (const { info } of made.client(ContentDefinition).list({ filters: [] })) {
      assert.equal(info[0]?.digest, digests[0]);
      break;
    }
    await isClosed;
  });
});

describe('what is no containerd', () => {
  async function listenRaw(onConnect: Parameters<typeof createServer>[1]): Promise<Server> {
    const server = createServer(onConnect);
    await new Promise<void>((resolve) => server.listen(path, resolve));
    closing.push(() => server.close());
    return server;
  }
  const version = async (): Promise<unknown> => await connection().client(VersionDefinition).version({});

  it('no socket, a file, a folder: the address and what to do', async () => {
    await assert.rejects(version, isError(Code.Unavailable, /no such socket: is containerd started/));
    writeFileSync(path, '');
    await assert.rejects(version, isError(Code.Unavailable, /does not listen there any more|this is no socket/));
  });

  it('one who answers in another protocol', async () => {
    await listenRaw((socket) => {
      socket.on('error', () => undefined);
      socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
    });
    await assert.rejects(version, isError(Code.Unavailable, /does not speak gRPC|the connection was lost/));
  });

  it('one who hangs up', async () => {
    await listenRaw((socket) => {
      socket.on('error', () => undefined);
      socket.destroy();
    });
    await assert.rejects(version, isError(Code.Unavailable, /the connection was lost/));
  });

  it('one who takes connections and says nothing', async () => {
    await listenRaw((socket) => {
      closing.push(() => socket.destroy());
    });
    const late = connection(20).client(VersionDefinition).version({});
    await assert.rejects(late, isError(Code.DeadlineExceeded, /busy or hangs/));
  });

  it('one who speaks HTTP/2 and no gRPC', async () => {
    const made = await serve((stream) => {
      stream.respond({ ':status': 404 });
      stream.end('no such page');
    });
    await assert.rejects(made.client(VersionDefinition).version({}), isError(Code.Unavailable, /does not speak gRPC/));
  });
});
