/**
 * Everything one keeper serves: the daemon's connections, the containers of the group, the events
 * on their way.
 *
 * INVARIANT: until the keeper's replay is over and recovery has put the containers back, frames and
 * exit reports wait in order; from then on each is handled as it comes.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { lamina, taskV2, taskV3 } from '../api/index.js';
import { Code, codeOf, createLogger, LaminaError, type Logger, messageOf, UndoStack } from '../base/index.js';
import { type CallContext, type FrameChannel, type Interceptor, Router, ServerConnection } from '../ttrpc/index.js';
import type { ConfigFile } from './config.js';
import { consoleSocketPath } from './console-path.js';
import { Container } from './container.js';
import type { ContainerContext } from './context.js';
import { DeletedProcesses } from './deleted.js';
import { EventCarrier } from './event-carrier.js';
import { ExitRouter } from './exits.js';
import { KeeperEnd } from './keeper-end.js';
import type { KeeperEvents, KeeperLink } from './keeper-link.js';
import type { ExitReport, Hello, RelayState } from './keeper-messages.js';
import { LogFifo } from './log-fifo.js';
import type { LostContainer } from './lost-container.js';
import { prepareContainer } from './preparation.js';
import type { TrackedProcess } from './process/tracked.js';
import { Publisher } from './publisher.js';
import type { DeletedProcess } from './record.js';
import { recoverContainers, storedEvents, type Undoing } from './recovery.js';
import { createEngineService, type EngineStatus } from './services/engine.js';
import { reportErrors } from './services/report-errors.js';
import { createTaskService } from './services/task.js';

/**
 * Events go once no call has come for this long: whoever has got an answer often asks for the next
 * thing at once, and that is urgent.
 */
const CALLS_FIRST_MS = 2;
/** With calls all the time, an event waits for so long. */
const EVENT_WAITS_MS = 20;
/** Methods that change nothing. */
const READING = new Set(['State', 'Pids', 'Stats', 'Wait', 'Connect', 'Status']);

export interface SessionOptions {
  readonly config: ConfigFile;
  /** What the engine says of itself. */
  readonly engineStatus: () => EngineStatus;
  /** Called once, when the keeper is gone. */
  readonly onEnd: () => void;
}

export class Session implements KeeperEvents {
  readonly hello: Hello;
  readonly #link: KeeperLink;
  readonly #options: SessionOptions;
  readonly #log: Logger;
  readonly #logFifo: LogFifo;
  readonly #carrier: EventCarrier;
  readonly #publisher: Publisher;
  readonly #end: KeeperEnd;
  readonly #router: Router;
  readonly #context: ContainerContext;
  readonly #reportErrors: Interceptor<CallContext>;
  /** id → container; removed by its Delete. */
  readonly #containers = new Map<string, Container>();
  /** Ids whose Create is under way. */
  readonly #creating = new Set<string>();
  /** connection id → the daemon's connection; removed when it closes. */
  readonly #connections = new Map<number, ServerConnection>();
  /** relay → its last known state, during the replay. */
  readonly #relays = new Map<string, RelayState>();
  /** What came before recovery was over; undefined afterwards. */
  #held: (() => void)[] | undefined = [];
  /** Exit reports that came before the containers were put back. */
  #heldExits: ExitReport[] = [];
  /**
   * id → a container that a predecessor knew and this engine could not put back: the keeper must
   * not end under it. Removed by its Delete.
   */
  readonly #lost = new Map<string, LostContainer>();
  /** id → the undoing of a predecessor's create. */
  #undoing: ReadonlyMap<string, Undoing> = new Map();
  readonly #deleted: DeletedProcesses;
  #isRepeat = false;
  /** Calls, and steps of a predecessor being resolved, that may change what State says. */
  #changing = 0;
  /** When the last call came, by the monotonic clock in milliseconds. */
  #calledMs = 0;

