import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { LATE_MS, within } from './wait.js';

export interface CommandOptions {
  readonly cwd?: string;
  /** Added to the environment of the tests. */
  readonly env?: Readonly<Record<string, string>>;
  /**
   * Written to stdin, which is then closed; default: nothing. 'open' leaves it to the caller, a
   * descriptor is it.
   */
  readonly stdin?: string | Buffer | 'open' | number;
  /** After this the process is killed and the promise rejects; default `LATE_MS`. */
  readonly timeoutMs?: number;
}

/** How a command ended. `code` is what a shell would show: 128 + n for signal n. */
export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
}

const SIGNALS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGTERM: 15,
};

/** A running command whose output is collected while it runs. */
export class Command {
  readonly child: ChildProcess;
  readonly #argv: readonly string[];
  readonly #ended: Promise<CommandResult>;
  readonly #timeoutMs: number;
  readonly #listeners = new Set<() => void>();
  #stdout: Buffer[] = [];
  #stderr: Buffer[] = [];
  #isOver = false;

  constructor(argv: readonly string[], options: CommandOptions = {}) {
    const [program = '', ...args] = argv;
    this.#argv = argv;
    this.#timeoutMs = options.timeoutMs ?? LATE_MS;
    const { stdin } = options;
    this.child = spawn(program, args, {
      cwd: options.cwd,
      env: { ...process.env, ...options.env },
      stdio: [stdin === undefined ? 'ignore' : typeof stdin === 'number' ? stdin : 'pipe', 'pipe', 'pipe'],
    });
    // A command that ends before it has read its input is no error of ours.
    this.child.stdin?.on('error', () => undefined);
    if (stdin !== undefined && stdin !== 'open') this.child.stdin?.end(stdin);
    this.#collect(this.child.stdout, this.#stdout);
    this.#collect(this.child.stderr, this.#stderr);
    this.#ended = new Promise((resolve, reject) => {
      this.child.once('error', reject);
      this.child.once('close', (code, signal) => {
        this.#isOver = true;
        this.#wake();
        const status = code ?? 128 + (SIGNALS[signal ?? ''] ?? 0);
        resolve({ stdout: this.stdout, stderr: this.stderr, code: status });
      });
    });
    this.#ended.catch(() => undefined);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** All output so far. */
  get stdout(): string {
    return Buffer.concat(this.#stdout).toString('utf8');
  }

  get stderr(): string {
    return Buffer.concat(this.#stderr).toString('utf8');
  }

  get stdoutBytes(): Buffer {
    return Buffer.concat(this.#stdout);
  }

  get stderrBytes(): Buffer {
    return Buffer.concat(this.#stderr);
  }

  #collect(stream: Readable | null, into: Buffer[]): void {
    stream?.on('data', (chunk: Buffer) => {
      into.push(chunk);
      this.#wake();
    });
  }

  #wake(): void {
    for (const listener of this.#listeners) listener();
  }

  /**
   * Resolves with the match as soon as stdout contains it; rejects when the command ends or the
   * deadline passes without.
   */
  async output(pattern: RegExp, deadlineMs = LATE_MS): Promise<RegExpExecArray> {
    return await this.#match(() => this.stdout, pattern, deadlineMs);
  }

  /** As `output`, of stderr. */
  async errors(pattern: RegExp, deadlineMs = LATE_MS): Promise<RegExpExecArray> {
    return await this.#match(() => this.stderr, pattern, deadlineMs);
  }

  async #match(text: () => string, pattern: RegExp, deadlineMs: number): Promise<RegExpExecArray> {
    let listener: (() => void) | undefined;
    try {
      const found = new Promise<RegExpExecArray>((resolve, reject) => {
        listener = () => {
          const match = pattern.exec(text());
          if (match !== null) resolve(match);
          else if (this.#isOver) reject(new Error(`ended without ${pattern}: ${this.describe()}`));
        };
        this.#listeners.add(listener);
        listener();
      });
      return await within(`${pattern} from ${this.#argv.join(' ')}`, deadlineMs, found);
    } catch (error) {
      throw new Error(`${error instanceof Error ? error.message : error}\n${this.describe()}`);
    } finally {
      if (listener !== undefined) this.#listeners.delete(listener);
    }
  }

  write(text: string | Buffer): void {
    this.child.stdin?.write(text);
  }

  closeStdin(): void {
    this.child.stdin?.end();
  }

  kill(signal: NodeJS.Signals = 'SIGKILL'): void {
    this.child.kill(signal);
  }

  /** The result; kills the command and rejects after its time limit. */
  async result(): Promise<CommandResult> {
    try {
      return await within(this.#argv.join(' '), this.#timeoutMs, this.#ended);
    } catch (error) {
      this.kill();
      throw new Error(`${error instanceof Error ? error.message : error}\n${this.describe()}`);
    }
  }

  describe(): string {
    return `$ ${this.#argv.join(' ')}\nstdout: ${this.stdout.slice(-2000)}\nstderr: ${this.stderr.slice(-2000)}`;
  }
}

/** Runs a command to its end. A non-zero exit is a result, not an error. */
export async function runCommand(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  return await new Command(argv, options).result();
}

/** Runs a command that must succeed and returns its stdout. */
export async function mustRun(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
  const result = await runCommand(argv, options);
  if (result.code !== 0) {
    throw new Error(`exit ${result.code}: ${argv.join(' ')}\n${result.stdout}${result.stderr}`);
  }
  return result.stdout;
}

/**
 * A line of shell that waits until ctr has given a terminal its size: a process that ends before
 * makes ctr report that it could not.
 */
export const WAIT_FOR_SIZE = 'until [ "$(stty size 2>/dev/null)" = "24 80" ]; do :; done';

/** Quotes one word for sh. */
export function shellQuote(word: string): string {
  return /^[A-Za-z0-9_./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/**
 * Runs a command at a terminal of its own, by script(1). stdout and stderr both come as stdout,
 * line ends as CR LF; closing stdin types Ctrl-D.
 */
export function runAtTerminal(
  argv: readonly string[],
  options: CommandOptions & { readonly rows?: number; readonly columns?: number } = {},
): Command {
  const line = argv.map(shellQuote).join(' ');
  // ctr leaves output processing on, so without -onlcr the container's CR LF would become CR CR LF.
  const size = `stty -onlcr rows ${options.rows ?? 24} cols ${options.columns ?? 80}`;
  return new Command(['script', '-qefc', `${size}; exec ${line}`, '/dev/null'], { stdin: 'open', ...options });
}
