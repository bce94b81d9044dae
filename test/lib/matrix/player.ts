/** Plays one case of the matrix with a client that users have, and compares the bytes. */
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { Command, mustRun, shellQuote } from '../command.js';
import type { Case } from './cases.js';
import { asShown, bytesOf, linesOf, sha256 } from './data.js';

/** What runs commands in containers: ctr or docker, with one runtime. */
export interface Client {
  /** Holds `bytes-N` and `lines-N`, and is /data in every container. */
  readonly folder: string;
  /** It passes an end of its input on only if that comes after the start. */
  readonly missesEarlyEnd?: boolean;
  /** The command that runs `argv` with its stdin open, at a terminal or at none. */
  argv(test: Case, argv: readonly string[], terminal: boolean): readonly string[];
}

/** A container's program says so when it runs; neither kind of data begins with it. */
const READY = '~';
/** At a terminal: no more input. */
const CTRL_D = '\x04';

/** Where terminals are concerned, echo is switched off for more than fits its buffer. */
const ECHO_LIMIT = 200;

const sh = (script: string): string[] => ['sh', '-c', script];

function halves(bytes: Buffer): [Buffer, Buffer] {
  const middle = Math.ceil(bytes.length / 2);
  return [bytes.subarray(0, middle), bytes.subarray(middle)];
}

function difference(what: string, actual: Buffer, expected: Buffer): string[] {
  if (actual.equals(expected)) return [];
  const at = actual.findIndex((byte, i) => byte !== expected[i]);
  const place = at < 0 ? Math.min(actual.length, expected.length) : at;
  return [`${what}: ${actual.length} bytes for ${expected.length}, not the same from ${place} on`];
}

/** Runs what was begun to its end. @returns what is wrong */
async function finish(command: Command, check: (stdout: Buffer, stderr: Buffer) => string[]): Promise<string[]> {
  const { code, stderr } = await command.result();
  if (code !== 0) return [`exit status ${code}: ${stderr.slice(-300)}`];
  return check(command.stdoutBytes, command.stderrBytes);
}

/**
 * A descriptor that gives these bytes and then the end: of a file, or of a pipe that is full
 * already.
 */
