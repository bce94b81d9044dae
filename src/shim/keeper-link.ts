/**
 * The engine's end of the link to one keeper: typed messages of native/README.md, requests matched to their answers, and
 * what the keeper replays to a new engine.
 *
 * INVARIANTS: messages are handled in the order the keeper sent them; nothing here waits. Until REPLAYED has come, entries
 * and their descriptors are collected; afterwards `entries` only mirrors what this engine put.
 */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { Code, codeOf, codeOfErrno, createDeferred, type Deferred, isErrno, LaminaError } from '../base/index.js';
import type { ExitStatus, SpawnedProcess, Spawner, SpawnRequest } from '../oci/index.js';
import {
  binding,
  LM_F_ATTACHED,
  LM_F_CLEAR_ENV,
  LM_F_DIE_WITH_KEEPER,
  LM_F_ENDED,
  LM_F_FINISH,
  LM_F_OVERSIZE,
  LM_F_QUIET,
  LM_F_REOPEN,
  LM_F_STANDING,
  LM_MSG_ACCEPTED,
  LM_MSG_ACK,
  LM_MSG_ADOPT,
  LM_MSG_ADOPTED,
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
  LM_MSG_RELAY,
  LM_MSG_RELAY_STATE,
  LM_MSG_RELAYED,
  LM_MSG_RELEASE,
  LM_MSG_REPLAYED,
  LM_MSG_SEND,
  LM_MSG_SHUT,
  LM_MSG_SIGNALED,
  LM_MSG_SPAWN,
  LM_MSG_SPAWNED,
  LM_MSG_UNRELAY,
  LM_MSG_WELCOME,
  LM_PROTOCOL,
  type Message,
  MessageSocket,
  type OutgoingMessage,
  SIGKILL,
} from '../sys/index.js';
import { errnoName, errnoText } from './errno.js';
import { Turn } from './turn.js';

/** Who a keeper serves; see HELLO in native/README.md. */
export interface Hello {
  readonly keeperPid: number;
  readonly namespace: string;
  readonly id: string;
  readonly group: string;
  readonly bundle: string;
  readonly socket: string;
  readonly grpcAddress: string;
  readonly ttrpcAddress: string;
  readonly publishBinary: string;
  readonly debug: boolean;
  readonly stateDir: string;
  /** What the keeper understands beyond the first keepers. */
  readonly features: ReadonlySet<string>;
}

/** A child of the keeper was reaped. */
export interface ExitReport extends ExitStatus {
  readonly seq: number;
  readonly pid: number;
  /** What the child was called when it was spawned or adopted; empty for a stranger. */
  readonly name: string;
}

/** The end of a relay, or its being alive (`ended` false) in a replay. */
export interface RelayState {
  readonly name: string;
  readonly ended: boolean;
  readonly bytes: number;
  /** Name of the error that ended it; undefined for end of file. */
  readonly error: string | undefined;
}

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
  /** The link has ended. @param why undefined when the keeper is gone, its sockets and children with it */
  onGone(why: string | undefined): void;
}

/** A process of the keeper that this engine holds by pidfd. */
export interface HeldProcess {
  readonly pid: number;
  readonly pidfd: number;
}

interface Request extends Deferred<Answer> {
  /** The message that answers it, unless it failed. */
  readonly answeredBy: number;
}

interface Answer extends HeldProcess {
  /** For a spawned program: its exit. */
  readonly exited: Promise<ExitStatus>;
}

const NUL = Buffer.of(0);
/** What may come without its descriptor when there is no room for one. */
const DOES_WITHOUT: ReadonlySet<number> = new Set([LM_MSG_SPAWNED, LM_MSG_ADOPTED, LM_MSG_PING]);
/** What is added to an eventfd's counter. */
const ONE = Buffer.from(new BigUint64Array([1n]).buffer);
const SPAWN_NAME = 'run:';
/** Request → its answer, where that is not DONE. */
const ANSWERED_BY: Readonly<Record<number, number>> = {
  [LM_MSG_SPAWN]: LM_MSG_SPAWNED,
  [LM_MSG_ADOPT]: LM_MSG_ADOPTED,
  [LM_MSG_ATTACH]: LM_MSG_ACCEPTED,
};

/** Field lists of the protocol are NUL-terminated strings. */
function nulTerminated(strings: readonly string[]): Buffer {
  return Buffer.concat(strings.flatMap((text) => [Buffer.from(text), NUL]));
}

