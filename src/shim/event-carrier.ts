/**
 * Carries one keeper's events to its daemon, so that the engine's death neither doubles nor delays
 * one.
 *
 * The connection is the keeper's (ATTACH). It writes an event and notes the event's number, and
 * since when it is on its way (`daemon/sent`), in one step; it keeps the answer until the event has
 * been forgotten. So a successor engine knows what was sent, and waits for the answer, as long as
 * the predecessor would have, or finds it. An event's stream id follows from its number. After a
 * failure the next attempt dials anew. The connection is closed when there has been nothing to send
 * for a while. Where a daemon offers no ttrpc socket, its publish command is run instead.
 */
import { closeSync } from 'node:fs';
import { Any, forward } from '../api/index.js';
import { Code, codeOf, LaminaError, messageOf } from '../base/index.js';
import { binding, SIGKILL } from '../sys/index.js';
import { ClientConnection, connect, createClient, readHeader, StatusError } from '../ttrpc/index.js';
import type { KeeperLink } from './keeper-link.js';
import type { Hello } from './keeper-messages.js';
import { RefusedError } from './publisher.js';

/** The stock shim's limit for one attempt. */
const FORWARD_TIMEOUT_MS = 5_000;
/** For an answer to what a predecessor sent longer ago: it may be there already. */
const SHORTEST_WAIT_MS = 100;
const IDLE_MS = 1_000;
/** Request metadata that tells the daemon whose event it is. */
const NAMESPACE_HEADER = 'containerd-namespace-ttrpc';
const SENT = 'daemon/sent';
/**
 * An event's number, and when it was sent. Anything else was written by nobody: nothing is known
 * then.
 */
const NOTE = /^(\d{1,15}) (\d{1,15})$/;

/** A frame that the keeper keeps until it is released. */
interface Answer {
  readonly frame: Uint8Array;
  /** The keeper's number of it. */
  readonly number: number;
}

export class EventCarrier {
  readonly #hello: Hello;
  readonly #link: KeeperLink;
  /** The keeper's number of the connection that is open. */
  #connection: number | undefined;
  /** The event under way, and what gets its answer. */
  #call: { readonly seq: number; readonly connection: ClientConnection } | undefined;
  /** The answer to the event delivered last, until that is forgotten. */
  #answer: { readonly seq: number; readonly number: number } | undefined;
  /** Answers that came before this engine had taken up the predecessor's event. */
  #early: Answer[] = [];
  /** What a predecessor had sent last on the connection. */
  #left: { readonly seq: number; readonly sentMs: number } | undefined;
  #idle: NodeJS.Timeout | undefined;

  constructor(hello: Hello, link: KeeperLink) {
    this.#hello = hello;
    this.#link = link;
  }

