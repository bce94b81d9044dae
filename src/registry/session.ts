/**
 * Tries: over the hosts of a registry in their order, and again where that makes sense; each one
 * reported.
 */
import { Authorizer } from './authorizer.js';
import type { CredentialSource } from './credentials.js';
import { cleanText, type ErrorKind, RegistryError, throwIfAborted } from './errors.js';
import { HostLink } from './host-link.js';
import { findHosts, type RegistryHost } from './hosts.js';
import type { Capability } from './hosts-file.js';
import type { Limits, RetryPolicy } from './limits.js';
import type { Observer, Operation } from './observer.js';
import type { PlainHttpRule } from './origin.js';
import { pauseBefore, sleep } from './retry.js';
import { Wire } from './wire.js';

export interface SessionOptions {
  readonly limits: Limits;
  readonly retry: RetryPolicy;
  readonly credentials: CredentialSource;
  readonly hostsDir: string | undefined;
  /** Whether plain HTTP is configured for a host. */
  readonly isPlain: PlainHttpRule;
  /** Whether it is allowed: it is configured, or loopback. */
  readonly allowsHttp: PlainHttpRule;
  readonly userAgent: string;
  readonly usesOauth: boolean;
  readonly observer: Required<Observer>;
}

/** The subject of an operation, in reports and errors. */
export interface Subject {
  readonly operation: Operation;
  readonly domain: string;
  readonly repository: string;
  readonly digest?: string;
  /** In words, before errors: `pull docker.io/library/alpine`. */
  readonly what: string;
}

/** A failure as an error of ours. */
export function toRegistryError(error: unknown): RegistryError {
  if (error instanceof RegistryError) return error;
  const text = error instanceof Error ? error.message : String(error);
  return new RegistryError('protocol', cleanText(text), { cause: error });
}

/** Common to all repositories: connections, tokens, options. */
export class Session {
  readonly options: SessionOptions;
  readonly #wire: Wire;
  readonly #closed = new AbortController();
  readonly #links = new Map<string, HostLink>();

  constructor(options: SessionOptions) {
    this.options = options;
    this.#wire = new Wire(options.limits);
  }

  close(): void {
    this.#closed.abort();
    this.#wire.close();
  }

  /** The caller's signal, and the end of the session. */
  signal(given: AbortSignal | undefined): AbortSignal {
    return given === undefined ? this.#closed.signal : AbortSignal.any([given, this.#closed.signal]);
  }

  #link(host: RegistryHost, domain: string): HostLink {
    const key = JSON.stringify([domain, host]);
    const found = this.#links.get(key);
    if (found !== undefined) return found;
    const { limits, allowsHttp, userAgent, usesOauth, credentials, observer } = this.options;
    const context = { wire: this.#wire, limits, allowsHttp, userAgent, warn: this.#warn(observer) };
    const tokens = { ...context, host: host.host, tls: host.tls, usesOauth };
    const authorizer = new Authorizer(tokens, credentials, this.#closed.signal);
    const link = new HostLink(host, domain, context, authorizer);
    this.#links.set(key, link);
    return link;
  }

  #warn(observer: Required<Observer>): (text: string) => void {
    return (text) => observer.onWarning(cleanText(text));
  }

  /**
   * The hosts that may do something, in the order in which they are asked: as configured, but for
   * those that could not be reached a moment ago.
   * @throws RegistryError `config`; `unsupported` when there is none
   */
  links(domain: string, capability: Capability): HostLink[] {
    const { hostsDir, isPlain, observer } = this.options;
    const warn = this.#warn(observer);
    const links = findHosts(domain, { hostsDir, isPlain, warn })
      .filter(({ capabilities }) => capabilities.includes(capability))
      .map((host) => this.#link(host, domain));
    if (links.length === 0) {
      throw new RegistryError('unsupported', `no host of ${domain} may ${capability}`, { subject: domain });
    }
    return [...links.filter(({ isResting }) => !isResting), ...links.filter(({ isResting }) => isResting)];
  }

  /** An operation over these hosts. */
  tries(subject: Subject, links: readonly HostLink[], signal: AbortSignal): Tries {
    return new Tries(this.options, subject, links, signal);
  }
}

/** The tries of one operation. */
export class Tries {
  /** How often an earlier try may have been done although it failed. */
  lost = 0;
  readonly signal: AbortSignal;
  readonly #options: SessionOptions;
  readonly #subject: Subject;
  readonly #links: readonly HostLink[];
  readonly #startMs = performance.now();
  /** The failures of the hosts before this one. */
  readonly #before: string[] = [];
  #host = 0;
  #failed = 0;
  #index = 0;
  #sinceMs = performance.now();
  #tryMs = performance.now();
  #tryBytes = 0;
  #bytes = 0;