  constructor(hello: Hello, link: KeeperLink, options: SessionOptions) {
    this.hello = hello;
    this.#link = link;
    this.#options = options;
    this.#logFifo = new LogFifo(join(hello.bundle, 'log'));
    const { config } = options;
    this.#log = createLogger(this.#logFifo.write, () => (hello.debug ? 'debug' : config.current.logLevel), {
      runtime: 'lamina',
      namespace: hello.namespace,
    });
    this.#reportErrors = reportErrors(this.#log);
    this.#deleted = new DeletedProcesses(link, this.#log);
    this.#carrier = new EventCarrier(hello, link);
    this.#publisher = new Publisher({
      namespace: hello.namespace,
      forward: async (request, seq) => {
        await this.#callsFirst();
        await this.#carrier.forward(request, seq);
      },
      store: {
        put: (seq, bytes) => link.put(`ev/${seq}`, bytes),
        del: (seq) => {
          link.del(`ev/${seq}`);
          this.#carrier.forgotten(seq);
        },
      },
      log: this.#log,
    });
    this.#end = new KeeperEnd({
      link,
      publisher: this.#publisher,
      idleMs: () => config.current.timeouts.keeperIdleMs,
      isEmpty: () => this.#isEmpty,
      isConnected: () => this.#connections.size > 0,
    });
    const service = createTaskService(this);
    this.#router = new Router();
    this.#router.add(taskV2.TaskDefinition, service);
    this.#router.add(taskV3.TaskDefinition, service);
    this.#router.add(lamina.EngineDefinition, createEngineService(options.engineStatus, hello));
    this.#context = {
      namespace: hello.namespace,
      get config() {
        return config.current;
      },
      debug: hello.debug,
      log: this.#log,
      link,
      exits: new ExitRouter(link),
      deleted: this.#deleted,
      consolePath: (name) => consoleSocketPath(hello, name),
      publish: ({ topic, event }) => this.#publisher.publish(topic, event),
    };
  }

  get containerCount(): number {
    return this.#containers.size + this.#creating.size + this.#lost.size;
  }

  /**
   * True if nothing is half done: no call that changes something is under way, no event, and the
   * keeper knows all there is to know.
   */
  get isQuiet(): boolean {
    const isDone = this.#changing === 0 && this.#held === undefined && this.#publisher.pending === 0;
    return this.#link.drain() && isDone;
  }

  find(id: string): Container | undefined {
    return this.#containers.get(id);
  }

  /** A container of which nothing is known but that it is there. */
  findLost(id: string): LostContainer | undefined {
    return this.#lost.get(id);
  }

  /**
   * @throws LaminaError NotFound with the stock text; DataLoss for one whose record cannot be read
   */
  container(id: string): Container {
    const container = this.#containers.get(id);
    if (container !== undefined) return container;
    throw this.#lost.get(id)?.error ?? new LaminaError(Code.NotFound, 'container not created: not found');
  }

  /**
   * True while requests are handed out that a predecessor engine had got and not answered. Handlers
   * must ask before they first wait.
   */
  get isRepeat(): boolean {
    return this.#isRepeat;
  }

  /** True if what State says of the process holds until a request or an exit comes. */
  isSettled(container: Container, process: TrackedProcess): boolean {
    return this.#changing === 0 && !container.init.isEnding && !process.isEnding;
  }

  /**
   * Makes a container of a bundle. On failure nothing of it is left.
   * @returns init's pid, 0 for one to be restored
   */
  async create(request: taskV2.CreateTaskRequest): Promise<number> {
    const { id } = request;
    if (this.#end.isTerminated) throw new LaminaError(Code.Unavailable, 'the shim is shutting down');
    const undoing = this.#undoing.get(id);
    const undo = new UndoStack();
    const streams = this.#isRepeat ? undoing?.streams : undefined;
    if (undoing !== undefined && streams !== undefined) {
      undoing.streams = undefined;
      undo.add('let go of the streams', () => streams.dispose());
    }
    await this.#options.config.check();
    await undoing?.done;
    const lost = this.#lost.get(id);
    if (lost !== undefined) throw lost.error;
    if (this.#containers.has(id) || this.#creating.has(id)) {
      throw new LaminaError(Code.AlreadyExists, `container ${id}: already exists`, { subject: id });
    }
    this.#creating.add(id);
    this.#deleted.forget(id);
    try {
      const { keeperPid } = this.hello;
      const settings = await prepareContainer(request, { context: this.#context, keeperPid, undo });
      const stdio = {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
        terminal: request.terminal,
      };
      const container = new Container(this.#context, settings, stdio);
      undo.add('discard the container', () => container.discard());
      container.init.io = streams;
      await container.create(request.rootfs);
      this.#containers.set(id, container);
      return container.init.pid;
    } catch (error) {
      await undo.run((problem) => this.#log.warn({ container: id }, problem));
      // To clients NotFound means that the container is gone; here some file is missing.
      if (codeOf(error) === Code.NotFound) throw new LaminaError(Code.Unknown, messageOf(error), { cause: error });
      throw error;
    } finally {
      if (request.rootfs.length > 0) this.#link.del(`m/${id}`);
      this.#creating.delete(id);
      this.#end.watch();
    }
  }

  /**
   * Removes a container, or with an exec's id that exec. For a while the same answer is given
   * again.
   */
  async delete(id: string, execId: string): Promise<DeletedProcess> {
    const container = this.#containers.get(id);
    const isThere = execId === '' ? container !== undefined : container?.execs.find(execId) !== undefined;
    const deleted = isThere ? undefined : this.#deleted.find(DeletedProcesses.key(id, execId));
    if (deleted !== undefined) return deleted;
    if (execId !== '') return await this.container(id).execs.delete(execId);
    const lost = this.#lost.get(id);
    const answer = lost === undefined ? await this.#delete(this.container(id)) : await lost.delete();
    if (this.#lost.get(id) === lost) this.#lost.delete(id);
    this.#end.watch();
    return answer;
  }

  async #delete(container: Container): Promise<DeletedProcess> {
    const { id, init } = container;
    const exit = await container.delete();
    // It may have been deleted twice at once, and be another's id by now.
    if (this.#containers.get(id) === container) this.#containers.delete(id);
    return { pid: init.pid, exit };
  }

  /** Ends the keeper once nothing is left in it; with containers left nothing happens. */
  shutdown(): void {
    this.#end.shutdown();
  }

  onAccepted(connection: number, attached: boolean): void {
    if (attached) {
      this.#carrier.attached(connection);
      return;
    }
    // The keeper keeps every request frame, by its number, until the answer that is sent under the
    // same number replaces it.
    const channel: FrameChannel = {
      send: (frame, answers, reusable) => this.#link.sendFrame(connection, frame, answers ?? 0, reusable === true),
      released: (seq) => this.#link.release(connection, seq),
      close: () => this.#link.shut(connection),
    };
    const options = { interceptors: [this.#reportErrors, this.#countChanges] };
    this.#connections.set(connection, new ServerConnection(this.#router, channel, options));
    this.#end.watch();
  }

  onFrame(connection: number, seq: number, frame: Buffer): void {
    this.#whenReady(() => {
      if (this.#carrier.owns(connection)) this.#carrier.receive(frame, seq);
      else {
        this.#calledMs = performance.now();
        this.#connections.get(connection)?.receive(frame, seq);
      }
    });
  }

  onClosed(connection: number): void {
    if (this.#carrier.owns(connection)) this.#carrier.closed();
    this.#connections.get(connection)?.end();
    this.#connections.delete(connection);
    this.#end.watch();
  }

  onExited(report: ExitReport): void {
    if (this.#held === undefined) this.#context.exits.deliver(report);
    else this.#heldExits.push(report);
  }

  onRelay(state: RelayState): void {
    if (this.#held !== undefined) {
      this.#relays.set(state.name, state);
      return;
    }
    if (!state.ended) return;
    const [, containerId = '', execId = '', stream] = state.name.split('/');
    const container = this.#containers.get(containerId);
    const process = execId === '' ? container?.init : container?.execs.find(execId);
    if (stream === 'in' || stream === 'out' || stream === 'err') process?.io?.relayEnded(stream, state);
  }

  onReplayed(): void {
    const stored = this.#link.takeEntries();
    const lastSent = this.#carrier.restore(stored);
    this.#publisher.restore(storedEvents(stored), lastSent);
    this.#deleted.restore(stored);
    const { containers, lost, undoing } = recoverContainers(this.#context, this.hello, stored, this.#relays);
    for (const container of containers) this.#containers.set(container.id, container);
    for (const container of lost) this.#lost.set(container.id, container);
    this.#undoing = undoing;
    this.#relays.clear();
    // Reports of children that a predecessor had started and not yet adopted are kept until its
    // steps are resolved.
    const starting = this.#context.exits.begin();
    for (const report of this.#heldExits) this.#context.exits.deliver(report);
    this.#heldExits = [];
    for (const container of lost) container.settle();
    this.#changing += 1;
    void Promise.all(containers.map((container) => container.resolve())).then(() => {
      starting[Symbol.dispose]();
      this.#changing -= 1;
    });
    const held = this.#held ?? [];
    this.#held = undefined;
    this.#isRepeat = true;
    for (const handle of held) handle();
    this.#isRepeat = false;
    // Nobody asks for these any more.
    for (const { streams } of undoing.values()) streams?.dispose();
    this.#end.restore(stored);
  }

  onSignaled(signal: number): void {
    this.#log.info({ signal, containers: this.#containers.size }, 'signal received: shutting down');
    this.#end.terminate();
  }

  onGone(why: string | undefined): void {
    if (why !== undefined) this.#log.error({ error: why }, 'this engine cannot go on with the keeper: another does');
    this.#end.close();
    this.#publisher.close();
    this.#carrier.close();
    for (const connection of this.#connections.values()) connection.end();
    this.#connections.clear();
    for (const container of this.#containers.values()) container.dispose();
    this.#containers.clear();
    for (const container of this.#lost.values()) container.dispose();
    this.#deleted.close();
    this.#logFifo.close();
    this.#options.onEnd();
  }

  /**
   * Resolves when it is an event's turn.
   * @throws LaminaError Unavailable when the keeper has gone meanwhile
   */
  async #callsFirst(): Promise<void> {
    const end = performance.now() + EVENT_WAITS_MS;
    for (;;) {
      const left = Math.min(this.#calledMs + CALLS_FIRST_MS, end) - performance.now();
      if (left <= 0 || this.#end.isEnding) break;
      await delay(left);
    }
    if (this.#link.closed) throw new LaminaError(Code.Unavailable, 'the keeper is gone');
  }

  readonly #countChanges: Interceptor<CallContext> = async (request, call, next) => {
    if (READING.has(call.method)) return await next(request, call);
    this.#changing += 1;
    try {
      return await next(request, call);
    } finally {
      this.#changing -= 1;
    }
  };

  #whenReady(handle: () => void): void {
    if (this.#held === undefined) handle();
    else this.#held.push(handle);
  }

  get #isEmpty(): boolean {
    return this.#containers.size + this.#creating.size + this.#lost.size === 0 && this.#held === undefined;
  }
}
