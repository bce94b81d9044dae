import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { Code, createDeferred } from '../../../src/base/index.js';
import {
  type ClientConnection,
  type ClientConnectionOptions,
  connect,
  createClient,
  MAX_PAYLOAD,
  Router,
  Server,
  type ServerConnectionOptions,
} from '../../../src/ttrpc/index.js';
import { collect, EchoDefinition, type EchoHandlers, echo, keepAlive, request, stream } from './kit.js';

keepAlive();

let folder: string;
let path: string;
let count = 0;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lamina-ttrpc-'));
});
beforeEach(() => {
  count += 1;
  path = join(folder, `${count}.sock`);
});
after(() => rm(folder, { recursive: true }));

/** Closes what a test has opened, also when it failed. */
const opened: (() => void)[] = [];
afterEach(() => {
  for (const close of opened.splice(0)) close();
});

async function dial(address: string, options: ClientConnectionOptions = {}): Promise<ClientConnection> {
  const connection = await connect({ path: address }, options);
  opened.push(() => connection.close());
  return connection;
}

async function serve(
  address: string,
  handlers: Partial<EchoHandlers> = {},
  options: ServerConnectionOptions = {},
): Promise<Server> {
  const server = new Server(new Router().add(EchoDefinition, { ...echo, ...handlers }), options);
  opened.push(() => server.close());
  await server.listen({ path: address });
  return server;
}

function untilClosed(socket: net.Socket): Promise<void> {
  return new Promise((resolve) => socket.once('close', () => resolve()));
}

describe('over a socket', () => {
  it('all four forms work, on a path and on an abstract name', async () => {
    for (const address of [path, `\0lamina-ttrpc-test-${process.pid}`]) {
      const server = await serve(address);
      const closed = createDeferred<unknown>();
      const connection = await dial(address, { onClose: closed.resolve });
      const client = createClient(EchoDefinition, connection);
      assert.equal(await client.unary('hi'), 'hi');
      assert.deepEqual(await collect(client.down('ab')), ['a', 'b']);
      assert.equal(await client.up(stream('a', 'b')), 'ab');
      assert.deepEqual(await collect(client.both(stream('a', 'b'))), ['a', 'b']);
      assert.equal(server.connections, 1);
      await server.shutdown();
      assert.equal(await closed.promise, undefined);
      assert.equal(server.connections, 0);
    }
  });

  it('large messages pass both ways, many at once', async () => {
    await serve(path);
    const connection = await dial(path);
    const client = createClient(EchoDefinition, connection);
    const large = 'x'.repeat(MAX_PAYLOAD - 100);
    const replies = await Promise.all([large, 'small', large, large].map((text) => client.unary(text)));
    assert.deepEqual(
      replies.map((text) => text.length),
      [large.length, 5, large.length, large.length],
    );
  });

  it('a long stream passes, with both sides waiting for each other', async () => {
    await serve(path);
    const connection = await dial(path);
    const client = createClient(EchoDefinition, connection);
    const chunk = 'x'.repeat(64 * 1024);
    const source = (async function* () {
      for (let index = 0; index < 200; index += 1) yield chunk;
    })();
    let bytes = 0;
    for await (const piece of client.both(source)) bytes += piece.length;
    assert.equal(bytes, 200 * chunk.length);
  });

  it('a peer that does not read stops the handler, not the server', async () => {
    let produced = 0;
    const stopped = createDeferred<void>();
    await serve(path, {
      async *down() {
        try {
          for (;;) {
            produced += 1;
            yield 'x'.repeat(1024 * 1024);
          }
        } finally {
          stopped.resolve();
        }
      },
    });
    const mute = net.connect({ path });
    opened.push(() => mute.destroy());
    mute.pause();
    mute.write(request(1, 'Down', '', { flags: 1 }));
    const connection = await dial(path);
    const client = createClient(EchoDefinition, connection);
    for (let round = 0; round < 20; round += 1) assert.equal(await client.unary('alive'), 'alive');
    assert.ok(produced < 5, `${produced} MiB were produced for a peer that reads nothing`);
    mute.destroy();
    await stopped.promise;
  });
});