  constructor(options: SessionOptions, subject: Subject, links: readonly HostLink[], signal: AbortSignal) {
    this.#options = options;
    this.#subject = subject;
    this.#links = links;
    this.signal = signal;
  }

  /** The host to ask now. */
  get link(): HostLink {
    const link = this.#links[this.#host];
    if (link === undefined) throw new RegistryError('unsupported', 'no host is left');
    return link;
  }

  begin(): void {
    throwIfAborted(this.signal);
    this.#tryMs = performance.now();
    this.#tryBytes = 0;
  }

  /** Content that came, or was taken. */
  count(bytes: number): void {
    this.#tryBytes += bytes;
    this.#bytes += bytes;
  }

  /** The work so far stands: the next failure is the first again. */
  progress(): void {
    this.#failed = 0;
    this.#sinceMs = performance.now();
  }

  /**
   * A try has failed: waits before the next, at the same host or at another.
   * @throws RegistryError the failure, when there is no next try
   */
  async failed(cause: unknown): Promise<void> {
    const error = toRegistryError(cause);
    this.#failed += 1;
    if (error.kind === 'network' || error.kind === 'timeout') this.lost += 1;
    const isLast = this.#host >= this.#links.length - 1;
    const pause = this.#pause(error, isLast);
    this.#attempt(error, pause);
    if (pause === undefined) {
      this.done(error.kind);
      throw this.#explain(error);
    }
    if (!isLast) {
      if (error.kind === 'network' || error.kind === 'timeout') this.link.rest();
      this.#before.push(error.message);
      this.#host += 1;
      this.#failed = 0;
    }
    try {
      await sleep(pause, this.signal);
    } catch (aborted) {
      this.done('aborted');
      throw this.#explain(toRegistryError(aborted));
    }
  }

  #pause(error: RegistryError, isLast: boolean): number | undefined {
    if (error.isFinal) return undefined;
    // Another host may have what this one has not, or cannot give.
    if (!isLast) return 0;
    const elapsed = performance.now() - this.#sinceMs;
    return pauseBefore(this.#options.retry, error, this.#failed, elapsed, Math.random());
  }

  #explain(error: RegistryError): RegistryError {
    const before = this.#before.length === 0 ? '' : ` (before: ${cleanText(this.#before.join('; '))})`;
    const tries = this.#index > 1 && error.isTransient ? `, ${this.#index} tries` : '';
    return error.with({
      message: `${this.#subject.what}: ${error.message}${tries}${before}`,
      subject: this.#subject.repository,
    });
  }

  #attempt(error: RegistryError | undefined, pauseMs: number | undefined): void {
    const { operation, repository, digest } = this.#subject;
    this.#options.observer.onAttempt({
      operation,
      repository,
      digest,
      host: this.link.host.host,
      index: this.#index,
      error: error?.kind,
      status: error?.status,
      durationMs: performance.now() - this.#tryMs,
      bytes: this.#tryBytes,
      pauseMs,
    });
    this.#index += 1;
  }

  /** A try has succeeded. */
  succeeded(): void {
    this.#attempt(undefined, undefined);
  }

  /** The operation is over. */
  done(result: 'ok' | 'stopped' | ErrorKind): void {
    const { operation, repository, digest } = this.#subject;
    this.#options.observer.onOperation({
      operation,
      repository,
      digest,
      host: this.link.host.host,
      result,
      attempts: this.#index,
      durationMs: performance.now() - this.#startMs,
      bytes: this.#bytes,
    });
  }

  /** Runs `work` until it succeeds or there is no next try. */
  async run<T>(work: (link: HostLink) => Promise<T>): Promise<T> {
    for (;;) {
      let result: T;
      try {
        this.begin();
        result = await work(this.link);
      } catch (error) {
        await this.failed(error);
        continue;
      }
      this.succeeded();
      this.done('ok');
      return result;
    }
  }
}
