/**
 * A keeper under test: its bundle, state directory and daemon side, and `fake-engine` as its
 * engine, which the test drives message by message (native/keeper/test/fake-engine.c).
 *
 * INVARIANT: everything made is removed by `close()`, which also fails if the sanitizers had
 * something to say.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = resolve(fileURLToPath(import.meta.url), '../../../..');
export const KEEPER = resolve(process.env['LAMINA_KEEPER_BIN'] ?? join(ROOT, 'build/containerd-shim-lamina-v2'));
export const FAKE_ENGINE = join(ROOT, 'build/test/fake-engine');

/** Numbers of native/common/protocol.h, read from it so that a change shows up here. */
const HEADER = readFileSync(join(ROOT, 'native/common/protocol.h'), 'utf8');
export function lm(name: string): number {
  const match = new RegExp(`^#define LM_${name} (\\d+)$`, 'm').exec(HEADER);
  assert.ok(match?.[1], `LM_${name} in protocol.h`);
  return Number(match[1]);
}

export interface Message {
  readonly link: number;
  readonly type: number;
  readonly flags: number;
  readonly serial: number;
  readonly arg: number;
  /** Descriptor numbers in the fake engine's process. */
  readonly fds: readonly number[];
  readonly fields: readonly Buffer[];
}

export interface Outgoing {
  readonly flags?: number;
  readonly serial?: number;
  readonly arg?: number;
  /** Numbers in the fake engine, or `r:PATH`, `w:PATH`, `rw:PATH` to open. */
  readonly fds?: readonly (number | string)[];
  readonly fields?: readonly (Buffer | string)[];
}

const DEADLINE_MS = 120_000;

/** Hands out items in order of arrival, each to the first that asks for its like. */
class Inbox<T> {
  #items: T[] = [];
  #waiting: { match: (item: T) => boolean; resolve: (item: T) => void }[] = [];

  push(item: T): void {
    const index = this.#waiting.findIndex((waiter) => waiter.match(item));
    if (index < 0) this.#items.push(item);
    else this.#waiting.splice(index, 1)[0]?.resolve(item);
  }

  take(match: (item: T) => boolean, what: string): Promise<T> {
    const index = this.#items.findIndex(match);
    const found = index < 0 ? undefined : this.#items.splice(index, 1)[0];
    if (found !== undefined) return Promise.resolve(found);
    return new Promise((done, fail) => {
      const waiter = {
        match,
        resolve: (item: T): void => {
          clearTimeout(timer);
          done(item);
        },
      };
      const timer = setTimeout(() => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        fail(new Error(`${what} did not come; waiting: ${JSON.stringify(this.#items).slice(0, 2000)}`));
      }, DEADLINE_MS);
      this.#waiting.push(waiter);
    });
  }

  get items(): readonly T[] {
    return this.#items;
  }
}

/** One fake engine process. */
export class Engine {
  pid = 0;
  args: readonly string[] = [];
  readonly messages = new Inbox<Message>();
  readonly lines = new Inbox<string>();
  readonly #socket: Socket;
  #rest = '';

