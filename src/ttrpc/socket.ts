/** Connections over sockets: node:net on one side, frames on the other. */
import net from 'node:net';
import { Code, LaminaError, messageOf } from '../base/index.js';
import type { FrameChannel } from './channel.js';
import { ClientConnection, type ClientConnectionOptions } from './client-connection.js';
import { FrameDecoder } from './frame.js';

/**
 * Where a peer is: a path (`\0name` is the abstract socket `name`), an open socket descriptor,
 * which is then owned by the connection, or a connected stream.
 */
export type SocketAddress = { readonly path: string } | { readonly fd: number } | { readonly socket: net.Socket };

/** The receiving half of a connection. */
interface Receiver {
  receive(frame: Uint8Array): void;
  end(cause?: unknown): void;
}

class SocketChannel implements FrameChannel {
  readonly #socket: net.Socket;
  #drained: Promise<void> | undefined;

  constructor(socket: net.Socket) {
    this.#socket = socket;
  }

  send(frame: Uint8Array): void | Promise<void> {
    if (this.#socket.write(frame)) return;
    this.#drained ??= new Promise((resolve) => {
      const done = (): void => {
        this.#socket.off('drain', done).off('close', done);
        this.#drained = undefined;
        resolve();
      };
      this.#socket.on('drain', done).on('close', done);
    });
    return this.#drained;
  }

  close(): void {
    this.#socket.destroySoon();
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }
}

/**
 * Joins a connected socket and a connection. The end of the socket, whatever the reason, is the end
 * of the connection: a peer that has closed its half is gone, as for Go's ttrpc.
 */
export function attachSocket<R extends Receiver>(socket: net.Socket, create: (channel: FrameChannel) => R): R {
  const connection = create(new SocketChannel(socket));
  const decoder = new FrameDecoder((frame) => connection.receive(frame));
  let failure: unknown;
  socket.on('data', (chunk: Buffer) => decoder.push(chunk));
  socket.on('end', () => {
    connection.end();
    socket.destroy();
  });
  socket.on('error', (error) => {
    failure = error;
  });
  socket.on('close', () => connection.end(failure));
  return connection;
}

function describe(address: SocketAddress): string {
  if ('path' in address) return JSON.stringify(address.path);
  return 'fd' in address ? `descriptor ${address.fd}` : 'socket';
}

/** The socket of a connection that is open already. */
export function adoptSocket(address: { readonly fd: number } | { readonly socket: net.Socket }): net.Socket {
  if ('socket' in address) return address.socket;
  return new net.Socket({ fd: address.fd, readable: true, writable: true });
}

function dial(path: string, signal: AbortSignal | undefined): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ path });
    const onAbort = (): void => {
      socket.destroy(signal?.reason instanceof Error ? signal.reason : new Error('canceled'));
    };
    const settled = (): void => signal?.removeEventListener('abort', onAbort);
    socket.once('connect', () => {
      settled();
      socket.off('error', reject);
      resolve(socket);
    });
    socket.once('error', (error) => {
      settled();
      reject(error);
    });
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted === true) onAbort();
  });
}

/**
 * Connects a client. It never reconnects: when the connection is over, its owner decides.
 * @param options.signal gives up connecting
 * @throws {LaminaError} Unavailable, with the address as subject and the system's error as cause
 */
export async function connect(
  address: SocketAddress,
  options: ClientConnectionOptions & { readonly signal?: AbortSignal } = {},
): Promise<ClientConnection> {
  try {
    const socket = 'path' in address ? await dial(address.path, options.signal) : adoptSocket(address);
    return attachSocket(socket, (channel) => new ClientConnection(channel, options));
  } catch (error) {
    throw new LaminaError(Code.Unavailable, `connect to ${describe(address)}: ${messageOf(error)}`, {
      subject: describe(address),
      cause: error,
    });
  }
}
