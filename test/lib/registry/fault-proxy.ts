/** A proxy in front of a registry that does to requests what networks and bad servers do. */
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';

/** The fault of one request. Only `answer` and `reset` keep it from the registry. */
export interface Fault {
  /** Answers in place of the registry. */
  readonly answer?: { readonly status: number; readonly headers?: Record<string, string>; readonly body?: string };
  /** Breaks the connection off at once. */
  readonly reset?: true;
  /** Waits before anything else, in milliseconds. */
  readonly delayMs?: number;
  /** Breaks the connection off after so many bytes of the answer's body. */
  readonly cutAt?: number;
  /** The same, of the request's body. */
  readonly cutRequestAt?: number;
  /** Sends nothing more after so many bytes, and keeps the connection. */
  readonly stallAt?: number;
  /** Changes the byte there. */
  readonly corruptAt?: number;
  /** Sends only so many bytes and says that these are all. */
  readonly shortenTo?: number;
  /** Sends so many bytes more. */
  readonly lengthenBy?: number;
  /** Passes no Range on, so that all is sent again. */
  readonly ignoreRange?: true;
  /** Headers of the answer; an empty one is left out. */
  readonly headers?: Record<string, string>;
  /** Breaks the connection off once the registry has answered, without passing that on. */
  readonly loseAnswer?: true;
}

/** A request that came. */
export interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
}

export type Rule = (seen: Seen, index: number) => Fault | undefined;

export class FaultProxy {
  readonly seen: Seen[] = [];
  /** Asked for each request; the index counts all requests since `rule` was set. */
  #rule: Rule = () => undefined;
  #index = 0;
  readonly #upstreamPort: number;
  readonly #server: Server;

  private constructor(upstreamPort: number) {
    this.#upstreamPort = upstreamPort;
    this.#server = createServer((request, response) => void this.#serve(request, response));
    // What is broken off on purpose is no error here.
    this.#server.on('clientError', (_, socket) => socket.destroy());
  }

  static async start(upstreamPort: number): Promise<FaultProxy> {
    const proxy = new FaultProxy(upstreamPort);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  get host(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Begins anew: what was seen is forgotten. */
  use(rule: Rule): void {
    this.#rule = rule;
    this.#index = 0;
    this.seen.length = 0;
  }

  /** Applies to the first `times` requests that match, and to no others. */
  first(times: number, method: string, path: RegExp, fault: Fault): void {
    let left = times;
    this.use((seen) => {
      if (left === 0 || seen.method !== method || !path.test(seen.url)) return undefined;
      left -= 1;
      return fault;
    });
  }

  /** The requests that match, as they came. */
  count(method: string, path: RegExp): number {
    return this.seen.filter((seen) => seen.method === method && path.test(seen.url)).length;
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const seen = { method: request.method ?? '', url: request.url ?? '', headers: request.headers };
    this.seen.push(seen);
    const fault = this.#rule(seen, this.#index) ?? {};
    this.#index += 1;
    if (fault.delayMs !== undefined) await new Promise((resolve) => setTimeout(resolve, fault.delayMs));
    if (fault.reset === true) {
      request.socket.destroy();
      return;
    }
    if (fault.answer !== undefined) {
      request.resume();
      response.writeHead(fault.answer.status, fault.answer.headers).end(fault.answer.body);
      return;
    }
    this.#forward(request, response, fault);
  }

  #forward(request: IncomingMessage, response: ServerResponse, fault: Fault): void {
    const headers = { ...request.headers };
    if (fault.ignoreRange === true) delete headers.range;
    const upstream = httpRequest({
      host: '127.0.0.1',
      port: this.#upstreamPort,
      method: request.method ?? 'GET',
      path: request.url ?? '/',
      headers,
      agent: false,
    });
    upstream.on('error', () => request.socket.destroy());
    upstream.on('response', (answer) => void this.#answer(answer, request, response, fault));
    let sent = 0;
    request.on('data', (chunk: Buffer) => {
      const left = (fault.cutRequestAt ?? Number.POSITIVE_INFINITY) - sent;
      sent += chunk.length;
      upstream.write(chunk.subarray(0, Math.min(left, chunk.length)), () => {
        if (chunk.length < left) return;
        upstream.destroy();
        request.socket.destroy();
      });
    });
    request.on('end', () => upstream.end());
  }

  async #answer(
    answer: IncomingMessage,
    request: IncomingMessage,
    response: ServerResponse,
    fault: Fault,
  ): Promise<void> {
    if (fault.loseAnswer === true) {
      answer.resume();
      request.socket.destroy();
      return;
    }
    const headers: Record<string, string | string[] | undefined> = { ...answer.headers, ...fault.headers };
    const length = Number(headers['content-length'] ?? 0);
    if (fault.shortenTo !== undefined) headers['content-length'] = String(fault.shortenTo);
    if (fault.lengthenBy !== undefined) headers['content-length'] = String(length + fault.lengthenBy);
    for (const [name, value] of Object.entries(headers)) if (value === '' || value === undefined) delete headers[name];
    delete headers['connection'];
    response.writeHead(answer.statusCode ?? 500, headers as Record<string, string>);
    const stop = Math.min(
      fault.cutAt ?? Number.POSITIVE_INFINITY,
      fault.stallAt ?? Number.POSITIVE_INFINITY,
      fault.shortenTo ?? Number.POSITIVE_INFINITY,
    );
    let at = 0;
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      const part = Buffer.from(chunk.subarray(0, Math.max(0, Math.min(chunk.length, stop - at))));
      const corrupt = (fault.corruptAt ?? -1) - at;
      if (corrupt >= 0 && corrupt < part.length) part.writeUInt8(part.readUInt8(corrupt) ^ 0xff, corrupt);
      at += part.length;
      if (part.length > 0) await new Promise<void>((resolve) => response.write(part, () => resolve()));
      if (at < stop) continue;
      if (fault.stallAt !== undefined) return;
      if (fault.cutAt !== undefined) request.socket.destroy();
      break;
    }
    if (fault.lengthenBy !== undefined) response.write(Buffer.alloc(fault.lengthenBy));
    response.end();
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
