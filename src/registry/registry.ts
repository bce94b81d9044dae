/** The front door: options, and the repositories of all registries. */
import { VERSION } from '../base/index.js';
import { anonymous, type CredentialSource } from './credentials.js';
import { DEFAULT_LIMITS, DEFAULT_RETRY, type Limits, type RetryPolicy } from './limits.js';
import { type Observer, quiet } from './observer.js';
import { isLoopback } from './origin.js';
import { parseReference, type Reference } from './reference.js';
import { Repository } from './repository.js';
import { Session } from './session.js';

export interface RegistryOptions {
  /** Default: anonymous. `dockerCredentials()` is what `docker login` left. */
  readonly credentials?: CredentialSource;
  /**
   * containerd's configuration of hosts; default: none. `DEFAULT_HOSTS_DIR` is where it usually is.
   */
  readonly hostsDir?: string;
  /** Hosts that may be reached over plain HTTP, as `host` or `host:port`; loopback may always. */
  readonly plainHttp?: readonly string[];
  readonly limits?: Partial<Limits>;
  readonly retry?: Partial<RetryPolicy>;
  /** Passwords go to token servers by POST (OAuth 2), where a GET would do. */
  readonly oauth?: boolean;
  readonly userAgent?: string;
  readonly observer?: Observer;
}

/** A client for registries. It keeps connections and tokens; `close` gives them up. */
export class Registry {
  readonly #session: Session;

  constructor(options: RegistryOptions = {}) {
    const plain = new Set((options.plainHttp ?? []).map((host) => host.toLowerCase()));
    const isPlain = (host: string): boolean => {
      const lower = host.toLowerCase();
      return plain.has(lower) || plain.has(lower.replace(/:\d+$/, ''));
    };
    this.#session = new Session({
      limits: { ...DEFAULT_LIMITS, ...options.limits },
      retry: { ...DEFAULT_RETRY, ...options.retry },
      credentials: options.credentials ?? anonymous,
      hostsDir: options.hostsDir,
      isPlain,
      allowsHttp: (host) => isLoopback(host) || isPlain(host),
      userAgent: options.userAgent ?? `lamina/${VERSION.replace(/[()]/g, '')}`,
      usesOauth: options.oauth ?? false,
      observer: quiet(options.observer ?? {}),
    });
  }

  /**
   * The repository of a reference; nothing is asked yet.
   * @throws RegistryError `bad-reference`
   */
  repository(reference: string | Reference): Repository {
    return new Repository(this.#session, typeof reference === 'string' ? parseReference(reference) : reference);
  }

  /** Gives up what is under way and closes all connections. */
  close(): void {
    this.#session.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