describe('the end of a socket', () => {
  it('by a half-closed peer: its calls are aborted, the socket is closed', async () => {
    const aborted = createDeferred<void>();
    await serve(path, {
      unary: (_text, { signal }) => {
        signal.addEventListener('abort', () => aborted.resolve());
        return new Promise(() => undefined);
      },
    });
    const socket = net.connect({ path, allowHalfOpen: true });
    socket.resume();
    socket.end(request(1, 'Unary', ''));
    await Promise.all([aborted.promise, untilClosed(socket.once('end', () => socket.destroy()))]);
  });

  it('by the server: pending calls fail, onClose is called', async () => {
    const arrived = createDeferred<void>();
    const server = await serve(path, {
      unary: () => {
        arrived.resolve();
        return new Promise(() => undefined);
      },
    });
    const closed = createDeferred<unknown>();
    const connection = await dial(path, { onClose: closed.resolve });
    const call = createClient(EchoDefinition, connection).unary('');
    await arrived.promise;
    server.close();
    await assert.rejects(call, { code: Code.Unavailable, message: 'ttrpc: closed' });
    await closed.promise;
  });

  it('by a shutdown: running calls are answered first', async () => {
    const arrived = createDeferred<void>();
    const go = createDeferred<string>();
    const server = await serve(path, {
      unary: () => {
        arrived.resolve();
        return go.promise;
      },
    });
    const connection = await dial(path);
    const client = createClient(EchoDefinition, connection);
    const running = client.unary('');
    await arrived.promise;
    const idle = await dial(path);
    const down = server.shutdown();
    await assert.rejects(client.unary('new'), { code: Code.Unavailable });
    await assert.rejects(connect({ path }), { code: Code.Unavailable });
    go.resolve('finished');
    assert.equal(await running, 'finished');
    await down;
    assert.deepEqual([server.connections, idle.openStreams], [0, 0]);
  });
});

describe('descriptors', () => {
  it('an accepted connection is adopted', async () => {
    const server = new Server(new Router().add(EchoDefinition, echo));
    const outer = net.createServer({ pauseOnConnect: true }, (socket) => {
      server.adopt({ socket });
      socket.resume();
    });
    opened.push(() => outer.close());
    await new Promise<void>((resolve) => outer.listen(path, resolve));
    const connection = await dial(path);
    assert.equal(await createClient(EchoDefinition, connection).unary('a'), 'a');
  });

  it('a listening one that a process was started with is served', async () => {
    // Closing a listener unlinks its path, but not an abstract name.
    const name = `\0lamina-ttrpc-inherit-${process.pid}`;
    const listener = net.createServer();
    await new Promise<void>((resolve) => listener.listen(name, resolve));
    const code = `
      import { Router, Server } from ${JSON.stringify(new URL('../../../src/ttrpc/index.js', import.meta.url))};
      import { echo, EchoDefinition } from ${JSON.stringify(new URL('./kit.js', import.meta.url))};
      await new Server(new Router().add(EchoDefinition, echo)).listen({ fd: 3 });
      console.log('ready');
    `;
    // node:net shows a handle's descriptor here only.
    const fd: unknown = Reflect.get(Reflect.get(listener, '_handle'), 'fd');
    assert.ok(typeof fd === 'number');
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
      stdio: ['ignore', 'pipe', 'inherit', fd],
    });
    opened.push(() => child.kill('SIGKILL'));
    const [ready] = await once(child.stdout ?? child, 'data');
    assert.equal(String(ready), 'ready\n');
    listener.close();
    const connection = await dial(name);
    assert.equal(await createClient(EchoDefinition, connection).unary('b'), 'b');
  });
});

describe('connecting', () => {
  it('fails with Unavailable, naming the address and keeping the cause', async () => {
    await assert.rejects(connect({ path }), (error: Error & { code: Code; subject: string }) => {
      assert.equal(error.code, Code.Unavailable);
      assert.equal(error.message, `connect to ${JSON.stringify(path)}: connect ENOENT ${path}`);
      return error.subject === JSON.stringify(path) && error.cause instanceof Error;
    });
  });

  it('can be given up', async () => {
    await assert.rejects(connect({ path }, { signal: AbortSignal.abort() }), { code: Code.Unavailable });
  });
});
