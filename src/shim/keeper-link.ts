/**
 * The engine's end of the link to one keeper: typed messages of native/README.md, and what the
 * keeper replays to a new engine.
 *
 * INVARIANTS: messages are handled in the order the keeper sent them; nothing here waits. Until
 * REPLAYED has come, entries and their descriptors are collected; afterwards `entries` only mirrors
 * what this engine put.
 */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import {
  LM_F_ATTACHED,
  LM_F_FINISH,
  LM_F_OVERSIZE,
  LM_F_QUIET,
  LM_F_REOPEN,
  LM_F_STANDING,
  LM_MSG_ACCEPTED,
  LM_MSG_ACK,
  LM_MSG_ADOPTED,
  LM_MSG_ASK,
  LM_MSG_ATTACH,
  LM_MSG_CHILD,
  LM_MSG_CLOSED,
  LM_MSG_DECLINE,
  LM_MSG_DEL,
  LM_MSG_DONE,
  LM_MSG_ENTRY,
  LM_MSG_EXIT,
  LM_MSG_EXITED,
  LM_MSG_FAILED,
  LM_MSG_FRAME,
  LM_MSG_HELLO,
  LM_MSG_PING,
  LM_MSG_PONG,
  LM_MSG_PUT,
  LM_MSG_READ_OUT,
  LM_MSG_RELAY,
  LM_MSG_RELAY_STATE,
  LM_MSG_RELAYED,
  LM_MSG_RELEASE,
  LM_MSG_REPLAYED,
  LM_MSG_SEND,
  LM_MSG_SHUT,
  LM_MSG_SIGNALED,
  LM_MSG_SPAWNED,
  LM_MSG_STATUS,
  LM_MSG_UNRELAY,
  LM_MSG_WELCOME,
  LM_PROTOCOL,
  type Message,
  MessageSocket,
  type OutgoingMessage,
} from '../sys/index.js';
import { KeeperChildren } from './keeper-children.js';
import {
  type ExitReport,
  type Hello,
  parseExitReport,
  parseFailure,
  parseHello,
  parseRelayState,
  type RelayState,
} from './keeper-messages.js';
import { KeeperRequests } from './keeper-requests.js';
import { KeptDescriptors } from './kept-descriptors.js';
import { Turn } from './turn.js';

/** What a session does with the keeper's messages. */
export interface KeeperEvents {
  /** @param attached an engine made it, by `attach`; else the daemon did */
  onAccepted(connection: number, attached: boolean): void;
  onFrame(connection: number, seq: number, frame: Buffer, oversize: boolean): void;
  onClosed(connection: number): void;
  onExited(report: ExitReport): void;
  onRelay(state: RelayState): void;
  onReplayed(): void;
  onSignaled(signal: number): void;
  /**
   * The link has ended.
   * @param why undefined when the keeper is gone, its sockets and children with it
   */
  onGone(why: string | undefined): void;
}

/**
 * An end of a relay: a descriptor, or a terminal that the keeper has as an entry, with a descriptor
 * of it for older keepers.
 */
export type RelayEnd = number | { readonly entry: string; readonly fd: number };

/** What may come without its descriptor when there is no room for one. */
const DOES_WITHOUT: ReadonlySet<number> = new Set([LM_MSG_SPAWNED, LM_MSG_ADOPTED, LM_MSG_PING]);
/** What is added to an eventfd's counter. */
const ONE = Buffer.from(new BigUint64Array([1n]).buffer);

export class KeeperLink {
  readonly #socket: MessageSocket;
  readonly #onHello: (hello: Hello, link: KeeperLink) => KeeperEvents | undefined;
  readonly #onAsk: (() => Uint8Array) | undefined;
  #events: KeeperEvents | undefined;
  #isDeclined = false;
  #features: ReadonlySet<string> = new Set();
  /** Gathers what is sent in a turn; undefined for a keeper that takes single messages only. */
  #turn: Turn | undefined;
  readonly #requests: KeeperRequests;
  readonly #kept = new KeptDescriptors();
  /** The programs the keeper runs, and what they leave behind. */
  readonly children: KeeperChildren;
  /** name → what the predecessor stored; emptied after the replay by `takeEntries`. */
  #entries = new Map<string, { bytes: Buffer; fd: number | undefined }>();

