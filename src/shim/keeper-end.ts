/**
 * When a keeper ends: asked to by Shutdown or a signal, or when it has served nothing and nobody
 * for a while.
 *
 * Both are known to the keeper (entries `end/shutdown`, `end/idle`), so that a successor engine
 * goes on with the end, and does not count the while anew.
 */
import { loggersEnded } from './io/logger.js';
import type { KeeperLink } from './keeper-link.js';
import type { Publisher } from './publisher.js';
import type { StoredEntries } from './recovery.js';

/** How long the last events may take to reach the daemon: one attempt may fail. */
const FLUSH_MS = 7_000;
const SHUTDOWN = 'end/shutdown';
const IDLE = 'end/idle';

export interface KeeperEndHost {
  readonly link: KeeperLink;
  readonly publisher: Publisher;
  readonly idleMs: () => number;
  /** No container is there, or being made. */
  readonly isEmpty: () => boolean;
  /** The daemon has a connection. */
  readonly isConnected: () => boolean;
}

/** Milliseconds of a clock that nobody sets and all processes share. */
function nowMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

export class KeeperEnd {
  readonly #host: KeeperEndHost;
  #isEnding = false;
  #isTerminated = false;
  /** By `nowMs`; undefined while there is something or somebody. */
  #idleSince: number | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(host: KeeperEndHost) {
    this.#host = host;
  }

  get isEnding(): boolean {
    return this.#isEnding;
  }

  /** By a signal: whatever is left, the keeper ends. */
  get isTerminated(): boolean {
    return this.#isTerminated;
  }

  /** Ends the keeper once nothing is left in it; with containers left nothing happens. */
  shutdown(): void {
    const { link, isEmpty } = this.#host;
    if (!isEmpty() || this.#isEnding) return;
    this.#isEnding = true;
    link.put(SHUTDOWN, Buffer.alloc(0));
    // After this turn, so that the answer to the call that asked for it is sent first.
    setImmediate(() => void this.#end());
  }

  /** Ends the keeper, whatever is left. */
  terminate(): void {
    this.#isEnding = true;
    this.#isTerminated = true;
    void this.#end();
  }

  /**
   * Goes on with what a predecessor engine had begun. To be called when the containers are back and
   * repeated requests have begun.
   */
  restore(stored: StoredEntries): void {
    const since = stored.get(IDLE)?.bytes.toString();
    // With anything else the while begins anew.
    if (since !== undefined && /^-?\d{1,15}$/.test(since)) this.#idleSince = Number(since);
    this.watch();
    if (!stored.has(SHUTDOWN)) return;
    if (this.#host.isEmpty()) this.shutdown();
    else this.#host.link.del(SHUTDOWN);
  }

  /**
   * To be called when containers or connections have come or gone: a keeper without either ends by
   * itself, its daemon died before Create, or after Delete.
   */
  watch(): void {
    clearTimeout(this.#timer);
    const { link, idleMs, isEmpty, isConnected } = this.#host;
    if (!isEmpty() || isConnected() || this.#isEnding) {
      if (this.#idleSince !== undefined) link.del(IDLE);
      this.#idleSince = undefined;
      return;
    }
    if (this.#idleSince === undefined) {
      this.#idleSince = nowMs();
      link.put(IDLE, Buffer.from(String(this.#idleSince)));
    }
    this.#timer = setTimeout(() => this.shutdown(), Math.max(0, this.#idleSince + idleMs() - nowMs()));
  }

  /** The link is gone. */
  close(): void {
    clearTimeout(this.#timer);
  }

  async #end(): Promise<void> {
    clearTimeout(this.#timer);
    const { link, publisher, isEmpty } = this.#host;
    await publisher.flush(FLUSH_MS);
    if (!this.#isTerminated) await loggersEnded(link);
    if (!isEmpty() && !this.#isTerminated) {
      // A Create came in the meantime.
      this.#isEnding = false;
      link.del(SHUTDOWN);
      return;
    }
    link.exit();
  }
}
