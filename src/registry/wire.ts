/**
 * One request and the headers of its answer, over node:http and node:https. Nothing is followed or
 * tried again.
 */
import { type ClientRequest, Agent as HttpAgent, request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { createSecureContext, getCACertificates, TLSSocket } from 'node:tls';
import { createDeferred, messageOf } from '../base/index.js';
import { Body } from './body.js';
import { abortError, cleanText, RegistryError, throwIfAborted } from './errors.js';
import type { HostTls } from './hosts.js';
import type { Limits } from './limits.js';

/** A request's body: bytes, or a stream of known length. */
export type Payload = Buffer | { readonly size: number; readonly chunks: AsyncIterable<Uint8Array> };

export interface WireRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  readonly payload?: Payload | undefined;
  readonly tls: HostTls;
  readonly connectMs: number;
  readonly responseMs: number;
  readonly signal: AbortSignal;
}

export interface WireResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Body;
}

/** Interim answers (1xx) of one request; more than any server sends. */
const MAX_INTERIM = 16;

/** The words of OpenSSL or Node for a handshake with something that does not speak TLS. */
const NO_TLS = /wrong version number|packet length too long|http request|before secure TLS/;

/** Thrown by `send` for a host that does not speak TLS. */
export class NoTlsError extends RegistryError {}

