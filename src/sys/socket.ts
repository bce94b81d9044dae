/**
 * Unix sockets that node:net cannot provide: SEQPACKET, descriptors beside the data, credentials,
 * listening with a mode.
 *
 * All are non-blocking and close-on-exec; whoever receives a descriptor closes it. A path that
 * starts with NUL is an abstract name.
 *
 * @see unix(7)
 */
import type { PeerCredentials } from './binding.js';
import { binding } from './load-binding.js';

export type SocketType = 'stream' | 'seqpacket';

export interface ListenOptions {
  readonly type: SocketType;
  /** Connections that may wait to be accepted. Default 128. */
  readonly backlog?: number;
  /** Mode of the socket's file, whatever the umask. Default 0600. */
  readonly mode?: number;
}

/**
 * Binds a new socket and listens.
 * @throws errno EADDRINUSE, ENAMETOOLONG (107 bytes are the most), ENOENT, EACCES
 */
export function listenUnix(path: string, options: ListenOptions): number {
  return binding().listenUnix(path, options.type, options.backlog ?? 128, options.mode ?? 0o600);
}

/**
 * Connects.
 * @throws errno ENOENT, ECONNREFUSED, EAGAIN when the listener's queue is full, EPROTOTYPE for the
 *   wrong type
 */
export function connectUnix(path: string, type: SocketType): number {
  return binding().connectUnix(path, type);
}

/** Accepts a connection; null when none waits. @throws errno EMFILE, ECONNABORTED */
export function acceptUnix(fd: number): number | null {
  return binding().acceptUnix(fd);
}

export function socketPair(type: SocketType): [number, number] {
  return binding().socketPair(type);
}

/** Who connected (or who listened), as of then. */
export function peerCredentials(fd: number): PeerCredentials {
  return binding().peerCredentials(fd);
}
