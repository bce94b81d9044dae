/**
 * What Deletes have answered. A caller that has given up before the answer came asks again, of this
 * engine or a successor, and is to hear the same: that the process is gone would be an error to it.
 *
 * INVARIANT: an id that is in use again has none.
 */
import { type Logger, messageOf } from '../base/index.js';
import type { KeeperLink } from './keeper-link.js';
import { type DeletedProcess, fromDeletedRecord, toDeletedRecord } from './record.js';

/** Longer than daemons wait before they try again. */
const KEPT_MS = 30_000;
const COUNT_MAX = 128;
const PREFIX = 't/';

interface Kept {
  readonly deleted: DeletedProcess;
  /** By the monotonic clock, in milliseconds. */
  readonly untilMs: number;
}

export class DeletedProcesses {
  readonly #link: KeeperLink;
  readonly #log: Logger;
  /** container id, or that and an exec's id → the answer, the oldest first. */
  readonly #kept = new Map<string, Kept>();
  #timer: NodeJS.Timeout | undefined;

  constructor(link: KeeperLink, log: Logger) {
    this.#link = link;
    this.#log = log;
  }

  /** The key of a process. @param execId empty for init */
  static key(id: string, execId: string): string {
    return execId === '' ? id : `${id}/${execId}`;
  }

  find(key: string): DeletedProcess | undefined {
    return this.#kept.get(key)?.deleted;
  }

  /** To be called before the process is forgotten: together with that it reaches the keeper. */
  remember(key: string, deleted: DeletedProcess): void {
    this.#link.put(PREFIX + key, toDeletedRecord(deleted));
    this.#keep(key, deleted);
  }

  /** An id is in use again. @param key of a container: its execs are meant, too */
  forget(key: string): void {
    for (const kept of this.#kept.keys()) if (kept === key || kept.startsWith(`${key}/`)) this.#drop(kept);
  }

  /** Goes on with what a predecessor engine had answered. */
  restore(stored: ReadonlyMap<string, { readonly bytes: Buffer }>): void {
    for (const [name, { bytes }] of stored) {
      if (!name.startsWith(PREFIX)) continue;
      try {
        this.#keep(name.slice(PREFIX.length), fromDeletedRecord(bytes, name));
      } catch (error) {
        this.#log.error({ error: messageOf(error) }, 'what a Delete has answered cannot be read: it is dropped');
        this.#link.del(name);
      }
    }
  }

  /** The keeper is gone. */
  close(): void {
    clearTimeout(this.#timer);
    this.#kept.clear();
  }

  #keep(key: string, deleted: DeletedProcess): void {
    this.#kept.delete(key);
    this.#kept.set(key, { deleted, untilMs: performance.now() + KEPT_MS });
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > COUNT_MAX && oldest !== undefined) this.#drop(oldest);
    this.#timer ??= setTimeout(() => this.#sweep(), KEPT_MS).unref();
  }

  #sweep(): void {
    const now = performance.now();
    this.#timer = undefined;
    for (const [key, { untilMs }] of this.#kept) {
      if (untilMs > now) {
        this.#timer = setTimeout(() => this.#sweep(), untilMs - now).unref();
        return;
      }
      this.#drop(key);
    }
  }

  #drop(key: string): void {
    this.#kept.delete(key);
    this.#link.del(PREFIX + key);
  }
}
