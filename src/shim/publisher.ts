/**
 * Delivers events to the daemon in the order they were published.
 *
 * Each event is stored in the keeper before it is sent and dropped from there after the daemon's
 * answer, so a successor engine goes on where this one stopped. While the daemon is away, events
 * wait (bounded) and are tried again with growing pauses. An answer that is lost with the
 * connection to the daemon means that an event is sent twice, never that it is lost.
 *
 * INVARIANT: an event waits without limit only for a daemon that is away. One that the daemon has
 * answered with a refusal a few times is dropped, with a line in the log: it would never be taken,
 * and all that come after it would wait for ever.
 */
import { type Any, forward } from '../api/index.js';
import { LaminaError, type Logger, messageOf } from '../base/index.js';

/**
 * The daemon has an event, and will not take it. Anything else that `Forward` rejects with means
 * that it was not reached.
 */
export class RefusedError extends LaminaError {}

/** One event as it waits: the encoded ForwardRequest. */
export interface PendingEvent {
  readonly seq: number;
  readonly topic: string;
  readonly request: forward.ForwardRequest;
}

/**
 * Takes one event to the daemon; rejects when it did not get there, with RefusedError when the
 * daemon has said no. The numbers rise, and none is used for two events.
 */
export type Forward = (request: forward.ForwardRequest, seq: number) => Promise<void>;

/** Where events wait across the death of the engine. */
export interface EventStore {
  put(seq: number, bytes: Uint8Array): void;
  del(seq: number): void;
}

export interface PublisherOptions {
  readonly namespace: string;
  readonly forward: Forward;
  readonly store: EventStore;
  readonly log: Logger;
}

/** Of one keeper; its deposit has room for these. */
const QUEUE_LIMIT = 4096;
const OOM_TOPIC = '/tasks/oom';
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 5_000;
/** As often as the stock shim tries. */
const REFUSALS_MAX = 5;
const REFUSED_PAUSE_MS = 100;

export class Publisher {
  readonly #options: PublisherOptions;
  readonly #queue: PendingEvent[] = [];
  #nextSeq = 1;
  #sending: Promise<void> | undefined;
  #dropped = 0;
  #closed = false;
  #wake: (() => void) | undefined;

  constructor(options: PublisherOptions) {
    this.#options = options;
  }

  get pending(): number {
    return this.#queue.length;
  }

  /** Queues an event; returns at once. */
  publish(topic: string, event: Any): void {
    const nowMs = Date.now();
    const request: forward.ForwardRequest = {
      envelope: {
        timestamp: { seconds: BigInt(Math.floor(nowMs / 1000)), nanos: (nowMs % 1000) * 1_000_000 },
        namespace: this.#options.namespace,
        topic,
        event,
      },
    };
    const seq = this.#nextSeq;
    this.#nextSeq += 1;
    this.#options.store.put(seq, forward.ForwardRequest.encode(request).finish());
    this.#enqueue({ seq, topic, request });
  }

  /**
   * Takes over the events a predecessor had stored, by their numbers.
   * @param lastSent the last number that must not be used again
   */
  restore(stored: ReadonlyMap<number, Uint8Array>, lastSent = 0): void {
    this.#nextSeq = Math.max(this.#nextSeq, lastSent + 1);
    for (const seq of [...stored.keys()].sort((a, b) => a - b)) {
      this.#nextSeq = Math.max(this.#nextSeq, seq + 1);
      try {
        const request = forward.ForwardRequest.decode(stored.get(seq) ?? new Uint8Array());
        this.#enqueue({ seq, topic: request.envelope?.topic ?? '', request });
      } catch (error) {
        this.#options.log.error({ event: seq, error: messageOf(error) }, 'an event cannot be read: it is dropped');
        this.#options.store.del(seq);
      }
    }
  }

  /** Waits until all events are delivered, at most `timeoutMs`. */
  async flush(timeoutMs: number): Promise<void> {
    if (this.#sending === undefined) return;
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
    });
    await Promise.race([this.#sending, timeout]);
    clearTimeout(timer);
  }

  /** Stops trying; what waits stays in the store. */
  close(): void {
    this.#closed = true;
    this.#wake?.();
  }

  #enqueue(event: PendingEvent): void {
    if (this.#queue.length >= QUEUE_LIMIT) {
      // The head may be on its way: the oldest that is certainly waiting goes. An OOM before all
      // others: only those come again and again while nobody asks for anything, and exits must not
      // be lost for them.
      const oom = this.#queue.findIndex(({ topic }, index) => index > 0 && topic === OOM_TOPIC);
      const [lost] = this.#queue.splice(Math.max(oom, 1), 1);
      if (lost !== undefined) this.#options.store.del(lost.seq);
      this.#dropped += 1;
      if (this.#dropped === 1 || this.#dropped % 1000 === 0) {
        this.#options.log.error({ dropped: this.#dropped, topic: lost?.topic }, 'event queue is full: event dropped');
      }
    }
    this.#queue.push(event);
    this.#sending ??= this.#sendAll();
  }

  async #sendAll(): Promise<void> {
    const { forward, log } = this.#options;
    let pauseMs = FIRST_PAUSE_MS;
    let refusals = 0;
    for (let event = this.#queue[0]; event !== undefined && !this.#closed; event = this.#queue[0]) {
      const { topic } = event;
      try {
        await forward(event.request, event.seq);
      } catch (error) {
        const isRefused = error instanceof RefusedError;
        if (isRefused) refusals += 1;
        if (refusals < REFUSALS_MAX) {
          log.debug({ topic, error: messageOf(error) }, 'event not delivered, trying again');
          await this.#pause(isRefused ? REFUSED_PAUSE_MS * 2 ** (refusals - 1) : pauseMs);
          if (!isRefused) pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
          continue;
        }
        log.error({ topic, refusals, error: messageOf(error) }, 'the daemon refuses an event: it is dropped');
      }
      this.#queue.shift();
      this.#options.store.del(event.seq);
      pauseMs = FIRST_PAUSE_MS;
      refusals = 0;
    }
    // In the same turn as the last look at the queue: what is queued next begins anew.
    this.#sending = undefined;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
