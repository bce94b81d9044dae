/**
 * The process that holds a scope which is made without one: systemd starts no scope without a
 * process and ends it with its last.
 *
 * It waits for the end of its input, so it goes with this process, and the scope with it.
 */
import type { ChildProcess } from 'node:child_process';
import { Code, LaminaError } from '../../base/index.js';

const PROGRAM = 'cat';

export class Placeholder {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;

  private constructor(child: ChildProcess, pid: number) {
    this.#child = child;
    this.pid = pid;
    this.#ended = new Promise((resolve) => {
      child.once('exit', () => resolve());
    });
  }

  /** @throws {LaminaError} Unavailable if the program cannot be started */
  static async start(): Promise<Placeholder> {
    // Not loaded with this file: an engine that only adopts groups starts nothing this way.
    const { spawn } = await import('node:child_process');
    const child = spawn(PROGRAM, { stdio: ['pipe', 'ignore', 'ignore'], env: {}, cwd: '/' });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', () => resolve());
      child.once('error', (cause) => {
        const what = `cannot start "${PROGRAM}", which is to hold the scope until a process joins it: ${cause.message}`;
        reject(new LaminaError(Code.Unavailable, what, { subject: PROGRAM, cause }));
      });
    });
    // It may be killed in its group at any time; nothing is ever written.
    child.stdin.on('error', () => undefined);
    child.unref();
    (child.stdin as unknown as { unref(): void }).unref();
    return new Placeholder(child, child.pid as number);
  }

  /** Ends it, and waits for that. */
  async end(): Promise<void> {
    this.#child.ref();
    this.#child.kill('SIGKILL');
    this.#child.stdin?.destroy();
    await this.#ended;
  }
}