/** Splits a wait(2) status. */
export function exitStatusOf(waitStatus: number, timeNs: bigint): ExitStatus {
  const signal = waitStatus & 0x7f;
  return signal === 0
    ? { code: (waitStatus >> 8) & 0xff, signal: undefined, timeNs }
    : { code: 128 + signal, signal, timeNs };
}

function parseHello(message: Message): Hello {
  const values = new Map<string, string>();
  for (const field of message.fields) {
    const text = field.toString();
    const at = text.indexOf('=');
    if (at > 0) values.set(text.slice(0, at), text.slice(at + 1));
  }
  const value = (key: string): string => values.get(key) ?? '';
  return {
    keeperPid: Number(message.arg),
    namespace: value('namespace'),
    id: value('id'),
    group: value('group'),
    bundle: value('bundle'),
    socket: value('socket'),
    grpcAddress: value('grpc_address'),
    ttrpcAddress: value('ttrpc_address'),
    publishBinary: value('publish_binary'),
    debug: value('debug') === '1',
    stateDir: value('state_dir'),
    features: new Set(value('features').split(' ')),
  };
}

export class KeeperLink implements Spawner {
  readonly #socket: MessageSocket;
  readonly #onHello: (hello: Hello, link: KeeperLink) => KeeperEvents | undefined;
  #events: KeeperEvents | undefined;
  #isDeclined = false;
  #features: ReadonlySet<string> = new Set();
  /** Gathers what is sent in a turn; undefined for a keeper that takes single messages only. */
  #turn: Turn | undefined;
  #serial = 0;
  /** serial of a PUT of a descriptor → its entry's name; removed when a later request was answered. */
  readonly #kept = new Map<number, string>();
  /** name → why the keeper has not taken this descriptor; removed by `assertKept`, or with the entry. */
  readonly #refused = new Map<string, LaminaError>();
  /** serial of a request → who waits for its answer; removed by the answer or the link's end. */
  readonly #requests = new Map<number, Request>();
  /** pid of a program spawned by this engine → its exit; removed when it was reaped. */
  readonly #running = new Map<number, Deferred<ExitStatus>>();
  /** pid → a program that a predecessor had spawned and that lives; removed when it was reaped, or taken over. */
  readonly #inherited = new Map<number, { readonly name: string; readonly exited: Promise<ExitStatus> }>();
  /** name → what the predecessor stored; emptied after the replay by `takeEntries`. */
  #entries = new Map<string, { bytes: Buffer; fd: number | undefined }>();

