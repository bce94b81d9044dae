import { startDeadline } from './deadline.js';
import type { KeyValue } from './gen/ttrpc/ttrpc.js';
import { Metadata } from './metadata.js';

/** What a handler knows about its call besides the request. */
export interface CallContext {
  /** Full name of the service. */
  readonly service: string;
  /** Name of the method as on the wire. */
  readonly method: string;
  readonly metadata: Metadata;
  /** When the caller stops waiting, in milliseconds since the epoch; undefined without a limit. */
  readonly deadline: number | undefined;
  /**
   * Aborted when nobody waits for the reply any more: the deadline has passed (reason:
   * DeadlineExceeded), the peer is gone (Unavailable), or it broke the protocol. What the handler
   * returns after that is dropped. Not aborted by success.
   */
  readonly signal: AbortSignal;
  /**
   * Set to true by a handler whose reply may be given again to equal requests until something
   * changes. It is passed on to the channel with the reply; most channels make nothing of it.
   */
  reusable: boolean;
}

/**
 * The server's side of a CallContext. Signal and metadata are made when first asked for: most
 * handlers never do.
 */
export class ServerContext implements CallContext {
  readonly service: string;
  readonly method: string;
  readonly deadline: number | undefined;
  reusable = false;
  readonly #pairs: readonly KeyValue[];
  #metadata: Metadata | undefined;
  #controller: AbortController | undefined;
  #reason: Error | undefined;
  #stopTimer: (() => void) | undefined;

  /**
   * @param timeoutMs undefined for no limit
   * @param onDeadline called once when it passes, unless settle() came first
   */
  constructor(
    names: { readonly service: string; readonly method: string; readonly metadata: readonly KeyValue[] },
    timeoutMs: number | undefined,
    onDeadline: () => void,
  ) {
    this.service = names.service;
    this.method = names.method;
    this.#pairs = names.metadata;
    if (timeoutMs !== undefined) {
      this.deadline = Date.now() + timeoutMs;
      this.#stopTimer = startDeadline(timeoutMs, onDeadline);
    }
  }

  get metadata(): Metadata {
    if (this.#metadata === undefined) {
      this.#metadata = new Metadata();
      for (const { key, value } of this.#pairs) this.#metadata.append(key, value);
    }
    return this.#metadata;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#reason !== undefined) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  /** The call has its answer: the deadline no longer matters. */
  settle(): void {
    this.#stopTimer?.();
    this.#stopTimer = undefined;
  }

  /** Nobody waits any more. */
  abort(reason: Error): void {
    this.settle();
    this.#reason ??= reason;
    this.#controller?.abort(this.#reason);
  }
}
