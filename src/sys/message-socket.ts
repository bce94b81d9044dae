/**
 * One end of a keeper ↔ engine link: whole messages over a SEQPACKET socket, in order, without ever
 * blocking.
 *
 * INVARIANTS: messages leave in the order of send(); one that cannot leave at once waits in a queue
 * with duplicates of its descriptors, so that send() never holds on to the caller's. onClose is
 * called once, when the peer has gone or broke the protocol, and not after close(); no onMessage
 * follows it. A write error alone does not end the link: what the peer sent before it went is
 * delivered first, then comes the end of file.
 */
import { closeSync } from 'node:fs';
import { isErrno } from '../base/index.js';
import type { Received } from './binding.js';
import { LM_INLINE_MAX } from './gen/protocol.js';
import { binding } from './load-binding.js';
import { decodeMessage, encodeMessage, type Message, type OutgoingMessage } from './message.js';
import { POLLIN, POLLOUT, type Poller, type Registration, sharedPoller } from './poller.js';

export interface MessageSocketOptions {
  /** A connected SEQPACKET socket; owned, and closed, by the MessageSocket. */
  readonly fd: number;
  /**
   * Takes a message and its descriptors. Throwing does not harm the link: the error becomes an
   * uncaught exception.
   */
  readonly onMessage: (message: Message) => void;
  /** Told why when it was an error: a MessageError for an ill-formed message, else an errno. */
  readonly onClose: (error: Error | undefined) => void;
  readonly poller?: Poller;
  /** Messages taken per readiness before other descriptors get their turn. Default 32. */
  readonly batch?: number;
  /** Whether it keeps the event loop alive. Default true. */
  readonly ref?: boolean;
}

interface Packet {
  readonly data: Buffer;
  /** Ours to close. */
  readonly fds: readonly number[];
}

export class MessageSocket {
  readonly #fd: number;
  readonly #onMessage: (message: Message) => void;
  readonly #onClose: (error: Error | undefined) => void;
  readonly #batch: number;
  readonly #watch: Registration;
  #queue: Packet[] = [];
  #queuedBytes = 0;
  /** The peer takes nothing any more; it may still have sent something. */
  #writable: boolean = true;
  #closed: boolean = false;

  constructor(options: MessageSocketOptions) {
    this.#fd = options.fd;
    this.#onMessage = options.onMessage;
    this.#onClose = options.onClose;
    this.#batch = options.batch ?? 32;
    binding().setNonBlocking(options.fd, true);
    const poller = options.poller ?? sharedPoller();
    this.#watch = poller.watch(options.fd, POLLIN, (events) => this.#onReady(events), { ref: options.ref ?? true });
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Bytes in the queue: how far the peer is behind. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /**
   * Sends a message, or queues it while the socket is full. The message's descriptors stay the
   * caller's, who may close them as soon as this returns. On a closed link it does nothing: onClose
   * tells.
   * @throws MessageError when the message cannot be expressed; errno EBADF for descriptors that are
   *   not open
   */
  send(message: OutgoingMessage): void {
    if (this.#closed || !this.#writable) return;
    const { data, fds, bodyFd } = encodeMessage(message);
    try {
      if (this.#queue.length === 0 && this.#trySend({ data, fds })) return;
      if (!this.#writable) return;
      this.#queue.push({ data, fds: duplicateAll(fds) });
      this.#queuedBytes += data.length;
      this.#watch.setEvents(POLLIN | POLLOUT);
    } finally {
      if (bodyFd !== undefined) closeSync(bodyFd);
    }
  }

  /** Closes the link at once; what is queued is dropped. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#watch[Symbol.dispose]();
    closeSync(this.#fd);
    this.#dropQueue();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #dropQueue(): void {
    const dropped = this.#queue;
    this.#queue = [];
    this.#queuedBytes = 0;
    for (const packet of dropped) closeAll(packet.fds);
  }

  /** False when the packet must wait, or when nothing can be written any more. */
  #trySend(packet: Packet): boolean {
    try {
      return binding().sendMessage(this.#fd, packet.data, packet.fds);
    } catch (error) {
      // ETOOMANYREFS: the kernel takes more descriptors once the peer has received some. Nothing
      // tells when, so it is tried again with every POLLOUT, which is at once: a loop, but one the
      // peer ends.
      if (isErrno(error, 'ENOBUFS', 'ETOOMANYREFS')) return false;
      if (!isErrno(error, 'EPIPE', 'ECONNRESET', 'ENOTCONN')) throw error;
      this.#writable = false;
      this.#dropQueue();
      this.#watch.setEvents(POLLIN);
      return false;
    }
  }

  #onReady(events: number): void {
    if ((events & POLLOUT) !== 0) this.#flush();
    if ((events & ~POLLOUT) !== 0) this.#receive();
  }

  #flush(): void {
    for (let packet = this.#queue[0]; packet !== undefined; packet = this.#queue[0]) {
      if (!this.#trySend(packet)) return;
      this.#queue.shift();
      this.#queuedBytes -= packet.data.length;
      closeAll(packet.fds);
    }
    this.#watch.setEvents(POLLIN);
  }

  #receive(): void {
    for (let i = 0; i < this.#batch && !this.#closed; i += 1) {
      let received: Received | null;
      let message: Message;
      try {
        received = this.#receiveOne();
        if (received === null) return;
        if (received.data.length === 0) {
          closeAll(received.fds);
          this.#end(undefined);
          return;
        }
        message = decodeMessage(received.data, received.fds);
        if (received.lost === true) message = { ...message, lost: true };
      } catch (error) {
        this.#end(error instanceof Error ? error : new Error(String(error)));
        return;
      }
      this.#onMessage(message);
    }
  }

  #receiveOne(): Received | null {
    try {
      return binding().recvMessage(this.#fd, LM_INLINE_MAX);
    } catch (error) {
      // The peer went with messages of ours unread. Reported once, ahead of what it had sent
      // itself.
      if (!isErrno(error, 'ECONNRESET')) throw error;
      this.#writable = false;
      return binding().recvMessage(this.#fd, LM_INLINE_MAX);
    }
  }

  #end(error: Error | undefined): void {
    this.close();
    this.#onClose(error);
  }
}

export function closeAll(fds: readonly number[]): void {
  for (const fd of fds) closeSync(fd);
}

/** Duplicates all descriptors, or none when it throws. */
export function duplicateAll(fds: readonly number[]): number[] {
  const copies: number[] = [];
  try {
    for (const fd of fds) copies.push(binding().dupFd(fd));
  } catch (error) {
    closeAll(copies);
    throw error;
  }
  return copies;
}