async function inputOf(client: Client, test: Case): Promise<number> {
  if (test.when === 'file') return openSync(join(client.folder, `bytes-${test.size}`), constants.O_RDONLY);
  const folder = mkdtempSync(join(client.folder, 'pipe-'));
  try {
    const path = join(folder, 'pipe');
    await mustRun(['mkfifo', path]);
    const both = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    const bytes = bytesOf(test.size);
    if (bytes.length > 0 && writeSync(both, bytes) !== bytes.length) throw new Error('the pipe does not take all');
    const reader = openSync(path, constants.O_RDONLY);
    closeSync(both);
    return reader;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Everything that comes in is sent back. */
async function playStdin(client: Client, test: Case): Promise<string[]> {
  const bytes = bytesOf(test.size);
  const check = (stdout: Buffer): string[] => difference('what came back', stdout, bytes);
  if (test.when === 'file' || test.when === 'before') {
    const stdin = await inputOf(client, test);
    const program = client.missesEarlyEnd === true ? ['head', '-c', String(test.size)] : ['cat'];
    const command = new Command(client.argv(test, program, false), { stdin });
    closeSync(stdin);
    return await finish(command, check);
  }
  const command = new Command(client.argv(test, sh(`printf '${READY}' >&2; exec cat`), false), { stdin: 'open' });
  const [first, second] = test.when === 'at' ? halves(bytes) : [Buffer.alloc(0), bytes];
  command.write(first);
  await command.errors(new RegExp(READY));
  command.write(second);
  command.closeStdin();
  return await finish(command, check);
}

/** What a process does to write a file to its stdout: see `When`. */
function printer(test: Case, file: string, ready: string): string[] {
  const half = Math.ceil(test.size / 2);
  if (test.when === 'before') return ['cat', file];
  if (test.when === 'at') return sh(`head -c ${half} ${file}; tail -c +${half + 1} ${file}`);
  return sh(`${ready}; read x; exec cat ${file}`);
}

async function playOutput(client: Client, test: Case): Promise<string[]> {
  const onStderr = test.stream === 'stderr';
  const argv = printer(test, `/data/bytes-${test.size}`, `printf '${READY}' ${onStderr ? '' : '>&2'}`);
  const redirected = onStderr ? sh(`exec >&2; ${argv.map(shellQuote).join(' ')}`) : argv;
  const program = onStderr && test.when === 'after' ? sh(`${argv[2]} >&2`) : redirected;
  const command = new Command(client.argv(test, program, false), { stdin: 'open' });
  if (test.when === 'after') {
    await (onStderr ? command.output(new RegExp(READY)) : command.errors(new RegExp(READY)));
    command.write('go\n');
  }
  command.closeStdin();
  return await finish(command, (stdout, stderr) => {
    const [written, other] = onStderr ? [stderr, stdout] : [stdout, stderr];
    const rest = Buffer.from(test.when === 'after' ? READY : '');
    return [...difference(test.stream, written, bytesOf(test.size)), ...difference('the other one', other, rest)];
  });
}

/**
 * A client at a terminal of its own, which is raw from the beginning: what is typed reaches the
 * container's as it is. The client starts when it is let. ctr makes its terminal raw but for the
 * processing of output. What the client has to say itself, as that a terminal could not be given a
 * size any more, is kept apart.
 */
class Terminal {
  readonly #folder: string;
  readonly #gate: string;
  readonly command: Command;

  private constructor(folder: string, gate: string, argv: readonly string[]) {
    this.#folder = folder;
    this.#gate = gate;
    const line = `stty raw -echo -onlcr; printf '<'; cat ${gate} >/dev/null; exec ${argv.map(shellQuote).join(' ')} 2>${folder}/stderr`;
    this.command = new Command(['script', '-qefc', line, '/dev/null'], { stdin: 'open' });
  }

  static async open(client: Client, argv: readonly string[]): Promise<Terminal> {
    const folder = mkdtempSync(join(client.folder, 'gate-'));
    const gate = join(folder, 'gate');
    await mustRun(['mkfifo', gate]);
    const terminal = new Terminal(folder, gate, argv);
    await terminal.command.output(/</);
    return terminal;
  }

  /** Lets the client start. */
  start(): void {
    writeFileSync(this.#gate, '');
  }

  /**
   * Waits for the end.
   * @returns what is wrong with what was shown, but for the program's word that it runs
   */
  async finish(check: (shown: Buffer) => string[]): Promise<string[]> {
    try {
      const { code, stdout } = await this.command.result();
      const said = readFileSync(join(this.#folder, 'stderr'), 'utf8');
      if (code !== 0) return [`exit status ${code}: ${stdout.slice(-300)}${said.slice(-300)}`];
      return check(withoutReady(this.command.stdoutBytes.subarray(1)));
    } finally {
      rmSync(this.#folder, { recursive: true });
    }
  }
}

/**
 * Takes the program's word that it runs out of what a terminal showed: an echo may come before it.
 */
function withoutReady(shown: Buffer): Buffer {
  const at = shown.indexOf(READY);
  return at < 0 ? shown : Buffer.concat([shown.subarray(0, at), shown.subarray(at + 1)]);
}

/**
 * The program tells what it has read; the terminal echoes it, unless the program has switched that
 * off by then.
 */
async function playTyped(client: Client, test: Case): Promise<string[]> {
  const lines = linesOf(test.size);
  const hasEcho = test.size <= ECHO_LIMIT;
  const program = sh(`${hasEcho ? '' : 'stty -echo; '}printf '${READY}'; exec sha256sum`);
  const terminal = await Terminal.open(client, client.argv(test, program, true));
  const { command } = terminal;
  const [first, second] =
    test.when === 'before' ? [lines, Buffer.alloc(0)] : test.when === 'at' ? halves(lines) : [Buffer.alloc(0), lines];
  command.write(test.when === 'before' ? Buffer.concat([first, Buffer.from(CTRL_D)]) : first);
  terminal.start();
  await command.output(new RegExp(READY));
  if (test.when !== 'before') command.write(Buffer.concat([second, Buffer.from(CTRL_D)]));
  return await terminal.finish((shown) => {
    const read = Buffer.from(`${sha256(lines)}  -\r\n`);
    const echo = shown.subarray(0, Math.max(0, shown.length - read.length));
    const expected = asShown(lines);
    return [
      ...difference('what was read', shown.subarray(echo.length), read),
      // Without echo, some of what is typed before the program says so is shown all the same.
      ...difference('the echo', echo, hasEcho ? expected : expected.subarray(0, echo.length)),
    ];
  });
}

async function playShown(client: Client, test: Case): Promise<string[]> {
  const program = printer(test, `/data/lines-${test.size}`, `stty -echo; printf '${READY}'`);
  const terminal = await Terminal.open(client, client.argv(test, program, true));
  const { command } = terminal;
  terminal.start();
  if (test.when === 'after') {
    await command.output(new RegExp(READY));
    command.write('go\n');
  }
  return await terminal.finish((shown) => difference('what was shown', shown, asShown(linesOf(test.size))));
}

const PLAYS = { stdin: playStdin, stdout: playOutput, stderr: playOutput, typed: playTyped, shown: playShown } as const;

/** Plays a case. @returns what was wrong, in words; nothing if all was right */
export async function play(client: Client, test: Case): Promise<string[]> {
  try {
    return await PLAYS[test.stream](client, test);
  } catch (error) {
    return [error instanceof Error ? error.message.slice(0, 600) : String(error)];
  }
}
