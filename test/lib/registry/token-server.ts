/**
 * A token server for docker-registry (distribution's spec/auth), with one user and one identity
 * token.
 */
import { randomUUID, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Certificate } from './certificates.js';
import { USER } from './debian.js';

export const IDENTITY = 'identity-token-of-the-tester';

export interface TokenCall {
  readonly method: string;
  readonly authorization: string | undefined;
  readonly parameters: URLSearchParams;
}

interface Access {
  readonly type: string;
  readonly name: string;
  readonly actions: readonly string[];
}

const base64url = (value: string | Buffer): string => Buffer.from(value).toString('base64url');

/**
 * `repository:a/b:pull,push`, cut down to what may be done: all for the user, reading for anybody
 * else.
 */
function grant(scope: string, isUser: boolean): Access {
  const [type = '', name = '', actions = ''] = scope.split(':');
  const wanted = actions.split(',');
  return { type, name, actions: isUser ? wanted : wanted.filter((action) => action === 'pull') };
}

export class TokenServer {
  readonly calls: TokenCall[] = [];
  /** Seconds that tokens live, as they say. */
  lifeSeconds = 300;
  /** Answers POST with 404, as servers do that know no OAuth. */
  hasPost = true;
  /** Gives a refresh token to who has a password. */
  givesRefreshToken = false;
  /** In place of an answer. */
  answer: ((request: IncomingMessage, response: ServerResponse) => void) | undefined;
  readonly #certificate: Certificate;
  readonly #server: Server;

  private constructor(certificate: Certificate) {
    this.#certificate = certificate;
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  static async start(certificate: Certificate): Promise<TokenServer> {
    const server = new TokenServer(certificate);
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve));
    return server;
  }

  get realm(): string {
    const address = this.#server.address();
    return `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}/token`;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.answer !== undefined) {
      this.answer(request, response);
      return;
    }
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const isPost = request.method === 'POST';
    const parameters = isPost ? new URLSearchParams(body) : new URL(request.url ?? '/', this.realm).searchParams;
    const { authorization } = request.headers;
    this.calls.push({ method: request.method ?? '', authorization, parameters });
    if (isPost && !this.hasPost) {
      response.writeHead(404).end();
      return;
    }
    const basic = `Basic ${Buffer.from(`${USER.username}:${USER.password}`).toString('base64')}`;
    const isKnown = isPost
      ? parameters.get('refresh_token') === IDENTITY || parameters.get('password') === USER.password
      : authorization === basic;
    if (!isKnown && (isPost || authorization !== undefined)) {
      response.writeHead(401, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ errors: [{ code: 'UNAUTHORIZED', message: 'wrong password' }] }));
      return;
    }
    const scopes = parameters.getAll('scope').flatMap((scope) => scope.split(' '));
    const token = this.#token(scopes.map((scope) => grant(scope, isKnown)));
    const refresh = this.givesRefreshToken && isKnown ? { refresh_token: IDENTITY } : {};
    const names = isPost ? { access_token: token } : { token };
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ ...names, ...refresh, expires_in: this.lifeSeconds }));
  }

  /** A JSON Web Token by ES256, which carries its certificate. */
  #token(access: readonly Access[]): string {
    const pem = readFileSync(this.#certificate.cert, 'utf8');
    const der = pem.replace(/-----[^-]+-----|\s/g, '');
    const now = Math.floor(Date.now() / 1000);
    const header = { typ: 'JWT', alg: 'ES256', x5c: [der] };
    const claims = {
      iss: 'lamina test',
      sub: '',
      aud: 'registry.test',
      exp: now + 300,
      nbf: now - 60,
      iat: now - 60,
      jti: randomUUID(),
      access,
    };
    const signed = `${base64url(JSON.stringify(header))}.${base64url(JSON.stringify(claims))}`;
    const key = readFileSync(this.#certificate.key);
    const signature = sign('sha256', Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' });
    return `${signed}.${base64url(signature)}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