  /**
   * Goes on with a predecessor's connection, if there is one.
   * @returns the number of the last event that was sent on it; those to come must be greater
   */
  restore(stored: ReadonlyMap<string, { readonly bytes: Buffer }>): number {
    const [, seqText = '0', sentText = '0'] = NOTE.exec(stored.get(SENT)?.bytes.toString() ?? '') ?? [];
    const [seq, sentMs] = [Number(seqText), Number(sentText)];
    if (this.#connection === undefined) return seq;
    this.#left = { seq, sentMs };
    this.#disconnectLater();
    return seq;
  }

  /**
   * Takes an event to the daemon.
   * @param seq the event's number: rising, and never used twice; `forgotten` must be called with it
   *   once it is not stored any more
   */
  async forward(request: forward.ForwardRequest, seq: number): Promise<void> {
    // Once what it tells of is recorded, with the answer to the call in the same packet.
    await this.#link.flushed();
    if (this.#hello.ttrpcAddress === '') return await this.#publishByCommand(request);
    if (!this.#hello.features.has('attach')) return await this.#forwardOnce(request);
    clearTimeout(this.#idle);
    const left = this.#left?.seq === seq ? this.#left : undefined;
    this.#left = undefined;
    const passedMs = left === undefined ? 0 : Math.max(sharedMs() - left.sentMs, 0);
    try {
      const to = this.#connection ?? (await this.#connect());
      const send = (frame: Uint8Array): void => (left === undefined ? this.#send(to, frame, seq) : undefined);
      const connection = new ClientConnection({ send, close: () => undefined }, { firstStreamId: streamOf(seq) });
      this.#call = { seq, connection };
      const answered = this.#ask(connection, request, Math.max(FORWARD_TIMEOUT_MS - passedMs, SHORTEST_WAIT_MS));
      for (const { frame, number } of this.#early.splice(0)) this.receive(frame, number);
      await answered;
    } catch (error) {
      this.#disconnect();
      throw error;
    } finally {
      this.#call = undefined;
    }
    this.#disconnectLater();
  }

  /**
   * An event that was delivered is not stored any more: only now its answer may go, or a successor
   * would wait for it.
   */
  forgotten(seq: number): void {
    const answer = this.#answer;
    if (answer?.seq !== seq) return;
    this.#answer = undefined;
    this.#release(answer.number);
  }

  /** The keeper has a connection that an engine made. */
  attached(connection: number): void {
    this.#connection = connection;
  }

  owns(connection: number): boolean {
    return this.#connection === connection;
  }

  /** A frame came on the connection. @param number what the keeper calls it */
  receive(frame: Uint8Array, number: number): void {
    const { streamId } = readHeader(frame);
    if (this.#call !== undefined && streamId === streamOf(this.#call.seq)) {
      this.#answer = { seq: this.#call.seq, number };
      this.#call.connection.receive(frame);
    } else if (this.#left !== undefined && streamId === streamOf(this.#left.seq)) this.#early.push({ frame, number });
    // Of an event that was given up, or forgotten.
    else this.#release(number);
  }

  /** The daemon has closed the connection. */
  closed(): void {
    this.#connection = undefined;
    this.#forget();
    this.#call?.connection.end();
  }

  /** The keeper is gone. */
  close(): void {
    clearTimeout(this.#idle);
    this.#connection = undefined;
    this.#call?.connection.end();
  }

  /** Note and event in one packet, so that there is never the one without the other. */
  #send(connection: number, frame: Uint8Array, seq: number): void {
    this.#link.flush();
    this.#link.put(SENT, Buffer.from(`${seq} ${sharedMs()}`));
    this.#link.sendFrame(connection, frame, 0, false);
    this.#link.flush();
  }

  async #ask(connection: ClientConnection, request: forward.ForwardRequest, timeoutMs: number): Promise<void> {
    const metadata = { [NAMESPACE_HEADER]: [this.#hello.namespace] };
    try {
      await createClient(forward.EventsDefinition, connection).forward(request, { timeoutMs, metadata });
    } catch (error) {
      throw isAnswer(error) ? new RefusedError(codeOf(error), messageOf(error), { cause: error }) : error;
    }
  }

  async #connect(): Promise<number> {
    const fd = binding().connectUnix(this.#path, 'stream');
    try {
      await this.#link.attach(fd);
    } finally {
      closeSync(fd);
    }
    if (this.#connection === undefined) throw new LaminaError(Code.Unavailable, 'the daemon hangs up');
    return this.#connection;
  }

  get #path(): string {
    return this.#hello.ttrpcAddress.replace(/^unix:\/\//, '');
  }

  #release(number: number): void {
    if (this.#connection !== undefined) this.#link.release(this.#connection, number);
  }

  #disconnectLater(): void {
    this.#idle = setTimeout(() => this.#disconnect(), IDLE_MS).unref();
  }

  #disconnect(): void {
    if (this.#connection === undefined) return;
    this.#link.shut(this.#connection);
    this.#connection = undefined;
    this.#forget();
  }

  /** The connection is over, and the keeper's frames with it. */
  #forget(): void {
    this.#link.del(SENT);
    this.#left = undefined;
    this.#answer = undefined;
    this.#early = [];
  }

  /**
   * For a keeper that keeps no connection: an event whose answer this engine does not live to see
   * is sent again.
   */
  async #forwardOnce(request: forward.ForwardRequest): Promise<void> {
    const connection = await connect({ path: this.#path });
    try {
      await this.#ask(connection, request, FORWARD_TIMEOUT_MS);
    } finally {
      connection.close();
    }
  }

  /** `containerd --address GRPC publish --topic T --namespace NS`, the event on its stdin. */
  async #publishByCommand(request: forward.ForwardRequest): Promise<void> {
    const { envelope } = request;
    const event = Any.encode(envelope?.event ?? { typeUrl: '', value: new Uint8Array() }).finish();
    const stdin = binding().memfd('lamina-event', event);
    try {
      const { publishBinary, grpcAddress, namespace } = this.#hello;
      const topic = envelope?.topic ?? '';
      const child = await this.#link.children.spawn({
        name: `publish ${topic}`,
        argv: [publishBinary, '--address', grpcAddress, 'publish', '--topic', topic, '--namespace', namespace],
        fds: [[stdin, 0]],
      });
      const timer = setTimeout(() => child.kill(SIGKILL), FORWARD_TIMEOUT_MS);
      const { code, signal } = await child.exited;
      clearTimeout(timer);
      if (code === 0) return;
      const why = `${publishBinary} publish: exit status ${code}`;
      // It says the same of a daemon that is away, and does not end by itself when one hangs.
      const isRefused = signal === undefined && isListening(grpcAddress);
      throw isRefused ? new RefusedError(Code.Unknown, why) : new LaminaError(Code.Unavailable, why);
    } finally {
      closeSync(stdin);
    }
  }
}

/**
 * The daemon has said no; or the event can never be sent to it, or its answer not be read, which
 * comes to the same.
 */
function isAnswer(error: unknown): boolean {
  const code = codeOf(error);
  return error instanceof StatusError || code === Code.ResourceExhausted || code === Code.Internal;
}

/** Somebody takes connections there. */
function isListening(address: string): boolean {
  try {
    closeSync(binding().connectUnix(address.replace(/^unix:\/\//, ''), 'stream'));
    return true;
  } catch {
    return false;
  }
}

/** ttrpc's ids are odd. */
function streamOf(seq: number): number {
  return 2 * seq + 1;
}

/**
 * Milliseconds on a clock that a successor engine shares and nobody can set: CLOCK_MONOTONIC, which
 * Node's own is.
 */
function sharedMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}
