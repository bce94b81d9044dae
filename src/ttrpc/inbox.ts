/**
 * What has been received on one stream and not been read yet: a bounded queue, read as an async
 * iterable.
 *
 * ttrpc has no flow control per stream, so a full inbox pauses the whole connection. That must not
 * last, or a handler waiting for another call on the same connection would wait for ever: if the
 * reader takes nothing for `stallTimeoutMs`, `onStall` is called, and whoever owns the inbox fails
 * that stream alone.
 *
 * INVARIANTS: one reader; the gate is held exactly while #full; every tag comes to `onRelease`
 * once, unless discard() is told that the connection is gone.
 */
import type { PauseGate } from './channel.js';

/** An inbox is full at this many messages ... */
const FULL_MESSAGES = 64;
/** ... or at this many bytes, whichever comes first. It has room again at half of both. */
const FULL_BYTES = 4 * 1024 * 1024;

export interface InboxOptions<T> {
  /**
   * Turns a body into a message when it is read; what it throws, the reader gets, and the stream is
   * over.
   */
  readonly decode: (body: Uint8Array) => T;
  readonly gate: PauseGate;
  readonly stallTimeoutMs: number;
  readonly onStall: () => void;
  /** A message was read, or dropped. */
  readonly onRelease?: (tag: number | undefined) => void;
  /** The reader stopped before the end. */
  readonly onReturn?: () => void;
}

interface Entry {
  readonly body: Uint8Array;
  readonly tag: number | undefined;
}

interface Reader<T> {
  readonly resolve: (result: IteratorResult<T, undefined>) => void;
  readonly reject: (error: unknown) => void;
}

export class Inbox<T> implements AsyncIterable<T> {
  readonly #options: InboxOptions<T>;
  #entries: Entry[] = [];
  #bytes = 0;
  #state: 'open' | 'closed' | 'failed' | 'abandoned' = 'open';
  #error: unknown;
  #reader: Reader<T> | undefined;
  #full = false;
  #stallTimer: NodeJS.Timeout | undefined;

  constructor(options: InboxOptions<T>) {
    this.#options = options;
  }

  get messages(): number {
    return this.#entries.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** False once the sender has closed its side, or the stream has failed. */
  get isOpen(): boolean {
    return this.#state === 'open' || this.#state === 'abandoned';
  }

  /** Takes a message. Without a reader's interest it is dropped. */
  push(body: Uint8Array, tag?: number): void {
    if (this.#state !== 'open') {
      this.#options.onRelease?.(tag);
      return;
    }
    const reader = this.#reader;
    if (reader !== undefined) {
      this.#reader = undefined;
      this.#options.onRelease?.(tag);
      this.#deliver(body, reader);
      return;
    }
    this.#entries.push({ body, tag });
    this.#bytes += body.length;
    if (!this.#full && (this.#entries.length >= FULL_MESSAGES || this.#bytes >= FULL_BYTES)) {
      this.#full = true;
      this.#options.gate.hold();
      this.#watch();
    }
  }

  /** The sender will send no more; what is queued can still be read. */
  close(): void {
    if (this.#state !== 'open') return;
    this.#state = 'closed';
    if (this.#full) this.#room();
    this.#reader?.resolve({ done: true, value: undefined });
    this.#reader = undefined;
  }

  /** Like close(), but after what is queued the reader gets this error. */
  fail(error: unknown): void {
    if (this.#state === 'failed' || this.#state === 'abandoned') return;
    this.#state = 'failed';
    this.#error = error;
    if (this.#full) this.#room();
    if (this.#reader !== undefined) this.#reader.reject(this.#takeError());
    this.#reader = undefined;
  }

  /** Drops what is queued; a reader still there gets the error. */
  discard(error: unknown): void {
    const entries = this.#entries;
    this.#entries = [];
    this.#bytes = 0;
    this.fail(error);
    for (const { tag } of entries) this.#options.onRelease?.(tag);
  }

  [Symbol.asyncIterator](): AsyncIterator<T, undefined> {
    return { next: () => this.#next(), return: () => this.#return() };
  }

  #next(): Promise<IteratorResult<T, undefined>> {
    return new Promise((resolve, reject) => {
      const entry = this.#entries.shift();
      if (entry !== undefined) {
        this.#bytes -= entry.body.length;
        if (this.#full) this.#progress();
        this.#options.onRelease?.(entry.tag);
        this.#deliver(entry.body, { resolve, reject });
      } else if (this.#state === 'failed') {
        reject(this.#takeError());
      } else if (this.#state !== 'open') {
        resolve({ done: true, value: undefined });
      } else {
        this.#reader = { resolve, reject };
      }
    });
  }

  #return(): Promise<IteratorResult<T, undefined>> {
    const wasOpen = this.#state === 'open';
    const hadMore = wasOpen || this.#entries.length > 0;
    this.discard(undefined);
    this.#state = wasOpen ? 'abandoned' : 'closed';
    if (hadMore) this.#options.onReturn?.();
    return Promise.resolve({ done: true, value: undefined });
  }

  #deliver(body: Uint8Array, reader: Reader<T>): void {
    try {
      reader.resolve({ done: false, value: this.#options.decode(body) });
    } catch (error) {
      reader.reject(error);
      this.discard(undefined);
      this.#state = 'closed';
    }
  }

  /** An error is given once; after it the stream is merely over, as async iterators do. */
  #takeError(): unknown {
    this.#state = 'closed';
    return this.#error;
  }

  #progress(): void {
    if (this.#entries.length <= FULL_MESSAGES / 2 && this.#bytes <= FULL_BYTES / 2) this.#room();
    else this.#watch();
  }

  #room(): void {
    this.#full = false;
    clearTimeout(this.#stallTimer);
    this.#stallTimer = undefined;
    this.#options.gate.release();
  }

  #watch(): void {
    if (this.#stallTimer !== undefined) {
      this.#stallTimer.refresh();
      return;
    }
    this.#stallTimer = setTimeout(() => {
      if (this.#full) this.#options.onStall();
    }, this.#options.stallTimeoutMs);
    this.#stallTimer.unref();
  }
}