  /**
   * @param onHello called once with the first message; undefined declines the keeper
   */
  constructor(fd: number, onHello: (hello: Hello, link: KeeperLink) => KeeperEvents | undefined) {
    this.#onHello = onHello;
    this.#socket = new MessageSocket({
      fd,
      onMessage: (message) => this.#receive(message),
      onClose: (error) => this.#gone(error),
    });
  }

  get closed(): boolean {
    return this.#socket.closed;
  }

  /** Ends the link; the keeper then looks for another engine. */
  close(): void {
    this.#socket.close();
  }

  /** What a predecessor stored, once: the caller owns the descriptors. */
  takeEntries(): Map<string, { bytes: Buffer; fd: number | undefined }> {
    const entries = this.#entries;
    this.#entries = new Map();
    return entries;
  }

  /** Stores bytes, and a duplicate of a descriptor, in the keeper. Replaces an entry of that name. */
  put(name: string, bytes: Uint8Array, fd?: number): void {
    if (fd === undefined) {
      this.#send({ type: LM_MSG_PUT, fields: [name, bytes] });
      return;
    }
    const serial = this.#nextSerial();
    this.#kept.set(serial, name);
    this.#refused.delete(name);
    this.#send({ type: LM_MSG_PUT, flags: LM_F_QUIET, serial, fields: [name, bytes], fds: [fd] });
  }

  /**
   * Makes sure that descriptors are in the keeper. To be called when a later request has been answered, as answers come in order.
   * @param prefix of the names of their entries
   * @throws LaminaError ResourceExhausted when the keeper had no room for one of them
   */
  assertKept(prefix: string): void {
    for (const [name, error] of this.#refused) {
      if (!name.startsWith(prefix)) continue;
      this.#refused.delete(name);
      throw error;
    }
  }

  /**
   * Has the keeper open a FIFO for itself, at both ends, and keep that as an entry: from then on nobody at the FIFO's other end notices when this engine goes.
   * @param fd any descriptor of it, O_PATH too
   */
  async putFifo(name: string, fd: number): Promise<void> {
    if (!this.#features.has('reopen')) {
      const both = openSync(`/proc/self/fd/${fd}`, constants.O_RDWR | constants.O_NONBLOCK);
      this.put(name, Buffer.alloc(0), both);
      closeSync(both);
      return;
    }
    await this.#request(LM_MSG_PUT, { flags: LM_F_REOPEN, fields: [name, ''], fds: [fd] });
  }

  /** Drops an entry and closes the keeper's descriptor of it. */
  del(name: string): void {
    this.#refused.delete(name);
    this.#send({ type: LM_MSG_DEL, fields: [name] });
  }

  /** Runs a program as the keeper's child. */
  async spawn(request: SpawnRequest): Promise<SpawnedProcess> {
    const fds = request.fds ?? [];
    const map = Buffer.alloc(4 * fds.length);
    fds.forEach(([, childFd], index) => {
      map.writeInt32LE(childFd, 4 * index);
    });
    const env = Object.entries(request.env ?? {}).map(([key, value]) =>
      value === undefined ? key : `${key}=${value}`,
    );
    let flags = 0;
    if (request.clearEnv === true) flags |= LM_F_CLEAR_ENV;
    if (request.dieWithParent === true) flags |= LM_F_DIE_WITH_KEEPER;
    const spawned = this.#request(LM_MSG_SPAWN, {
      flags,
      fields: [
        `${SPAWN_NAME}${request.name}`,
        request.cwd ?? '/',
        nulTerminated(request.argv),
        nulTerminated(env),
        map,
      ],
      fds: fds.map(([fd]) => fd),
    });
    // It takes longer than anything else that is to be done in this turn.
    this.flush();
    const { pid, pidfd, exited } = await spawned;
    void exited.then(() => {
      if (pidfd >= 0) closeSync(pidfd);
    });
    return {
      pid,
      exited,
      kill: (signal) => this.#signalRunning(pid, () => signalHeld({ pid, pidfd }, signal)),
      // The keeper makes every program it spawns the leader of a group of its own.
      killGroup: (signal) => this.#signalRunning(pid, () => binding().kill(-pid, signal)),
    };
  }

  /**
   * Waits for the programs that a predecessor engine had spawned for a container (their names end with its id): they are the keeper's children
   * and go on without an engine. What takes longer than `timeoutMs` is killed.
   */
  async inheritedRuns(id: string, timeoutMs: number): Promise<void> {
    const runs = [...this.#inherited].filter(([, { name }]) => name.endsWith(` ${id}`));
    const timer = setTimeout(() => {
      for (const [pid] of runs) this.#signalRunning(pid, () => binding().kill(-pid, SIGKILL));
    }, timeoutMs);
    await Promise.all(runs.map(([, { exited }]) => exited));
    clearTimeout(timer);
  }

  /** Of programs that a predecessor engine had spawned and that live and nobody has taken over, those whose names begin so. */
  inheritedNames(prefix: string): string[] {
    const names = [...this.#inherited.values()].map(({ name }) => name.slice(SPAWN_NAME.length));
    return names.filter((name) => name.startsWith(prefix));
  }

  /** Takes over a program of this name that a predecessor engine had spawned and that lives, of several the last. */
  inheritedRun(name: string): SpawnedProcess | undefined {
    const [pid, run] = [...this.#inherited].findLast(([, run]) => run.name === SPAWN_NAME + name) ?? [];
    if (pid === undefined || run === undefined) return undefined;
    this.#inherited.delete(pid);
    // By a pidfd, so that no other process can be meant.
    const held = this.adopt(pid, run.name).catch(() => ({ pid, pidfd: -1 }));
    void Promise.all([held, run.exited]).then(([{ pidfd }]) => {
      if (pidfd >= 0) closeSync(pidfd);
    });
    return {
      pid,
      exited: run.exited,
      kill: (signal) => void held.then((process) => this.#signalRunning(pid, () => signalHeld(process, signal))),
    };
  }

  /**
   * Kills a process that a killed runtime had started and nobody was told of. Anything else, whatever pid the runtime has noted, is let be: what is no child
   * of the keeper, or has a name there.
   */
  async killStray(pid: number): Promise<void> {
    try {
      const { pidfd } = await this.adopt(pid, 'stray');
      if (pidfd < 0) return;
      signalHeld({ pid, pidfd }, SIGKILL);
      closeSync(pidfd);
    } catch (error) {
      if (codeOf(error) !== Code.NotFound) throw error;
    }
  }

  /**
   * Gives a name to a child that the OCI runtime started, and holds it by a pidfd which the caller closes.
   * @throws LaminaError NotFound when it has been reaped already (its exit report was delivered before), never was a child, or has another name
   */
  adopt(pid: number, name: string): Promise<HeldProcess> {
    return this.#request(LM_MSG_ADOPT, { arg: pid, fields: [name] });
  }

  /**
   * Copies src to dst in the keeper until end of file. The keeper has its own duplicates: the caller may close both at once.
   * Resolves when the copy has begun: what src held is then in dst, as far as it had room.
   */
  async relay(name: string, src: number, dst: number): Promise<void> {
    await this.#request(LM_MSG_RELAY, { fields: [name], fds: [src, dst] });
  }

  /** Lets a relay move what its source holds now and then ends it; its end is reported by onRelay. */
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
   * Gives the keeper a duplicate of a connected socket, to be used like the daemon's connections: `sendFrame`, `onFrame`, `release`, `shut`. Resolves
   * when `onAccepted` has told its number.
   */
  async attach(fd: number): Promise<void> {
    await this.#request(LM_MSG_ATTACH, { fds: [fd] });
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

  /** Sends what was asked for in this turn so far: before something is done that a successor must find recorded. */
  flush(): void {
    this.#turn?.flush();
  }

  /** Sends what waits. @returns true if all that was ever said is out; what is not, a successor has to find out by itself */
  drain(): boolean {
    this.flush();
    return this.#socket.queuedBytes === 0;
  }

  /** Resolves when that is sent by itself, at the end of the turn. */
  async flushed(): Promise<void> {
    await this.#turn?.flushed();
  }

  #send(message: OutgoingMessage): void {
    if (this.#socket.closed) return;
    if (this.#turn === undefined) this.#socket.send(message);
    else this.#turn.send(message);
  }

  #request(type: number, message: Omit<OutgoingMessage, 'type' | 'serial'>): Promise<Answer> {
    if (this.#socket.closed) return Promise.reject(new LaminaError(Code.Unavailable, 'the keeper is gone'));
    const serial = this.#nextSerial();
    const answer = createDeferred<Answer>();
    this.#requests.set(serial, { ...answer, answeredBy: ANSWERED_BY[type] ?? LM_MSG_DONE });
    this.#send({ ...message, type, serial });
    return answer.promise;
  }

  #nextSerial(): number {
    this.#serial = (this.#serial % 0x7fffffff) + 1;
    return this.#serial;
  }

  /** The keeper answers in order: what was put before an answered request and not refused is kept. */
  #settleKept(answered: number): void {
    for (const serial of this.#kept.keys()) {
      if (serial === answered) continue;
      if (serial > answered) return;
      this.#kept.delete(serial);
    }
  }

  #signalRunning(pid: number, send: () => void): void {
    if (!this.#running.has(pid)) return;
    try {
      send();
    } catch (error) {
      // It has ended in this moment; its exit report is on the way.
      if (!isErrno(error, 'ESRCH')) throw error;
    }
  }

  #receive(message: Message): void {
    const fds = [...message.fds];
    try {
      if (this.#isDeclined) return;
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
    const [field0, field1, field2] = message.fields;
    const arg = Number(message.arg);
    switch (message.type) {
      case LM_MSG_ENTRY:
        this.#entry(field0?.toString() ?? '', field1 ?? Buffer.alloc(0), fds.shift());
        return;
      case LM_MSG_ACCEPTED:
        events.onAccepted(arg, (message.flags & LM_F_ATTACHED) !== 0);
        if (message.serial !== 0) this.#answered(message, arg, fds);
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
        if (field1 === undefined || field1.length < 4 || field2 === undefined || field2.length < 8) {
          this.#break('an exit report is cut off');
          return;
        }
        const status = exitStatusOf(field1.readInt32LE(), field2.readBigInt64LE());
        this.#exited(events, { ...status, seq: message.serial, pid: arg, name: field0?.toString() ?? '' });
        return;
      }
      case LM_MSG_CHILD:
        this.#inherit(arg, field0?.toString() ?? '');
        return;
      case LM_MSG_REPLAYED:
        events.onReplayed();
        return;
      case LM_MSG_DONE:
      case LM_MSG_SPAWNED:
      case LM_MSG_ADOPTED:
        this.#answered(message, arg, fds);
        return;
      case LM_MSG_FAILED: {
        const error = spawnError(field0?.toString() ?? '', arg);
        const name = this.#kept.get(message.serial);
        if (name !== undefined) this.#refused.set(name, new LaminaError(error.code, `keep ${name}: ${error.message}`));
        this.#kept.delete(message.serial);
        this.#answer(message.serial)?.reject(error);
        return;
      }
      case LM_MSG_RELAYED:
      case LM_MSG_RELAY_STATE:
        events.onRelay({
          name: field0?.toString() ?? '',
          ended: message.type === LM_MSG_RELAYED || (message.flags & LM_F_ENDED) !== 0,
          bytes: arg,
          error: message.serial === 0 ? undefined : errnoName(message.serial),
        });
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

  #answered(message: Message, pid: number, fds: number[]): void {
    const request = this.#requests.get(message.serial);
    // Keepers that know no quiet ones answer every PUT that has a number.
    if (request === undefined) return;
    this.#settleKept(message.serial);
    if (request.answeredBy !== message.type) {
      this.#break(`message ${message.type} as an answer`);
      return;
    }
    this.#requests.delete(message.serial);
    const exited = createDeferred<ExitStatus>();
    if (message.type === LM_MSG_SPAWNED) this.#running.set(pid, exited);
    const pidfd = message.type === LM_MSG_DONE ? -1 : (fds.shift() ?? -1);
    request.resolve({ pid, pidfd, exited: exited.promise });
  }

  #welcome(message: Message): void {
    if (message.type !== LM_MSG_HELLO) {
      this.close();
      return;
    }
    const hello = parseHello(message);
    this.#features = hello.features;
    this.#events = message.version === LM_PROTOCOL ? this.#onHello(hello, this) : undefined;
    if (this.#events === undefined) {
      // The keeper closes: were it closed here with the replay unread, the keeper might never see the message.
      this.#isDeclined = true;
      this.#send({ type: LM_MSG_DECLINE, arg: process.pid });
    } else {
      this.#send({ type: LM_MSG_WELCOME, arg: process.pid });
      const send = (message: OutgoingMessage): void => this.#socket.send(message);
      if (hello.features.has('batch')) this.#turn = new Turn(send, hello.features.has('batch-fds'));
    }
  }

  #inherit(pid: number, name: string): void {
    if (!name.startsWith(SPAWN_NAME)) return;
    const exited = createDeferred<ExitStatus>();
    this.#running.set(pid, exited);
    this.#inherited.set(pid, { name, exited: exited.promise });
  }

  #answer(serial: number): Deferred<Answer> | undefined {
    const answer = this.#requests.get(serial);
    this.#requests.delete(serial);
    return answer;
  }

  #exited(events: KeeperEvents, report: ExitReport): void {
    if (report.name.startsWith(SPAWN_NAME)) {
      this.#running.get(report.pid)?.resolve(report);
      this.#running.delete(report.pid);
      this.#inherited.delete(report.pid);
      this.acknowledge(report.seq);
      return;
    }
    events.onExited(report);
  }

  #gone(why: Error | undefined): void {
    const error = new LaminaError(Code.Unavailable, 'the keeper is gone');
    for (const answer of this.#requests.values()) answer.reject(error);
    this.#requests.clear();
    for (const [pid, exited] of this.#running) {
      exited.resolve({ code: 255, signal: undefined, timeNs: BigInt(Date.now()) * 1_000_000n });
      this.#running.delete(pid);
    }
    for (const { fd } of this.takeEntries().values()) if (fd !== undefined) closeSync(fd);
    this.#events?.onGone(why?.message);
  }
}

/** Signals a child of the keeper that was not reaped when this was last known; by its pid only if the keeper had no descriptor left for a pidfd. */
function signalHeld({ pid, pidfd }: HeldProcess, signal: number): void {
  if (pidfd >= 0) binding().pidfdSendSignal(pidfd, signal);
  else binding().kill(pid, signal);
}

/** @param text what failed and the system's words for why: "execve /x: No such file or directory" */
function spawnError(text: string, errno: number): LaminaError {
  const name = errnoName(errno);
  const end = text.lastIndexOf(': ');
  const what = end < 0 ? text : text.slice(0, end);
  // Of a program that is to be started it says that there are too many processes.
  const code = name === 'EAGAIN' ? Code.ResourceExhausted : codeOfErrno(name);
  return new LaminaError(code, `${what}: ${errnoText(errno)}`, { subject: what });
}