  /**
   * @param onHello called once with the keeper's first message; undefined declines the keeper
   * @param onAsk what to say to the `lamina` command, which connects as keepers do and asks who
   *   this is
   */
  constructor(
    fd: number,
    onHello: (hello: Hello, link: KeeperLink) => KeeperEvents | undefined,
    onAsk?: () => Uint8Array,
  ) {
    this.#onHello = onHello;
    this.#onAsk = onAsk;
    this.#socket = new MessageSocket({
      fd,
      onMessage: (message) => this.#receive(message),
      onClose: (error) => this.#gone(error),
    });
    this.#requests = new KeeperRequests({
      send: (message) => this.#send(message),
      isClosed: () => this.closed,
    });
    this.children = new KeeperChildren({ requests: this.#requests, flush: () => this.flush() });
  }

  get closed(): boolean {
    return this.#socket.closed || this.#isDeclined;
  }

  /** Ends the link; the keeper then looks for another engine. */
  close(): void {
    this.#socket.close();
  }

  /**
   * Gives the keeper up: it starts an engine of its own, which finds all that was recorded. What
   * this turn has not sent yet never is, as if this engine had died.
   * @param why for the log
   */
  abandon(why: string): void {
    if (this.closed) return;
    this.#isDeclined = true;
    this.#turn?.drop();
    this.#decline();
    this.#gone(new Error(why));
  }

  /** What a predecessor stored, once: the caller owns the descriptors. */
  takeEntries(): Map<string, { bytes: Buffer; fd: number | undefined }> {
    const entries = this.#entries;
    this.#entries = new Map();
    return entries;
  }

  /**
   * Stores bytes, and a duplicate of a descriptor, in the keeper. Replaces an entry of that name.
   */
  put(name: string, bytes: Uint8Array, fd?: number): void {
    if (fd === undefined) {
      this.#send({ type: LM_MSG_PUT, fields: [name, bytes] });
      return;
    }
    const serial = this.#requests.nextSerial();
    this.#kept.put(serial, name);
    this.#send({ type: LM_MSG_PUT, flags: LM_F_QUIET, serial, fields: [name, bytes], fds: [fd] });
  }

  /**
   * Makes sure that descriptors are in the keeper. To be called when a later request has been
   * answered, as answers come in order.
   * @param prefix of the names of their entries
   * @throws LaminaError ResourceExhausted when the keeper had no room for one of them
   */
  assertKept(prefix: string): void {
    this.#kept.assertKept(prefix);
  }

  /**
   * Has the keeper open a FIFO for itself, at both ends, and keep that as an entry: from then on
   * nobody at the FIFO's other end notices when this engine goes.
   * @param fd any descriptor of it, O_PATH too
   */
  async putFifo(name: string, fd: number): Promise<void> {
    if (!this.#features.has('reopen')) {
      const both = openSync(`/proc/self/fd/${fd}`, constants.O_RDWR | constants.O_NONBLOCK);
      this.put(name, Buffer.alloc(0), both);
      closeSync(both);
      return;
    }
    await this.#requests.do({ type: LM_MSG_PUT, flags: LM_F_REOPEN, fields: [name, ''], fds: [fd] });
  }

  /** Drops an entry and closes the keeper's descriptor of it. */
  del(name: string): void {
    this.#kept.forget(name);
    this.#send({ type: LM_MSG_DEL, fields: [name] });
  }

  /**
   * Copies src to dst in the keeper until end of file. The keeper has its own duplicates: the
   * caller may close both at once. Of an entry it makes none. Resolves when the copy has begun:
   * what src held is then in dst, as far as it had room.
   * @returns whether src held anything
   */
  relay(name: string, src: RelayEnd, dst: RelayEnd): Promise<boolean> {
    const ends = [src, dst];
    const named = this.#features.has('relay-entry') && ends.some((end) => typeof end !== 'number');
    const entries = named ? ends.map((end) => (typeof end === 'number' ? '' : end.entry)) : [];
    const own = named ? ends.filter((end) => typeof end === 'number') : ends;
    const fds = own.map((end) => (typeof end === 'number' ? end : end.fd));
    return this.#requests.send({ type: LM_MSG_RELAY, fields: [name, ...entries], fds }, (arg) => arg !== 0);
  }

  /**
   * Resolves when the FIFOs whose reading ends are kept under names that begin so have been read
   * empty, and nothing is on its way there. One that nobody has open for reading is not waited for,
   * and no reader longer than `timeoutMs`. With an older keeper, at once.
   */
  async outputRead(prefix: string, timeoutMs: number): Promise<void> {
    if (!this.#features.has('read-out')) return;
    await this.#requests.do({ type: LM_MSG_READ_OUT, arg: timeoutMs, fields: [prefix] });
  }

  /**
   * Lets a relay move what its source holds now and then ends it; its end is reported by onRelay.
   */
  finishRelay(name: string): void {
    this.#send({ type: LM_MSG_UNRELAY, flags: LM_F_FINISH, fields: [name] });
  }

  /** Ends a relay at once and forgets it. */
  dropRelay(name: string): void {
    this.#send({ type: LM_MSG_UNRELAY, fields: [name] });
  }

  /** Lets the keeper forget an exit report. */
  acknowledge(seq: number): void {
    this.#send({ type: LM_MSG_ACK, arg: seq });
  }

  /**
   * Writes to a daemon's connection; with `seq`, that request frame is answered by it.
   * @param stands the keeper may give this answer to equal requests, until something happens
   */
  sendFrame(connection: number, bytes: Uint8Array, seq: number, stands: boolean): void {
    const flags = stands ? LM_F_STANDING : 0;
    this.#send({ type: LM_MSG_SEND, flags, serial: seq, arg: connection, fields: [bytes] });
  }

  /**
   * Gives the keeper a duplicate of a connected socket, to be used like the daemon's connections:
   * `sendFrame`, `onFrame`, `release`, `shut`. Resolves when `onAccepted` has told its number.
   */
  async attach(fd: number): Promise<void> {
    await this.#requests.do({ type: LM_MSG_ATTACH, fds: [fd] });
  }

  /** Lets the keeper forget a frame that gets no answer. */
  release(connection: number, seq: number): void {
    this.#send({ type: LM_MSG_RELEASE, serial: seq, arg: connection });
  }

  /** Closes a daemon's connection after what was sent. */
  shut(connection: number): void {
    this.#send({ type: LM_MSG_SHUT, arg: connection });
  }

  /** Ends the keeper. */
  exit(): void {
    this.#send({ type: LM_MSG_EXIT });
  }

  /**
   * Sends what was asked for in this turn so far: before something is done that a successor must
   * find recorded.
   */
  flush(): void {
    this.#turn?.flush();
  }

  /**
   * Sends what waits.
   * @returns true if all that was ever said is out; what is not, a successor has to find out by
   *   itself
   */
  drain(): boolean {
    this.flush();
    return this.#socket.queuedBytes === 0;
  }

  /** Resolves when that is sent by itself, at the end of the turn. */
  async flushed(): Promise<void> {
    await this.#turn?.flushed();
  }

  #send(message: OutgoingMessage): void {
    if (this.closed) return;
    if (this.#turn === undefined) this.#socket.send(message);
    else this.#turn.send(message);
  }

  #receive(message: Message): void {
    const fds = [...message.fds];
    try {
      if (this.#isDeclined || this.#socket.closed) return;
      if (this.#events === undefined) this.#welcome(message);
      else if (message.lost === true && !DOES_WITHOUT.has(message.type)) {
        // It cannot be had again but from the replay of another link.
        this.#break('no descriptor is left for what the keeper sends');
      } else this.#handle(this.#events, message, fds);
    } finally {
      // What nobody has taken out: of messages that carry none, or are not known.
      for (const fd of fds) closeSync(fd);
    }
  }

  /** @param fds those of the message; whoever keeps one takes it out */
  #handle(events: KeeperEvents, message: Message, fds: number[]): void {
    const [field0, field1] = message.fields;
    const arg = Number(message.arg);
    switch (message.type) {
      case LM_MSG_ENTRY:
        this.#entry(field0?.toString() ?? '', field1 ?? Buffer.alloc(0), fds.shift());
        return;
      case LM_MSG_ACCEPTED:
        events.onAccepted(arg, (message.flags & LM_F_ATTACHED) !== 0);
        if (message.serial !== 0) this.#answered(message, fds);
        return;
      case LM_MSG_FRAME:
        if (field0 !== undefined) {
          events.onFrame(arg, message.serial, field0, (message.flags & LM_F_OVERSIZE) !== 0);
        }
        return;
      case LM_MSG_CLOSED:
        events.onClosed(arg);
        return;
      case LM_MSG_EXITED: {
        const report = parseExitReport(message);
        if (report === undefined) this.#break('an exit report is cut off');
        else if (this.children.exited(report)) this.acknowledge(report.seq);
        else events.onExited(report);
        return;
      }
      case LM_MSG_CHILD:
        this.children.inherit(arg, field0?.toString() ?? '');
        return;
      case LM_MSG_REPLAYED:
        this.children.replayed();
        events.onReplayed();
        return;
      case LM_MSG_DONE:
      case LM_MSG_SPAWNED:
      case LM_MSG_ADOPTED:
        this.#answered(message, fds);
        return;
      case LM_MSG_FAILED: {
        const error = parseFailure(message);
        this.#kept.refused(message.serial, error);
        this.#requests.failed(message.serial, error);
        return;
      }
      case LM_MSG_RELAYED:
      case LM_MSG_RELAY_STATE:
        events.onRelay(parseRelayState(message));
        return;
      case LM_MSG_SIGNALED:
        events.onSignaled(arg);
        return;
      case LM_MSG_PING:
        this.#pong(message.serial, fds[0]);
        return;
      default:
      // A newer keeper may say more than this engine knows.
    }
  }

  /** @param eventFd where the answer wakes nobody; older keepers want a message */
  #pong(serial: number, eventFd: number | undefined): void {
    try {
      if (eventFd !== undefined) writeSync(eventFd, ONE);
    } catch {
      // What is no eventfd is answered as if it were not there.
      eventFd = undefined;
    }
    if (eventFd === undefined) this.#send({ type: LM_MSG_PONG, serial });
  }

  /** The keeper broke the protocol: it is left, and will look for an engine again. */
  #break(why: string): void {
    if (this.#socket.closed) return;
    this.#socket.close();
    this.#gone(new Error(why));
  }

  #entry(name: string, bytes: Buffer, fd: number | undefined): void {
    const replaced = this.#entries.get(name)?.fd;
    if (replaced !== undefined) closeSync(replaced);
    this.#entries.set(name, { bytes, fd });
  }

  #answered(message: Message, fds: number[]): void {
    // Keepers that know no quiet ones answer every PUT that has a number.
    if (!this.#requests.isPending(message.serial)) return;
    this.#kept.answered(message.serial);
    if (!this.#requests.answered(message, fds)) this.#break(`message ${message.type} as an answer`);
  }

  #welcome(message: Message): void {
    if (message.type === LM_MSG_ASK && this.#onAsk !== undefined) {
      this.#send({ type: LM_MSG_STATUS, fields: [this.#onAsk()] });
      return;
    }
    if (message.type !== LM_MSG_HELLO) {
      this.close();
      return;
    }
    const hello = parseHello(message);
    this.#features = hello.features;
    this.#events = message.version === LM_PROTOCOL ? this.#onHello(hello, this) : undefined;
    if (this.#events === undefined) {
      this.#isDeclined = true;
      this.#decline();
    } else {
      this.#send({ type: LM_MSG_WELCOME, arg: process.pid });
      const send = (message: OutgoingMessage): void => this.#socket.send(message);
      if (hello.features.has('batch')) this.#turn = new Turn(send, hello.features.has('batch-fds'));
    }
  }

  /**
   * The keeper closes: were it closed here with the replay unread, the keeper might never see the
   * message.
   */
  #decline(): void {
    this.#socket.send({ type: LM_MSG_DECLINE, arg: process.pid });
  }

  /** Once. */
  #gone(why: Error | undefined): void {
    this.#requests.end();
    this.children.end();
    for (const { fd } of this.takeEntries().values()) if (fd !== undefined) closeSync(fd);
    const events = this.#events;
    this.#events = undefined;
    events?.onGone(why?.message);
  }
}
