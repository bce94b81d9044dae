/** Credentials for registries. */

/**
 * One of three: a password, a refresh token (Docker's identity token), or a bearer token as it is.
 */
export type Credentials =
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  | { readonly kind: 'identity'; readonly token: string }
  | { readonly kind: 'bearer'; readonly token: string };

/**
 * Looks credentials up.
 * @param host of the registry as it is connected to: `registry-1.docker.io`, `host:5000`
 * @returns undefined: none, so anonymous
 */
export type CredentialSource = (host: string, signal: AbortSignal) => Promise<Credentials | undefined>;

/** No credentials for anybody. */
export const anonymous: CredentialSource = () => Promise.resolve(undefined);

/** These credentials for this host, and none for others. `docker.io` is Docker Hub. */
export function credentialsFor(host: string, credentials: Credentials): CredentialSource {
  const wanted = credentialHost(host);
  return (asked) => Promise.resolve(credentialHost(asked) === wanted ? credentials : undefined);
}

/** Docker Hub's names; credentials are stored under the index's. */
const HUB = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io', 'www.docker.io']);

/** The host that credentials are stored under. */
export function credentialHost(host: string): string {
  const lower = host.toLowerCase();
  return HUB.has(lower) ? 'index.docker.io' : lower;
}
