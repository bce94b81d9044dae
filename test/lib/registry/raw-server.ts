/** A server that sends what it likes: bytes on a socket, as a hostile registry would. */
import { createServer, type Server, type Socket } from 'node:net';

/** Talks to one client from when its request has come; `head` is the request line and headers. */
export type Talk = (socket: Socket, head: string) => void;

export class RawServer {
  /** Request lines. */
  readonly seen: string[] = [];
  talk: Talk = (socket) => void socket.end();
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor() {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      socket.on('error', () => undefined);
      let head = '';
      socket.on('data', (chunk) => {
        // A handshake: no TLS is spoken here.
        if (head === '' && chunk[0] === 0x16) return void socket.destroy();
        head += chunk.toString('latin1');
        const end = head.indexOf('\r\n\r\n');
        if (end < 0) return undefined;
        const request = head.slice(0, end);
        head = '';
        this.seen.push(request.split('\r\n')[0] ?? '');
        this.talk(socket, request);
        return undefined;
      });
    });
  }

  static async start(): Promise<RawServer> {
    const server = new RawServer();
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve));
    return server;
  }

  get host(): string {
    const address = this.#server.address();
    return `127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
  }

  /** Connections that clients still hold. */
  get open(): number {
    return this.#sockets.size;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

/** Writes the same again and again, as fast as it is taken, until the client goes away. */
export function pour(socket: Socket, next: (count: number) => string): void {
  let count = 0;
  const more = (): void => {
    while (!socket.destroyed) {
      count += 1;
      if (!socket.write(next(count))) {
        socket.once('drain', more);
        return;
      }
    }
  };
  more();
}

/** A whole answer. */
export function answer(body: string | Buffer, headers: Record<string, string> = {}, status = 200): Buffer {
  const bytes = Buffer.from(body);
  const all = { 'content-length': String(bytes.length), ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([Buffer.from(`HTTP/1.1 ${status} X\r\n${lines.join('')}\r\n`, 'latin1'), bytes]);
}
