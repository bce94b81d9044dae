/** A store of a test's own, and the installed `lamina` over it. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, type CommandOptions, type CommandResult, mustRun, runCommand } from './command.js';
import { LAMINA_BIN } from './repo.js';

export const LAMINA = join(LAMINA_BIN, 'lamina');

export class OwnStore implements Disposable {
  readonly root: string;
  /** For files of the test, beside the store. */
  readonly dir: string;
  readonly #env: Readonly<Record<string, string>>;

  /** @param parent where it is made; default: the temporary folder */
  constructor(parent: string = tmpdir()) {
    this.dir = mkdtempSync(join(parent, 'lamina-store-'));
    this.root = join(this.dir, 'root');
    this.#env = { LAMINA_ROOT: this.root, LAMINA_NAMESPACE: '' };
  }

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true, force: true });
  }

  #options(options: CommandOptions): CommandOptions {
    return { ...options, env: { ...this.#env, ...options.env } };
  }

  async run(args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    return await runCommand([LAMINA, ...args], this.#options(options));
  }

  spawn(args: readonly string[], options: CommandOptions = {}): Command {
    return new Command([LAMINA, ...args], this.#options(options));
  }

  /** Its output. Fails when the command does. */
  async must(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    return await mustRun([LAMINA, ...args], this.#options(options));
  }

  /** A line of shell in which `lamina` is the command. Fails when the shell does. */
  async shell(line: string, options: CommandOptions = {}): Promise<string> {
    const script = `set -e; lamina() { '${LAMINA}' "$@"; }; cd '${this.dir}'; ${line}`;
    return await mustRun(['bash', '-c', script], this.#options(options));
  }

  async json<T>(args: readonly string[]): Promise<T> {
    return JSON.parse(await this.must([...args, '--json'])) as T;
  }

  /** Expects a failure with one line that fits. */
  async fails(args: readonly string[], code: number, pattern: RegExp, options: CommandOptions = {}): Promise<void> {
    const result = await this.run(args, options);
    assert.equal(result.code, code, `${args.join(' ')}: ${result.stdout}${result.stderr}`);
    assert.match(result.stderr, pattern);
    assert.doesNotMatch(result.stderr, /\n {4}at /, 'a stack trace');
  }

  /** Takes a text in as a blob. @returns its digest */
  async ingest(text: string | Buffer, ...args: string[]): Promise<string> {
    return (await this.must(['content', 'ingest', ...args], { stdin: text })).trim();
  }
}
