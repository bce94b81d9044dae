/**
 * The engine's outermost loop: takes keepers in, and ends when none is left.
 *
 * A shared engine inherits a listening socket that a keeper has bound (native/README.md, "Finding
 * an engine"); a dedicated one serves the single keeper at the other end of a socket pair.
 */
import { closeSync, fstatSync, lstatSync, openSync, type Stats, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { lamina } from '../api/index.js';
import { apart, Code, codeOf, isErrno, messageOf, VERSION } from '../base/index.js';
import { closeSpareFiles } from '../cgroups/index.js';
import { binding, LM_PROTOCOL, POLLIN, type Registration, sharedPoller, workerProgram } from '../sys/index.js';
import { Boundary } from './boundary.js';
import type { ConfigFile } from './config.js';
import { IsolatedKeepers } from './isolated-keepers.js';
import { type KeeperEvents, KeeperLink } from './keeper-link.js';
import type { Hello } from './keeper-messages.js';
import type { EngineStatus } from './services/engine.js';
import { Session } from './session.js';
import { releaseWhenIdle } from './working-set.js';

/**
 * How long an engine that is to go waits for a moment at which nothing is half done, and how often
 * it looks.
 */
const PATIENCE_MS = 1_000;
const LOOK_MS = 5;
/**
 * How long keepers wait when there is no descriptor for them; as long as clients of a keeper do.
 */
const ACCEPT_PAUSE_MS = 500;

interface Listener {
  readonly fd: number;
  readonly path: string;
  /** The socket's file as it was when this engine began: by now the path may name a successor's. */
  readonly file: FileId | undefined;
  readonly watch: Registration;
}

export class Engine {
  readonly #config: ConfigFile;
  /** Sessions of living keepers. */
  readonly #sessions = new Set<Session>();
  readonly #isolated = new IsolatedKeepers();
  #listener: Listener | undefined;
  #idle: NodeJS.Timeout | undefined;
  #hasServed = false;
  #isLeaving = false;
  /** There was no descriptor for the last keeper that came; said once. */
  #isShort = false;

  constructor(config: ConfigFile) {
    this.#config = config;
    // Now: an engine without it would fail at the first container, and later what is installed may
    // be another build's.
    workerProgram();
  }

  /**
   * Serves every keeper that connects to an inherited listening socket; with `engine = "dedicated"`
   * only the first: the others are told to start an engine each.
   */
  listen(fd: number, path: string): void {
    const watch = sharedPoller().watch(fd, POLLIN, () => this.#accept());
    this.#listener = { fd, path, file: fileAt(path), watch };
    this.#watchIdle();
  }

  /**
   * Serves one keeper. An error that nobody expected ends its session and no other: that keeper is
   * to start an engine of its own.
   * @param keeperPid as the kernel says; undefined where this engine serves no other
   */
  serve(fd: number, keeperPid?: number): void {
    let link: KeeperLink | undefined;
    let session: Session | undefined;
    const end = (): void => {
      if (session !== undefined) this.#sessions.delete(session);
      apart(() => this.#watchIdle());
    };
    const boundary = new Boundary((error) => {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      process.stderr.write(`engine: keeper ${keeperPid ?? ''}: ${text}\n`);
      if (keeperPid !== undefined) this.#isolated.add(keeperPid);
      try {
        link?.abandon(messageOf(error));
      } finally {
        end();
      }
    });
    const onHello = (hello: Hello, from: KeeperLink): KeeperEvents | undefined => {
      if (!this.#takes(keeperPid)) return undefined;
      session = new Session(hello, from, {
        config: this.#config,
        engineStatus: () => this.#status(),
        onEnd: end,
      });
      clearTimeout(this.#idle);
      this.#sessions.add(session);
      if (!this.#hasServed) apart(releaseWhenIdle);
      this.#hasServed = true;
      return session;
    };
    const onAsk = (): Uint8Array => lamina.EngineStatus.encode(lamina.EngineStatus.create(this.#status())).finish();
    boundary.run(() => {
      link = new KeeperLink(fd, onHello, onAsk);
    });
  }

  #takes(keeperPid: number | undefined): boolean {
    if (keeperPid !== undefined && this.#isolated.has(keeperPid)) return false;
    return this.#config.current.engine !== 'dedicated' || this.#sessions.size === 0;
  }

  /**
   * Lets go of all keepers, each of which then starts or finds an engine: what is installed by
   * then. Waits a little for a moment at which nothing is half done; whatever is still under way
   * after that is gone on with by the successor, as after a crash. Keepers that come meanwhile go
   * to the successor.
   */
  handOver(): void {
    if (this.#isLeaving) return;
    this.#isLeaving = true;
    this.#stopListening();
    const deadline = performance.now() + PATIENCE_MS;
    const look = (): void => {
      // every() would leave some undrained
      const busy = [...this.#sessions].filter((session) => !session.isQuiet);
      if (busy.length === 0 || performance.now() >= deadline) this.#end();
      else setTimeout(look, LOOK_MS);
    };
    look();
  }

  #status(): EngineStatus {
    let containers = 0;
    for (const session of this.#sessions) containers += session.containerCount;
    return {
      pid: process.pid,
      version: VERSION,
      directory: dirname(fileURLToPath(import.meta.url)),
      protocol: LM_PROTOCOL,
      keepers: this.#sessions.size,
      containers,
      node: process.version,
      config: process.env['LAMINA_CONFIG'] ?? '',
      givenNode: process.env['LAMINA_NODE'] ?? '',
      configError: this.#config.error === undefined ? '' : messageOf(this.#config.error),
    };
  }

  /** @returns how many keepers were waiting */
  #accept(): number {
    for (let count = 0; ; count += 1) {
      const fd = this.#listener === undefined ? null : this.#acceptOne(this.#listener);
      if (fd === null) return count;
      // The folder is root's alone, and so should be whoever got here.
      const { uid, pid } = binding().peerCredentials(fd);
      if (uid === process.geteuid?.() || uid === 0) this.serve(fd, pid);
      else closeSync(fd);
    }
  }

  /** @returns null when nobody waits, or nobody can be taken in now */
  #acceptOne({ fd, watch }: Listener): number | null {
    try {
      const accepted = binding().acceptUnix(fd);
      this.#isShort = false;
      return accepted;
    } catch (error) {
      if (isErrno(error, 'ECONNABORTED')) return null;
      if (codeOf(error) !== Code.ResourceExhausted) throw error;
      closeSpareFiles();
      // Whoever waits goes on waiting; watched, the socket would call us again at once.
      if (!this.#isShort) process.stderr.write(`engine: cannot take a keeper in: ${messageOf(error)}\n`);
      this.#isShort = true;
      watch.setEvents(0);
      setTimeout(() => watch.setEvents(POLLIN), ACCEPT_PAUSE_MS).unref();
      return null;
    }
  }

  #watchIdle(): void {
    clearTimeout(this.#idle);
    if (this.#sessions.size > 0) return;
    if (this.#listener === undefined) {
      this.#end();
      return;
    }
    const { engine, timeouts } = this.#config.current;
    // A broken configuration is read again by the next engine.
    const isDone = this.#hasServed && (engine === 'dedicated' || this.#config.error !== undefined);
    const lifeMs = isDone ? 0 : timeouts.engineIdleMs;
    this.#idle = setTimeout(() => this.#endIfIdle(), lifeMs);
  }

  /**
   * A keeper may be connecting at this very moment, or, finding the socket dead, be about to bind a
   * new one: the lock decides between us, and whoever had connected before the socket was closed
   * gets an end of file and looks again.
   */
  #endIfIdle(): void {
    const listener = this.#listener;
    if (listener === undefined || this.#sessions.size > 0) return;
    const lockPath = listener.path.replace(/\.sock$/, '.lock');
    const lock = openSync(lockPath, 'a', 0o600);
    try {
      // A lock on a file that is no longer there keeps nobody out.
      if (!binding().flock(lock, 'exclusive') || !isSameFile(fstatSync(lock), fileAt(lockPath))) {
        this.#watchIdle();
        return;
      }
      if (this.#accept() > 0) {
        this.#watchIdle();
        return;
      }
      this.#stopListening();
      // Where another engine has taken this one's place, all of them are that one's.
      if (isSameFile(listener.file, fileAt(listener.path))) {
        for (const end of ['.sock', '.log', '.id', '.lock']) removeFile(listener.path.replace(/\.sock$/, end));
      }
      this.#end();
    } finally {
      closeSync(lock);
    }
  }

  #stopListening(): void {
    if (this.#listener === undefined) return;
    this.#listener.watch[Symbol.dispose]();
    closeSync(this.#listener.fd);
    this.#listener = undefined;
  }

  #end(): void {
    process.exitCode = 0;
    process.exit();
  }
}

/** A file by what it is, not by what it is called. */
type FileId = Pick<Stats, 'dev' | 'ino'>;

/** undefined: there is none. */
function fileAt(path: string): FileId | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

function isSameFile(a: FileId | undefined, b: FileId | undefined): boolean {
  return a !== undefined && a.ino === b?.ino && a.dev === b.dev;
}

function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    // Somebody tidied up before us.
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}