  constructor(socket: Socket, onReady: (engine: Engine) => void) {
    this.#socket = socket;
    socket.on('error', () => socket.destroy());
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n');
      this.#rest = lines.pop() ?? '';
      for (const line of lines) this.#line(line, onReady);
    });
  }

  #line(line: string, onReady: (engine: Engine) => void): void {
    const words = line.split(' ');
    if (words[0] === 'engine') {
      this.pid = Number(words[1]);
      this.args = words.slice(2);
      onReady(this);
    } else if (words[0] === 'msg') {
      const [link, type, flags, serial, arg] = words.slice(1, 6).map(Number) as [
        number,
        number,
        number,
        number,
        number,
      ];
      const fds = words[6] === '-' ? [] : (words[6] ?? '').split(',').map(Number);
      const fields = words[7] === '-' ? [] : (words[7] ?? '').split(',').map((hex) => Buffer.from(hex, 'hex'));
      this.messages.push({ link, type, flags, serial, arg, fds, fields });
    } else {
      this.lines.push(line);
    }
  }

  /** Waits for a message of this type (name without LM_MSG_). */
  next(name: string, match: (message: Message) => boolean = () => true): Promise<Message> {
    const type = lm(`MSG_${name}`);
    return this.messages.take((message) => message.type === type && match(message), name);
  }

  /** Types of all messages that arrived and were not taken yet. */
  pendingOf(name: string): Message[] {
    return this.messages.items.filter((message) => message.type === lm(`MSG_${name}`));
  }

  command(line: string): void {
    this.#socket.write(`${line}\n`);
  }

  send(name: string, message: Outgoing = {}, link = 0): void {
    const fields = (message.fields ?? []).map((field) => Buffer.from(field).toString('hex') || '=');
    const parts = [
      lm(`MSG_${name}`),
      message.flags ?? 0,
      message.serial ?? 0,
      message.arg ?? 0,
      message.fds?.join(',') || '-',
      fields.join(',') || '-',
    ];
    this.command(`send ${link} ${parts.join(' ')}`);
  }

  /** A round trip: whatever was sent before has been handled when it resolves. */
  async settled(link = 0): Promise<void> {
    this.send('ADOPT', { serial: 0x7ffffff0, arg: 1, fields: ['settled'] }, link);
    await this.next('FAILED', (message) => message.serial === 0x7ffffff0);
  }

  async pty(): Promise<{ master: number; slave: string }> {
    this.command('pty');
    const words = (await this.lines.take((line) => line.startsWith('pty '), 'pty')).split(' ');
    return { master: Number(words[1]), slave: words[2] ?? '' };
  }

  kill(): void {
    process.kill(this.pid, 'SIGKILL');
  }
}

export interface RunResult {
  readonly code: number | null;
  readonly stdout: Buffer;
  readonly stderr: string;
}

