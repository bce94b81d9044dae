/** gRPC over a unix socket, as little of it as the tests need: unary calls without compression. */
import { type ClientHttp2Session, connect as connectHttp2, type IncomingHttpHeaders } from 'node:http2';
import { connect } from 'node:net';
import type { MethodDefinition, ServiceClient, ServiceDefinition } from '../../src/ttrpc/index.js';

/** Compression flag and length before each message. */
const PREFIX_LENGTH = 5;

/** An error the server answered with. */
export class GrpcError extends Error {
  /** As in google.rpc.Code. */
  readonly code: number;

  constructor(method: string, code: number, message: string) {
    super(`${method}: ${message} (code ${code})`);
    this.code = code;
  }
}

export class GrpcConnection {
  readonly #session: ClientHttp2Session;
  readonly #metadata: Readonly<Record<string, string>>;

  /** @param metadata sent with each call, names in lower case */
  constructor(path: string, metadata: Readonly<Record<string, string>> = {}) {
    this.#metadata = metadata;
    this.#session = connectHttp2('http://localhost', { createConnection: () => connect(path) });
    // An error ends the calls under way, which report it.
    this.#session.on('error', () => undefined);
  }

  close(): void {
    this.#session.destroy();
  }

  /** A client for a service whose methods take and return one message each. */
  client<D extends ServiceDefinition>(definition: D): ServiceClient<D> {
    const client: Record<string, (request: unknown) => Promise<unknown>> = {};
    for (const [key, method] of Object.entries(definition.methods)) {
      client[key] = (request) => this.#call(definition.fullName, method, request);
    }
    // The loop gives every key of `methods` its function; TypeScript cannot follow that.
    return client as ServiceClient<D>;
  }

  #call(service: string, method: MethodDefinition, request: unknown): Promise<unknown> {
    const body = method.requestType.encode(request).finish();
    const prefix = Buffer.alloc(PREFIX_LENGTH);
    prefix.writeUInt32BE(body.length, 1);
    return new Promise((resolve, reject) => {
      const stream = this.#session.request({
        ':method': 'POST',
        ':path': `/${service}/${method.name}`,
        'content-type': 'application/grpc',
        te: 'trailers',
        ...this.#metadata,
      });
      const chunks: Buffer[] = [];
      let headers: IncomingHttpHeaders = {};
      // A call that fails at once has its status in the first headers.
      const note = (more: IncomingHttpHeaders): void => {
        headers = { ...headers, ...more };
      };
      stream.on('response', note).on('trailers', note).on('error', reject);
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('close', () => reject(new Error(`${method.name}: the connection was closed`)));
      stream.on('end', () => {
        const status = Number(headers['grpc-status'] ?? 2);
        const text = decodeURIComponent(String(headers['grpc-message'] ?? ''));
        if (status !== 0) return reject(new GrpcError(method.name, status, text));
        resolve(method.responseType.decode(Buffer.concat(chunks).subarray(PREFIX_LENGTH)));
      });
      stream.end(Buffer.concat([prefix, body]));
    });
  }
}
