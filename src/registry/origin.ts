/** Where requests may go: plain HTTP, redirects, upload locations and token realms. */
import { isIPv4, isIPv6 } from 'node:net';
import { cleanText, RegistryError } from './errors.js';

/** Says whether plain HTTP is allowed to a host, given as `host[:port]` of a URL. */
export type PlainHttpRule = (host: string) => boolean;

/** The host of `host[:port]`, without brackets. */
export function hostName(host: string): string {
  const bracketed = /^\[([^\]]*)\]/.exec(host);
  return (bracketed?.[1] ?? host.replace(/:\d*$/, '')).toLowerCase();
}

/** True for localhost and the addresses of the loopback interface. */
export function isLoopback(host: string): boolean {
  const name = hostName(host);
  if (name === 'localhost') return true;
  if (isIPv4(name)) return name.startsWith('127.');
  return isIPv6(name) && new URL(`http://[${name}]/`).hostname === '[::1]';
}

/** A URL for messages: without its query, which may hold a signature. */
export function shownUrl(url: URL): string {
  return cleanText(`${url.protocol}//${url.host}${url.pathname}`, 200);
}

/**
 * Parses a URL a registry sent and refuses what no request may go to.
 * @param base what a relative one is relative to
 * @param what the header or field, for errors
 * @throws RegistryError `protocol` for no URL, other schemes or credentials in it; `insecure` for
 * plain HTTP after HTTPS, or to a host it is not allowed to
 */
export function nextUrl(text: string, base: URL, what: string, allowsHttp: PlainHttpRule): URL {
  const shown = cleanText(text.replace(/\?.*$/s, ''), 150);
  let url: URL;
  try {
    url = new URL(text, base);
  } catch {
    throw new RegistryError('protocol', `${what} is no URL: ${shown}`);
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    throw new RegistryError('protocol', `${what} has a scheme that is not allowed: ${shown}`);
  }
  if (url.username !== '' || url.password !== '') {
    throw new RegistryError('protocol', `${what} has credentials in it`);
  }
  if (url.protocol === 'http:' && base.protocol === 'https:') {
    throw new RegistryError('insecure', `${what} leads from https to plain http: ${shownUrl(url)}`);
  }
  if (url.protocol === 'http:' && url.host !== base.host && !allowsHttp(url.host)) {
    throw new RegistryError('insecure', `${what} leads to plain http, which ${url.host} is not configured for`);
  }
  url.hash = '';
  return url;
}