/** Runs a program to its end, with its stdout and stderr read to their ends. */
export async function run(
  file: string,
  args: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv; input?: Buffer } = {},
): Promise<RunResult> {
  const child = spawn(file, args, {
    cwd: options.cwd,
    env: options.env ?? process.env,
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  child.stdin.on('error', () => {});
  child.stdin.end(options.input ?? Buffer.alloc(0));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() };
}

/** One length-delimited protobuf field of up to 127 bytes, field number up to 15. */
export function text(field: number, value: string): Buffer {
  return Buffer.concat([Buffer.of((field << 3) | 2, Buffer.byteLength(value)), Buffer.from(value)]);
}

/** A ttrpc request frame header and body. */
export function frame(stream: number, body: Buffer, declared = body.length): Buffer {
  const header = Buffer.alloc(10);
  header.writeUInt32BE(declared, 0);
  header.writeUInt32BE(stream, 4);
  header[8] = 1;
  return Buffer.concat([header, body]);
}

/** Polls for something no event tells, with a deadline. */
export async function eventually(what: string, check: () => boolean): Promise<void> {
  const end = performance.now() + DEADLINE_MS;
  while (!check()) {
    if (performance.now() > end) assert.fail(`${what}: not within ${DEADLINE_MS} ms`);
    await new Promise((done) => setTimeout(done, 5));
  }
}

/** Whether a process has ended; one that nobody has reaped yet has. */
export function isGone(pid: number): boolean {
  try {
    return /^State:\s[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return true;
  }
}

export class Bed {
  readonly dir = mkdtempSync('/tmp/lm-');
  readonly bundle = join(this.dir, 'bundle');
  readonly stateDir = join(this.dir, 'state');
  readonly socketDir = join(this.dir, 's');
  readonly #engines = new Inbox<Engine>();
  readonly #all: Engine[] = [];
  readonly #server: Server;
  readonly #keepers = new Set<number>();
  readonly env: NodeJS.ProcessEnv;

  constructor(env: NodeJS.ProcessEnv = {}) {
    mkdirSync(this.bundle);
    this.config({});
    // Looked for by start; LAMINA_NODE runs it, whatever it is.
    mkdirSync(join(this.dir, 'lib'));
    writeFileSync(join(this.dir, 'lib/engine.cjs'), '');
    const control = join(this.dir, 'control');
    this.#server = createServer((socket) => {
      this.#all.push(new Engine(socket, (engine) => this.#engines.push(engine)));
    }).listen(control);
    this.env = {
      ...process.env,
      LAMINA_STATE_DIR: this.stateDir,
      LAMINA_LIB: join(this.dir, 'lib'),
      LAMINA_NODE: FAKE_ENGINE,
      LAMINA_FAKE_CONTROL: control,
      ASAN_OPTIONS: `log_path=${join(this.dir, 'asan')}`,
      UBSAN_OPTIONS: `log_path=${join(this.dir, 'asan')}:print_stacktrace=1`,
      ...env,
    };
  }

  config(spec: unknown, bundle = this.bundle): void {
    mkdirSync(bundle, { recursive: true });
    writeFileSync(join(bundle, 'config.json'), typeof spec === 'string' ? spec : JSON.stringify(spec));
  }

  /** Runs the binary with the flags the daemon gives. */
  verb(
    verb: string,
    options: { id?: string; bundle?: string; input?: Buffer; env?: NodeJS.ProcessEnv; flags?: readonly string[] } = {},
  ): Promise<RunResult> {
    const flags = ['-namespace', 'test', '-address', join(this.dir, 'grpc'), '-publish-binary', '/bin/true'];
    return run(KEEPER, [...flags, '-id', options.id ?? 'one', ...(options.flags ?? []), verb], {
      cwd: options.bundle ?? this.bundle,
      env: { ...this.env, ...options.env },
      ...(options.input === undefined ? {} : { input: options.input }),
    });
  }

  /** BootstrapParams of containerd 2.3, with our own socket directory. */
  params(id = 'one'): Buffer {
    return Buffer.concat([text(1, id), text(2, 'test'), text(4, 'v2.3.0'), text(5, '/tt'), text(9, this.socketDir)]);
  }

  /** `start` in the protobuf dialect; the address is where the keeper listens. */
  async start(options: { id?: string; bundle?: string; env?: NodeJS.ProcessEnv } = {}): Promise<string> {
    const result = await this.verb('start', { ...options, input: this.params(options.id) });
    assert.equal(result.stderr, '');
    assert.equal(result.code, 0);
    return readFileSync(join(options.bundle ?? this.bundle, 'address'), 'utf8').replace('unix://', '');
  }

  /** The next engine a keeper starts. */
  engine(): Promise<Engine> {
    return this.#engines.take(() => true, 'an engine');
  }

  /** Starts a keeper and its engine, and waits until all is replayed. */
  async keeper(
    options: { id?: string; env?: NodeJS.ProcessEnv } = {},
  ): Promise<{ socket: string; engine: Engine; pid: number; hello: Message }> {
    const socket = await this.start(options);
    const engine = await this.engine();
    const hello = await this.replayed(engine);
    return { socket, engine, pid: hello.arg, hello };
  }

  /** Waits for HELLO and REPLAYED on a link. */
  async replayed(engine: Engine): Promise<Message> {
    const hello = await engine.next('HELLO');
    this.#keepers.add(hello.arg);
    await engine.next('REPLAYED', (message) => message.link === hello.link);
    return hello;
  }

  /** Has close() end this keeper, which `replayed` never saw. */
  owns(keeper: number): void {
    this.#keepers.add(keeper);
  }

  async connect(path: string): Promise<Socket> {
    const socket = connect(path);
    socket.on('error', () => {});
    await once(socket, 'connect');
    return socket;
  }

  async close(): Promise<void> {
    const alive = (pid: number): boolean => !isGone(pid);
    for (const pid of this.#keepers) if (alive(pid)) process.kill(pid, 'SIGKILL');
    await eventually('keepers end', () => ![...this.#keepers].some(alive));
    for (const { pid } of this.#all) if (pid > 0 && alive(pid)) process.kill(pid, 'SIGKILL');
    this.#server.close();
    const reports = readdirSync(this.dir).filter((name) => name.startsWith('asan'));
    const findings = reports.map((name) => readFileSync(join(this.dir, name), 'utf8')).join('\n');
    rmSync(this.dir, { recursive: true, force: true });
    assert.equal(findings, '', 'sanitizers found nothing');
  }
}
