/**
 * Carries one keeper's events to its daemon, so that one whose answer the engine did not live to see is not sent again.
 *
 * The connection is kept in the keeper too (entry `daemon`), and so is the number of the event that is on its way, and since when (`daemon/sent`): a successor
 * engine waits for the answer on that same connection, as long as the predecessor would have. An event's stream id follows from its number. What cannot be
 * known is whether a predecessor died between the note and the write, next to each other in `#send`: that event comes 5 s late; or between reading
 * the answer and dropping the event: that one comes twice. After a failure the next attempt dials anew. The connection is
 * closed when there has been nothing to send for a while. Where a daemon offers no ttrpc socket, its publish command is run instead.
 */
import { closeSync, writeSync } from 'node:fs';
import net from 'node:net';
import { Any, forward } from '../api/index.js';
import { Code, LaminaError } from '../base/index.js';
import { binding, SIGKILL } from '../sys/index.js';
import { attachSocket, ClientConnection, createClient, type FrameChannel } from '../ttrpc/index.js';
import type { Hello, KeeperLink } from './keeper-link.js';

/** The stock shim's limit for one attempt. */
const FORWARD_TIMEOUT_MS = 5_000;
/** For an answer to what a predecessor sent longer ago: it may be there already. */
const SHORTEST_WAIT_MS = 100;
const IDLE_MS = 1_000;
/** Request metadata that tells the daemon whose event it is. */
const NAMESPACE_HEADER = 'containerd-namespace-ttrpc';
const CONNECTION = 'daemon';
const SENT = 'daemon/sent';
/** In place of a connection, for a request that a predecessor has sent. */
const MUTE: FrameChannel = { send: () => undefined, close: () => undefined };

export class EventCarrier {
  readonly #hello: Hello;
  readonly #link: KeeperLink;
  #channel: FrameChannel | undefined;
  /** Of the channel's socket, which owns it. */
  #fd = -1;
  /** The call that is under way; gets what comes on the connection. */
  #call: ClientConnection | undefined;
  #idle: NodeJS.Timeout | undefined;
  /** What a predecessor had: its connection, not yet read from, and the number of the event it sent last. */
  #left: { readonly fd: number; readonly sent: number; readonly sentMs: number } | undefined;

  constructor(hello: Hello, link: KeeperLink) {
    this.#hello = hello;
    this.#link = link;
  }

  /**
   * Goes on with a predecessor's connection. Takes what is its own out of `stored`.
   * @returns the number of the last event that was sent on it; those to come must be greater
   */
  restore(stored: Map<string, { readonly bytes: Buffer; readonly fd: number | undefined }>): number {
    const fd = stored.get(CONNECTION)?.fd;
    stored.delete(CONNECTION);
    if (fd === undefined) return 0;
    const [sent = 0, sentMs = 0] = (stored.get(SENT)?.bytes.toString() ?? '').split(' ').map(Number);
    this.#left = { fd, sent, sentMs };
    this.#disconnectLater();
    return sent;
  }

  /** Takes an event to the daemon, once what it tells of is recorded in the keeper. @param seq the event's number: rising, and never used twice */
  async forward(request: forward.ForwardRequest, seq: number): Promise<void> {
    await this.#link.flushed();
    if (this.#hello.ttrpcAddress === '') return await this.#publishByCommand(request);
    clearTimeout(this.#idle);
    const before = this.#left?.sent === seq ? this.#left : undefined;
    const passedMs = before === undefined ? 0 : Math.max(Date.now() - before.sentMs, 0);
    this.#channel ??= this.#connect();
    const channel: FrameChannel = { send: (frame) => this.#send(frame, seq), close: () => undefined };
    const call = new ClientConnection(before === undefined ? channel : MUTE, { firstStreamId: 2 * seq + 1 });
    this.#call = call;
    try {
      await createClient(forward.EventsDefinition, call).forward(request, {
        timeoutMs: Math.max(FORWARD_TIMEOUT_MS - passedMs, SHORTEST_WAIT_MS),
        metadata: { [NAMESPACE_HEADER]: [this.#hello.namespace] },
      });
    } catch (error) {
      this.#disconnect();
      throw error;
    } finally {
      this.#call = undefined;
    }
    this.#disconnectLater();
  }

  close(): void {
    clearTimeout(this.#idle);
    this.#disconnect();
  }

  /** Directly, as a socket that is used for the first time takes its time. A request that does not fit in at once is a failure. */
  #send(frame: Uint8Array, seq: number): void {
    this.#link.put(SENT, Buffer.from(`${seq} ${Date.now()}`));
    this.#link.flush();
    const written = writeSync(this.#fd, frame);
    if (written < frame.length) throw new LaminaError(Code.Unavailable, 'the daemon does not read its events');
  }

  #connect(): FrameChannel {
    const left = this.#left;
    this.#left = undefined;
    const fd = left?.fd ?? binding().connectUnix(this.#hello.ttrpcAddress.replace(/^unix:\/\//, ''), 'stream');
    if (left === undefined) this.#link.put(CONNECTION, Buffer.alloc(0), fd);
    this.#fd = fd;
    const socket = new net.Socket({ fd, readable: true, writable: true });
    let made: FrameChannel | undefined;
    attachSocket(socket, (channel) => {
      made = channel;
      return {
        receive: (frame: Uint8Array) => this.#call?.receive(frame),
        end: (cause?: unknown) => {
          if (this.#channel !== channel) return;
          this.#call?.end(cause);
          this.#disconnect();
        },
      };
    });
    if (made === undefined) throw new LaminaError(Code.Internal, 'a socket without a channel');
    return made;
  }

  #disconnectLater(): void {
    this.#idle = setTimeout(() => this.#disconnect(), IDLE_MS).unref();
  }

  #disconnect(): void {
    const channel = this.#channel;
    const left = this.#left;
    if (channel === undefined && left === undefined) return;
    this.#channel = undefined;
    this.#left = undefined;
    this.#link.del(CONNECTION);
    this.#link.del(SENT);
    channel?.close();
    if (left !== undefined) closeSync(left.fd);
  }

  /** `containerd --address GRPC publish --topic T --namespace NS`, the event on its stdin. */
  async #publishByCommand(request: forward.ForwardRequest): Promise<void> {
    const { envelope } = request;
    const event = Any.encode(envelope?.event ?? { typeUrl: '', value: new Uint8Array() }).finish();
    const stdin = binding().memfd('lamina-event', event);
    try {
      const { publishBinary, grpcAddress, namespace } = this.#hello;
      const topic = envelope?.topic ?? '';
      const child = await this.#link.spawn({
        name: `publish ${topic}`,
        argv: [publishBinary, '--address', grpcAddress, 'publish', '--topic', topic, '--namespace', namespace],
        fds: [[stdin, 0]],
      });
      const timer = setTimeout(() => child.kill(SIGKILL), FORWARD_TIMEOUT_MS);
      const { code } = await child.exited;
      clearTimeout(timer);
      if (code !== 0) throw new LaminaError(Code.Unavailable, `${publishBinary} publish: exit status ${code}`);
    } finally {
      closeSync(stdin);
    }
  }
}
