/**
 * The Authorization header for one host: learned from its challenges, kept, and made anew when it
 * is refused.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { type Challenge, parseChallenges } from './challenge.js';
import type { CredentialSource, Credentials } from './credentials.js';
import { abortError, RegistryError } from './errors.js';
import { basicHeader, fetchToken, parseRealm, type Token, type TokenContext } from './token.js';

interface Known {
  readonly token: string;
  readonly untilMs: number;
}

/** The source of tokens, as one challenge named it. */
interface Bearer {
  readonly realm: URL;
  readonly service: string | undefined;
}

/** Repositories whose tokens are remembered. */
const MAX_KNOWN = 1000;
const MAX_SCOPES = 16;

/** The scopes of a challenge, as far as they can be sent. */
function scopesOf(challenge: Challenge): string[] {
  const scopes = (challenge.parameters.get('scope') ?? '').split(' ').filter((scope) => scope !== '');
  return scopes.filter((scope) => scope.length <= 1024 && /^[\x21-\x7e]+$/.test(scope)).slice(0, MAX_SCOPES);
}

export class Authorizer {
  readonly #context: TokenContext;
  readonly #source: CredentialSource;
  /** Ends fetches when the registry is closed; one of them serves several callers. */
  readonly #closed: AbortSignal;
  readonly #tokens = new Map<string, Known>();
  readonly #fetches = new Map<string, Promise<string>>();
  /** The scopes the registry itself asks for, by the scopes of our request. */
  readonly #scopes = new Map<string, readonly string[]>();
  #credentials: Promise<Credentials | undefined> | undefined;
  #refreshToken: string | undefined;
  #bearer: Bearer | undefined;
  #isBasic = false;

  constructor(context: TokenContext, source: CredentialSource, closed: AbortSignal) {
    this.#context = context;
    this.#source = source;
    this.#closed = closed;
  }

  /**
   * The header for a request; undefined while nothing has been asked for.
   * @param scopes what the request needs: `repository:library/alpine:pull`
   */
  async header(scopes: readonly string[], signal: AbortSignal): Promise<string | undefined> {
    const credentials = await this.#known(signal);
    if (credentials?.kind === 'bearer') return `Bearer ${credentials.token}`;
    if (this.#isBasic && credentials?.kind === 'password') return basicHeader(credentials);
    if (this.#bearer === undefined) return undefined;
    return `Bearer ${await this.#token(this.#bearer, scopes, signal)}`;
  }

  /**
   * Takes up the challenge of a 401.
   * @param asked the URL that was asked
   * @param sent the header that was refused
   * @returns true when the same request can be sent again, with another header
   * @throws RegistryError `unsupported`, `credentials`, or why the token server is not asked
   */
  async challenged(
    headers: IncomingHttpHeaders,
    asked: URL,
    scopes: readonly string[],
    sent: string | undefined,
    signal: AbortSignal,
  ): Promise<boolean> {
    const credentials = await this.#known(signal);
    // It was given as it is, and there is no other.
    if (credentials?.kind === 'bearer') return false;
    const challenges = parseChallenges(headers['www-authenticate']);
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    if (bearer !== undefined) {
      const realm = parseRealm(bearer.parameters.get('realm'), asked, this.#context.allowsHttp);
      this.#bearer = { realm, service: bearer.parameters.get('service') };
      this.#isBasic = false;
      const key = scopes.join(' ');
      this.#forgetSome();
      this.#scopes.set(key, scopesOf(bearer));
      this.#tokens.delete(key);
      return true;
    }
    if (!challenges.some(({ scheme }) => scheme === 'basic')) {
      if (challenges.length === 0 && headers['www-authenticate'] === undefined) return false;
      throw new RegistryError('unsupported', `${asked.host} asks for an authentication that is not known`);
    }
    if (credentials === undefined) return false;
    if (credentials.kind !== 'password') {
      throw new RegistryError('credentials', `${asked.host} wants a password, and a token is what there is`);
    }
    this.#isBasic = true;
    return sent !== basicHeader(credentials);
  }

  async #known(signal: AbortSignal): Promise<Credentials | undefined> {
    this.#credentials ??= this.#source(this.#context.host, this.#closed).catch((error: unknown) => {
      // The next request looks again.
      this.#credentials = undefined;
      throw error;
    });
    return await giveUpWith(this.#credentials, signal);
  }

  #forgetSome(): void {
    if (this.#scopes.size < MAX_KNOWN && this.#tokens.size < MAX_KNOWN) return;
    this.#scopes.clear();
    this.#tokens.clear();
  }

  async #token(bearer: Bearer, scopes: readonly string[], signal: AbortSignal): Promise<string> {
    const key = scopes.join(' ');
    const known = this.#tokens.get(key);
    if (known !== undefined && known.untilMs > performance.now()) return known.token;
    let fetch = this.#fetches.get(key);
    if (fetch === undefined) {
      fetch = this.#fetch(bearer, scopes, key).finally(() => this.#fetches.delete(key));
      this.#fetches.set(key, fetch);
    }
    return await giveUpWith(fetch, signal);
  }

  async #fetch(bearer: Bearer, scopes: readonly string[], key: string): Promise<string> {
    const wanted = { ...bearer, scopes: [...new Set([...scopes, ...(this.#scopes.get(key) ?? [])])] };
    const { token, lifeMs } = await this.#ask(wanted);
    this.#forgetSome();
    this.#tokens.set(key, { token, untilMs: performance.now() + lifeMs });
    return token;
  }

  async #ask(wanted: Bearer & { readonly scopes: readonly string[] }): Promise<Token> {
    const credentials = await this.#known(this.#closed);
    if (this.#refreshToken !== undefined) {
      try {
        const identity: Credentials = { kind: 'identity', token: this.#refreshToken };
        return await fetchToken(this.#context, { ...wanted, credentials: identity }, this.#closed);
      } catch (error) {
        if (!(error instanceof RegistryError) || error.isTransient) throw error;
        this.#refreshToken = undefined;
      }
    }
    const token = await fetchToken(this.#context, { ...wanted, credentials }, this.#closed);
    // The password is not sent again for each repository.
    if (credentials?.kind === 'password') this.#refreshToken = token.refreshToken;
    return token;
  }
}

/** Waits for what others wait for too: a signal ends the waiting, not the work. */
async function giveUpWith<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) throw abortError(signal);
  let onAbort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(abortError(signal));
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort);
  }
}
