/** One try at one host: authentication and redirects, until there is an answer or a refusal. */
import type { IncomingHttpHeaders } from 'node:http';
import type { Authorizer } from './authorizer.js';
import type { Body } from './body.js';
import { RegistryError, refusal } from './errors.js';
import type { RegistryHost } from './hosts.js';
import type { Limits } from './limits.js';
import { nextUrl, type PlainHttpRule, shownUrl } from './origin.js';
import { parseRetryAfter } from './retry.js';
import { tlsFor } from './token.js';
import { NoTlsError, type Payload, type Wire, type WireResponse } from './wire.js';

/** A request to any host of a registry. */
export interface Call {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Below the host's path: `/library/alpine/manifests/latest`. */
  readonly path: string;
  /** A URL the registry gave (the next page, an upload's location) in place of the path. */
  readonly target?: URL;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly payload?: () => Payload;
  /** The scopes needed: `repository:library/alpine:pull`. */
  readonly scopes: readonly string[];
  /** Statuses that are answers; any other is a refusal. */
  readonly accepts: readonly number[];
  /** To the headers of the answer, in milliseconds. */
  readonly responseMs?: number;
  readonly signal: AbortSignal;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Body;
  /** Where it came from, behind all redirects. */
  readonly url: URL;
}

export interface LinkContext {
  readonly wire: Wire;
  readonly limits: Limits;
  readonly allowsHttp: PlainHttpRule;
  readonly userAgent: string;
  readonly warn: (text: string) => void;
}

const REDIRECTS = new Set([301, 302, 303, 307, 308]);
/** Those after which the method stays and the body is sent again. */
const SAME_METHOD = new Set([307, 308]);
const MAX_CHALLENGES = 2;
/** How long a host that could not be reached is asked after the others. */
const REST_MS = 30_000;

export class HostLink {
  readonly host: RegistryHost;
  readonly #context: LinkContext;
  readonly #authorizer: Authorizer;
  /** The registry whose images the host serves: `docker.io`. */
  readonly #domain: string;
  #scheme: 'http' | 'https';
  #restUntilMs = 0;

  constructor(host: RegistryHost, domain: string, context: LinkContext, authorizer: Authorizer) {
    this.host = host;
    this.#domain = domain;
    this.#context = context;
    this.#authorizer = authorizer;
    this.#scheme = host.scheme === 'http' ? 'http' : 'https';
  }

  get isResting(): boolean {
    return performance.now() < this.#restUntilMs;
  }

  /** The host could not be reached. */
  rest(): void {
    this.#restUntilMs = performance.now() + REST_MS;
  }

  #url(call: Call): URL {
    if (call.target !== undefined) return new URL(call.target);
    const url = new URL(`${this.#scheme}://${this.host.host}${this.host.path}${call.path}`);
    for (const [name, value] of Object.entries(call.query ?? {})) url.searchParams.set(name, value);
    if (this.host.isMirror) url.searchParams.set('ns', this.#domain);
    return url;
  }

  /** True for what credentials and configured headers are for: this scheme, host and port. */
  #isOwn(url: URL): boolean {
    return url.origin === new URL(`${this.#scheme}://${this.host.host}`).origin;
  }

  /**
   * Sends a request, answers challenges, follows redirects.
   * @throws RegistryError a refusal, or what went wrong on the way
   */
  async exchange(call: Call): Promise<Answer> {
    let url = this.#url(call);
    let challenges = 0;
    for (let hops = 0; ; ) {
      const isOwn = this.#isOwn(url);
      const authorization = isOwn ? await this.#authorizer.header(call.scopes, call.signal) : undefined;
      let response: WireResponse;
      try {
        response = await this.#send(call, url, authorization);
      } catch (error) {
        if (!(error instanceof NoTlsError) || this.host.scheme !== 'auto' || !isOwn || call.target !== undefined) {
          throw error;
        }
        this.#scheme = 'http';
        url = this.#url(call);
        continue;
      }
      if (call.accepts.includes(response.status)) return { ...response, url };
      const { location } = response.headers;
      if (response.status === 401 && isOwn && challenges < MAX_CHALLENGES) {
        challenges += 1;
        const words = await response.body.start(this.#context.limits.errorBytes);
        if (await this.#authorizer.challenged(response.headers, url, call.scopes, authorization, call.signal)) continue;
        throw refusal(url.host, 401, words);
      }
      if (REDIRECTS.has(response.status) && location !== undefined) {
        response.body.destroy();
        hops += 1;
        if (hops > this.#context.limits.redirects) {
          throw new RegistryError('redirect', `${this.host.host} redirects more than ${hops - 1} times`);
        }
        url = this.#follow(call, response.status, url, location);
        continue;
      }
      throw await this.#refuse(response, url);
    }
  }

  async #send(call: Call, url: URL, authorization: string | undefined): Promise<WireResponse> {
    const { limits, userAgent, warn } = this.#context;
    const isOwn = this.#isOwn(url);
    const response = await this.#context.wire.send({
      method: call.method,
      url,
      headers: {
        'user-agent': userAgent,
        // Content is what its digest says; it is not to be changed on the way.
        'accept-encoding': 'identity',
        ...(isOwn ? this.host.headers : {}),
        ...call.headers,
        ...(authorization === undefined ? {} : { authorization }),
      },
      payload: call.payload?.(),
      tls: tlsFor(url, this.host.host, this.host.tls),
      connectMs: this.host.dialTimeoutMs ?? limits.connectMs,
      responseMs: call.responseMs ?? limits.responseMs,
      signal: call.signal,
    });
    const warning = /^299 - "((?:[^"\\]|\\.)*)"/.exec(response.headers['warning'] ?? '')?.[1];
    if (warning !== undefined && isOwn) warn(`${url.host}: ${warning}`);
    return response;
  }

  #follow(call: Call, status: number, from: URL, location: string): URL {
    const isRead = call.method === 'GET' || call.method === 'HEAD';
    if (!isRead && !(SAME_METHOD.has(status) && call.payload === undefined)) {
      throw new RegistryError('redirect', `${from.host} redirects a ${call.method}, which is not followed`, { status });
    }
    const to = nextUrl(location, from, `a redirect of ${from.host}`, this.#context.allowsHttp);
    if (to.href === from.href) throw new RegistryError('redirect', `${shownUrl(from)} redirects to itself`);
    return to;
  }

  async #refuse(response: WireResponse, url: URL): Promise<RegistryError> {
    const words = await response.body.start(this.#context.limits.errorBytes);
    const retryAfterMs = parseRetryAfter(response.headers['retry-after'], Date.now());
    return refusal(url.host, response.status, words, retryAfterMs === undefined ? {} : { retryAfterMs });
  }
}
