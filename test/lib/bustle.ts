/**
 * Containers, execs and terminals that are all in the middle of something, to find out whether what
 * happens to the engine meanwhile is noticed by any of them: begin, do something to the engine,
 * `finish`. Nothing here depends on how long that takes.
 */
import assert from 'node:assert/strict';
import type { Box } from './box.js';
import { type Command, WAIT_FOR_SIZE } from './command.js';
import { assertConnected, plainStory, story } from './survive.js';

/**
 * Prints until it is stopped, one line after the other, on both streams; then how many there were.
 */
const PRINTER =
  'stop=; trap "stop=1" TERM; i=0; while [ -z "$stop" ]; do echo "line $i"; echo "line $i" >&2; i=$((i+1)); sleep 0.02; done; echo "$i lines"; exit 21';
const ECHO = 'echo up; while read x; do echo "[$x]"; done';

interface Run {
  readonly id: string;
  readonly command: Command;
}

interface Parts {
  readonly printer: Run;
  readonly reader: Run;
  readonly terminal: Run;
  readonly exec: Command;
}

export class Bustle {
  readonly #box: Box;
  readonly #printer: Run;
  readonly #reader: Run;
  readonly #terminal: Run;
  readonly #exec: Command;
  #steps = 0;

  private constructor(box: Box, parts: Parts) {
    this.#box = box;
    this.#printer = parts.printer;
    this.#reader = parts.reader;
    this.#terminal = parts.terminal;
    this.#exec = parts.exec;
  }

  /** Three keepers; everybody has said something when this resolves. */
  static async begin(box: Box): Promise<Bustle> {
    const patient = { timeoutMs: 120_000 };
    const printer = box.spawnRun(['sh', '-c', PRINTER], patient);
    const reader = box.spawnRun(['sh', '-c', `${ECHO}; exit 22`], patient);
    const terminal = box.runAtTerminal(['sh', '-c', `${WAIT_FOR_SIZE}; ${ECHO}; exit 24`], patient);
    await Promise.all([
      printer.command.output(/line 3\n/, 30_000),
      reader.command.output(/up\n/, 30_000),
      terminal.command.output(/up\r\n/, 30_000),
    ]);
    await box.waitForStatus(reader.id, 'RUNNING');
    const exec = box.spawn(box.execArgs(reader.id, ['sh', '-c', `${ECHO}; echo e >&2; exit 23`]), {
      stdin: 'open',
      ...patient,
    });
    await exec.output(/up\n/, 30_000);
    return new Bustle(box, { printer, reader, terminal, exec });
  }

  /** Ids of the containers, each of which has a keeper. */
  get ids(): readonly string[] {
    return [this.#printer.id, this.#reader.id, this.#terminal.id];
  }

  /**
   * Everybody answers, and none has lost the daemon. What is asked of the engine meanwhile is
   * answered too.
   */
  async goesOn(): Promise<void> {
    this.#steps += 1;
    const word = `step${this.#steps}`;
    for (const { command } of [this.#reader, this.#terminal, { command: this.#exec }]) command.write(`${word}\n`);
    const quick = await this.#box.exec(this.#reader.id, ['sh', '-c', `echo ${word}; exit 9`], { timeoutMs: 60_000 });
    assert.deepEqual(quick, { stdout: `${word}\n`, stderr: '', code: 9 });
    await Promise.all([
      this.#reader.command.output(new RegExp(`\\[${word}\\]\n`), 60_000),
      this.#exec.output(new RegExp(`\\[${word}\\]\n`), 60_000),
      this.#terminal.command.output(new RegExp(`\\[${word}\\]\r\n`), 60_000),
    ]);
    for (const id of this.ids) assertConnected(this.#box, id);
  }

  /** Ends all, and checks every byte, status and event. */
  async finish(): Promise<void> {
    await this.goesOn();
    const steps = Array.from({ length: this.#steps }, (_, n) => `[step${n + 1}]\n`).join('');
    this.#exec.closeStdin();
    assert.deepEqual(await this.#exec.result(), { stdout: `up\n${steps}`, stderr: 'e\n', code: 23 });
    this.#reader.command.closeStdin();
    assert.deepEqual(await this.#reader.command.result(), { stdout: `up\n${steps}`, stderr: '', code: 22 });
    this.#terminal.command.write('\x04');
    assert.equal((await this.#terminal.command.result()).code, 24);
    // Not by an exec: one whose container ends before it was deleted leaves its FIFOs, with ctr.
    await this.#box.must(['tasks', 'kill', '--signal', 'SIGTERM', this.#printer.id]);
    const printed = await this.#printer.command.result();
    const count = printed.stderr.split('\n').length - 1;
    const lines = Array.from({ length: count }, (_, n) => `line ${n}\n`).join('');
    assert.deepEqual(printed, { stdout: `${lines}${count} lines\n`, stderr: lines, code: 21 });
    await this.#checkEvents();
  }

  async #checkEvents(): Promise<void> {
    const inits = async (id: string): Promise<string[]> =>
      (await story(this.#box, id)).filter((word) => !word.includes('exec'));
    assert.deepEqual(await inits(this.#printer.id), plainStory(21));
    assert.deepEqual(await inits(this.#reader.id), plainStory(22));
    assert.deepEqual(await inits(this.#terminal.id), plainStory(24));
    const exits = (await story(this.#box, this.#reader.id)).filter((word) => word.startsWith('exit:exec'));
    const expected = [...Array.from({ length: this.#steps }, () => 'exit:exec=9'), 'exit:exec=23'];
    assert.deepEqual(exits, expected);
  }
}
