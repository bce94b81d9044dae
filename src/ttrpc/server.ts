import net from 'node:net';
import { silentLogger } from '../base/index.js';
import type { Router } from './router.js';
import { type ConnectionStats, ServerConnection, type ServerConnectionOptions } from './server-connection.js';
import { adoptSocket, attachSocket } from './socket.js';

/** Serves a router on sockets. */
export class Server {
  readonly #router: Router;
  readonly #options: ServerConnectionOptions;
  readonly #listeners = new Set<net.Server>();
  /** Connection → its socket, removed when the socket is closed. */
  readonly #connections = new Map<ServerConnection, net.Socket>();

  constructor(router: Router, options: ServerConnectionOptions = {}) {
    this.#router = router;
    this.#options = options;
  }

  /**
   * Listens; may be called for several addresses.
   * @param address a path to bind (`\0name` for an abstract socket), or a descriptor that listens
   *   already. A bound path is unlinked when listening stops, an inherited one is not.
   * @throws the system's error, EADDRINUSE for example
   */
  async listen(address: { readonly path: string } | { readonly fd: number }): Promise<void> {
    const listener = net.createServer((socket) => this.#accept(socket));
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject);
      listener.listen(address, () => {
        listener.off('error', reject);
        resolve();
      });
    });
    // A failed accept (out of descriptors, say) concerns one peer; the listener goes on.
    listener.on('error', (error) => (this.#options.log ?? silentLogger).warn({ error }, 'accept failed'));
    this.#listeners.add(listener);
  }

  /** Serves a connection accepted by someone else. */
  adopt(address: { readonly fd: number } | { readonly socket: net.Socket }): ServerConnection {
    return this.#accept(adoptSocket(address));
  }

  /** Open connections. */
  get connections(): number {
    return this.#connections.size;
  }

  /** What goes on, over all connections. */
  stats(): ConnectionStats {
    const total = { streams: 0, handlers: 0, queuedMessages: 0, queuedBytes: 0 };
    for (const connection of this.#connections.keys()) {
      const one = connection.stats();
      total.streams += one.streams;
      total.handlers += one.handlers;
      total.queuedMessages += one.queuedMessages;
      total.queuedBytes += one.queuedBytes;
    }
    return total;
  }

  /**
   * Stops listening and lets running calls finish; new ones get Unavailable. Resolves when the last
   * connection is closed. There is no limit: race it with a timer and close().
   */
  async shutdown(): Promise<void> {
    this.#stopListening();
    const ended = [...this.#connections].map(async ([connection, socket]) => {
      const closed = new Promise((resolve) => socket.once('close', resolve));
      await connection.drain();
      connection.close();
      await closed;
    });
    await Promise.all(ended);
  }

  /** Stops listening, aborts all calls and drops all connections at once. */
  close(): void {
    this.#stopListening();
    for (const [connection, socket] of this.#connections) {
      connection.end();
      socket.destroy();
    }
  }

  #accept(socket: net.Socket): ServerConnection {
    const connection = attachSocket(socket, (channel) => new ServerConnection(this.#router, channel, this.#options));
    this.#connections.set(connection, socket);
    socket.once('close', () => this.#connections.delete(connection));
    return connection;
  }

  #stopListening(): void {
    for (const listener of this.#listeners) listener.close();
    this.#listeners.clear();
  }
}
