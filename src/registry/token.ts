/** Bearer tokens from a token server (distribution's spec/auth/token and spec/auth/oauth). */
import type { Credentials } from './credentials.js';
import { RegistryError, refusal } from './errors.js';
import type { HostTls } from './hosts.js';
import type { Limits } from './limits.js';
import { parseJsonBytes } from './manifest.js';
import { hostName, nextUrl, type PlainHttpRule } from './origin.js';
import type { Wire } from './wire.js';

export interface TokenRequest {
  readonly realm: URL;
  readonly service: string | undefined;
  readonly scopes: readonly string[];
  readonly credentials: Credentials | undefined;
}

export interface Token {
  readonly token: string;
  /** How long it may be used from now on, in milliseconds. */
  readonly lifeMs: number;
  /** For the next token, in place of the password. */
  readonly refreshToken: string | undefined;
}

export interface TokenContext {
  readonly wire: Wire;
  readonly limits: Limits;
  readonly allowsHttp: PlainHttpRule;
  readonly userAgent: string;
  /** The registry's own host and trust. */
  readonly host: string;
  readonly tls: HostTls;
  /** Passwords go by POST too, where a GET would do. */
  readonly usesOauth: boolean;
}

const CLIENT_ID = 'lamina';
/** The life of a token when the server names none, in seconds. */
const DEFAULT_LIFE = 60;
const MAX_TOKEN = 64 * 1024;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
/** How servers refuse a POST they do not know; others than those that tell of a wrong password. */
const NO_POST = new Set([400, 401, 404, 405]);

/**
 * The URL of a challenge's realm.
 * @param from the URL that was asked
 * @throws RegistryError `protocol` or `insecure`: a realm over plain HTTP must be on the same host
 * as a registry that is reached so, or on one that is allowed to be
 */
export function parseRealm(text: string | undefined, from: URL, allowsHttp: PlainHttpRule): URL {
  if (text === undefined || !/^https?:\/\//i.test(text)) {
    throw new RegistryError('protocol', `${from.host} names no token server`);
  }
  const isOwnHost = (host: string): boolean => hostName(host) === hostName(from.host) || allowsHttp(host);
  return nextUrl(text, from, `the token server of ${from.host}`, isOwnHost);
}

/** On another host than the registry's only its authorities are trusted as well. */
export function tlsFor(url: URL, host: string, tls: HostTls): HostTls {
  return hostName(url.host) === hostName(host) ? tls : { ca: tls.ca, client: [], skipVerify: false };
}

function textField(fields: Record<string, unknown>, name: string): string | undefined {
  const value = fields[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function parseToken(bytes: Buffer, realm: URL): Token {
  const parsed = parseJsonBytes(bytes, `the answer of the token server ${realm.host}`);
  const fields = typeof parsed === 'object' && parsed !== null ? (parsed as Record<string, unknown>) : {};
  const token = textField(fields, 'access_token') ?? textField(fields, 'token');
  if (token === undefined) throw new RegistryError('protocol', `the token server ${realm.host} sent no token`);
  if (token.length > MAX_TOKEN || !/^[\x21-\x7e]+$/.test(token)) {
    throw new RegistryError('protocol', `the token server ${realm.host} sent a token that cannot be used`);
  }
  const seconds = fields['expires_in'];
  const life = typeof seconds === 'number' && seconds > 0 ? Math.min(seconds, 86_400) : DEFAULT_LIFE;
  // Used for less than it lives: it travels, and clocks differ.
  return { token, lifeMs: life * 900, refreshToken: textField(fields, 'refresh_token') };
}

async function ask(
  context: TokenContext,
  method: 'GET' | 'POST',
  first: URL,
  headers: Record<string, string>,
  payload: Buffer | undefined,
  signal: AbortSignal,
): Promise<Token> {
  const { wire, limits } = context;
  let url = first;
  for (let hops = 0; ; hops += 1) {
    const isFirst = url.origin === first.origin;
    const { authorization, ...others } = headers;
    const response = await wire.send({
      method,
      url,
      headers: {
        ...others,
        ...(isFirst && authorization !== undefined ? { authorization } : {}),
        accept: 'application/json',
        'accept-encoding': 'identity',
        'user-agent': context.userAgent,
      },
      payload,
      tls: tlsFor(url, context.host, context.tls),
      connectMs: limits.connectMs,
      responseMs: limits.responseMs,
      signal,
    });
    if (response.status >= 200 && response.status < 300) {
      return parseToken(await response.body.all(limits.jsonBytes, 'a token'), url);
    }
    const body = await response.body.start(limits.errorBytes);
    const { location } = response.headers;
    // A POST has the credentials in its body: it goes nowhere else.
    if (method === 'GET' && REDIRECTS.has(response.status) && location !== undefined) {
      if (hops >= limits.redirects) {
        throw new RegistryError('redirect', `the token server ${url.host} redirects more than ${hops} times`);
      }
      url = nextUrl(location, url, `a redirect of the token server ${url.host}`, context.allowsHttp);
      continue;
    }
    throw refusal(`the token server ${url.host}`, response.status, body);
  }
}

async function get(context: TokenContext, wanted: TokenRequest, signal: AbortSignal): Promise<Token> {
  const url = new URL(wanted.realm);
  if (wanted.service !== undefined) url.searchParams.set('service', wanted.service);
  for (const scope of wanted.scopes) url.searchParams.append('scope', scope);
  const { credentials } = wanted;
  if (credentials?.kind !== 'password') return await ask(context, 'GET', url, {}, undefined, signal);
  url.searchParams.set('account', credentials.username);
  return await ask(context, 'GET', url, { authorization: basicHeader(credentials) }, undefined, signal);
}

async function post(context: TokenContext, wanted: TokenRequest, signal: AbortSignal): Promise<Token> {
  const form = new URLSearchParams({ client_id: CLIENT_ID, service: wanted.service ?? '' });
  if (wanted.scopes.length > 0) form.set('scope', wanted.scopes.join(' '));
  const { credentials } = wanted;
  if (credentials?.kind === 'identity') {
    form.set('grant_type', 'refresh_token');
    form.set('refresh_token', credentials.token);
  } else if (credentials?.kind === 'password') {
    form.set('grant_type', 'password');
    form.set('username', credentials.username);
    form.set('password', credentials.password);
  }
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  return await ask(context, 'POST', wanted.realm, headers, Buffer.from(form.toString()), signal);
}

/** `Basic …`. */
export function basicHeader({ username, password }: { readonly username: string; readonly password: string }): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

/**
 * Fetches a token: anonymously and with a password by GET, with an identity token by POST; with a
 * password by POST where that is asked for, and by GET then if the server does not know it.
 * @throws RegistryError `unauthorized` for wrong credentials, and whatever goes wrong on the way
 */
export async function fetchToken(context: TokenContext, wanted: TokenRequest, signal: AbortSignal): Promise<Token> {
  const kind = wanted.credentials?.kind;
  if (kind === 'identity') return await post(context, wanted, signal);
  if (kind !== 'password' || !context.usesOauth) return await get(context, wanted, signal);
  try {
    return await post(context, wanted, signal);
  } catch (error) {
    if (!(error instanceof RegistryError) || !NO_POST.has(error.status ?? 0)) throw error;
    return await get(context, wanted, signal);
  }
}