function codeOfError(error: Error): string {
  return 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/**
 * A certificate by an authority that is not known: the system may know more of them than Node does.
 */
const UNKNOWN_AUTHORITY =
  /^(?:UNABLE_TO_GET_ISSUER_CERT|UNABLE_TO_GET_ISSUER_CERT_LOCALLY|UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT)$/;

let systemAuthorities: readonly string[] | undefined;

/**
 * The trusted authorities: Node's authorities and the configured ones, and the system's, which take
 * 0.2 s to read.
 */
function authorities(tls: HostTls, withSystem: boolean): { readonly ca?: string[] } {
  if (!withSystem && tls.ca.length === 0) return {};
  if (withSystem) systemAuthorities ??= getCACertificates('system');
  return { ca: [...getCACertificates('bundled'), ...((withSystem && systemAuthorities) || []), ...tls.ca] };
}

/** The error for a failure on the way to a host. */
function transportError(error: Error, host: string, wasSecured: boolean, isTls: boolean): RegistryError {
  if (error instanceof RegistryError) return error;
  const code = codeOfError(error);
  const options = { cause: error };
  if (isTls && !wasSecured && NO_TLS.test(error.message)) {
    return new NoTlsError('tls', `${host} does not speak TLS: configure it for plain http if that is meant`, options);
  }
  if (/^(?:ERR_SSL|ERR_TLS|CERT_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|HOSTNAME_MISMATCH|EPROTO)/.test(code)) {
    // OpenSSL's own line has the reason, and its file and line.
    const reason = /SSL routines:[^:]*:([^:]+):/.exec(error.message)?.[1] ?? error.message;
    return new RegistryError('tls', `${host}: ${cleanText(reason)} (${code})`, options);
  }
  if (code === 'HPE_HEADER_OVERFLOW') return new RegistryError('limit', `${host} sent too many headers`, options);
  if (code.startsWith('HPE_')) return new RegistryError('protocol', `${host} does not speak HTTP (${code})`, options);
  const text = `${host}: ${cleanText(error.message)}`;
  // A name that does not exist will not exist in a second.
  return new RegistryError('network', text, { ...options, ...(code === 'ENOTFOUND' ? { isTransient: false } : {}) });
}

/** Writes a stream as the peer takes it. */
async function writeStream(
  request: ClientRequest,
  payload: Exclude<Payload, Buffer>,
  idleMs: number,
  isAnswered: () => boolean,
): Promise<void> {
  let left = payload.size;
  for await (const chunk of payload.chunks) {
    left -= chunk.length;
    if (left < 0) throw new RegistryError('size', 'what is sent is longer than was said');
    // An answer before the end is a refusal.
    if (isAnswered() || request.destroyed) return;
    if (request.write(chunk)) continue;
    await new Promise<void>((resolve, reject) => {
      const settle = (error?: Error): void => {
        clearTimeout(timer);
        for (const name of ['drain', 'response', 'close']) request.off(name, onDone);
        if (error === undefined) resolve();
        else reject(error);
      };
      const onDone = (): void => settle();
      const timer = setTimeout(
        () => settle(new RegistryError('timeout', `${request.host} took nothing for ${idleMs} ms`)),
        idleMs,
      );
      for (const name of ['drain', 'response', 'close']) request.once(name, onDone);
    });
  }
  if (left > 0) throw new RegistryError('size', `what is sent ended ${left} bytes before what was said`);
  request.end();
}

/** The time limits of one request: connecting, then (once all is sent) the answer. */
class Phases {
  #timer: NodeJS.Timeout | undefined;

  start(ms: number, onOver: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(onOver, ms);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

/** Connections that are kept for the next request, by what is trusted on them. */
export class Wire {
  readonly #limits: Limits;
  readonly #http: HttpAgent;
  readonly #https = new Map<string, HttpsAgent>();
  /** Hosts whose certificate only the system's authorities may vouch for. */
  readonly #needSystem = new Set<string>();

  constructor(limits: Limits) {
    this.#limits = limits;
    this.#http = new HttpAgent({ keepAlive: true, maxSockets: limits.connections });
  }

  #tlsAgent(tls: HostTls, withSystem: boolean): HttpsAgent {
    const key = JSON.stringify([tls, withSystem]);
    const found = this.#https.get(key);
    if (found !== undefined) return found;
    let agent: HttpsAgent;
    try {
      agent = new HttpsAgent({
        keepAlive: true,
        maxSockets: this.#limits.connections,
        rejectUnauthorized: !tls.skipVerify,
        // Made once: the authorities of a system are hundreds.
        secureContext: createSecureContext({
          ...authorities(tls, withSystem),
          ...(tls.client.length === 0
            ? {}
            : { cert: tls.client.map(({ cert }) => cert), key: tls.client.map((pair) => pair.key) }),
        }),
      });
    } catch (cause) {
      throw new RegistryError('config', `certificates cannot be used: ${messageOf(cause)}`, { cause });
    }
    this.#https.set(key, agent);
    return agent;
  }

  /**
   * Sends a request.
   * @returns as soon as the headers of the answer are there, whatever its status
   * @throws RegistryError `network`, `timeout`, `tls`, `protocol`, `limit` or `aborted`; NoTlsError
   */
  async send(wanted: WireRequest): Promise<WireResponse> {
    const { host } = wanted.url;
    const isStream = wanted.payload !== undefined && !Buffer.isBuffer(wanted.payload);
    // A stream can be sent once only.
    const withSystem = isStream || this.#needSystem.has(host);
    try {
      return await this.#send(wanted, withSystem);
    } catch (error) {
      const cause = error instanceof RegistryError && error.kind === 'tls' ? error.cause : undefined;
      if (withSystem || !(cause instanceof Error) || !UNKNOWN_AUTHORITY.test(codeOfError(cause))) throw error;
      this.#needSystem.add(host);
      return await this.#send(wanted, true);
    }
  }

  async #send(wanted: WireRequest, withSystem: boolean): Promise<WireResponse> {
    const { url, signal, payload } = wanted;
    throwIfAborted(signal);
    const isTls = url.protocol === 'https:';
    const length = payload === undefined ? undefined : Buffer.isBuffer(payload) ? payload.length : payload.size;
    const options = {
      method: wanted.method,
      headers: {
        ...wanted.headers,
        ...(length === undefined ? {} : { 'content-length': String(length) }),
      } as Record<string, string | string[]>,
      maxHeaderSize: this.#limits.headerBytes,
      agent: isTls ? this.#tlsAgent(wanted.tls, withSystem) : this.#http,
    };
    const { promise, resolve, reject } = createDeferred<WireResponse>();
    const request = isTls ? httpsRequest(url, options) : httpRequest(url, options);
    const phases = new Phases();
    let isAnswered = false;
    let wasSecured = false;
    let isSent = false;
    let isConnected = false;
    const fail = (error: Error): void => {
      phases.stop();
      if (!isAnswered) request.destroy();
      reject(transportError(error, url.host, wasSecured, isTls));
    };
    const awaitAnswer = (): void => {
      if (!isSent || !isConnected || isAnswered) return;
      const ms = wanted.responseMs;
      phases.start(ms, () => fail(new RegistryError('timeout', `${url.host} did not answer within ${ms} ms`)));
    };
    const onAbort = (): void => fail(abortError(signal));
    signal.addEventListener('abort', onAbort, { once: true });
    let interim = 0;
    request
      .on('socket', (socket) => {
        const onConnected = (): void => {
          wasSecured = true;
          isConnected = true;
          phases.stop();
          awaitAnswer();
        };
        const isReady = socket instanceof TLSSocket ? !socket.connecting && request.reusedSocket : !socket.connecting;
        if (isReady) return onConnected();
        const ms = wanted.connectMs;
        phases.start(ms, () => fail(new RegistryError('timeout', `${url.host}: no connection within ${ms} ms`)));
        socket.once(isTls ? 'secureConnect' : 'connect', onConnected);
      })
      .on('information', () => {
        interim += 1;
        if (interim > MAX_INTERIM) fail(new RegistryError('limit', `${url.host} sent too many interim answers`));
      })
      .on('response', (message) => {
        isAnswered = true;
        phases.stop();
        signal.removeEventListener('abort', onAbort);
        // An answer before all was sent: the connection is of no more use.
        message.once('end', () => request.writableFinished || request.destroy());
        const body = new Body(message, url.host, this.#limits, signal);
        resolve({ status: message.statusCode ?? 0, headers: message.headers, body });
      })
      .on('error', fail)
      .on('close', () => {
        signal.removeEventListener('abort', onAbort);
        if (!isAnswered) fail(new RegistryError('network', `${url.host} closed the connection`));
      });
    const onSent = (): void => {
      isSent = true;
      awaitAnswer();
    };
    if (payload === undefined || Buffer.isBuffer(payload)) {
      request.end(payload);
      onSent();
    } else {
      // Whatever happens to the connection does not wait for the source.
      writeStream(request, payload, this.#limits.idleMs, () => isAnswered).then(onSent, (error: unknown) => {
        if (error instanceof RegistryError) return fail(error);
        return fail(
          new RegistryError('rejected', `what is to be sent cannot be read: ${messageOf(error)}`, { cause: error }),
        );
      });
    }
    return await promise;
  }

  /** Closes all connections. */
  close(): void {
    for (const agent of [this.#http, ...this.#https.values()]) agent.destroy();
  }
}
