import { spawn } from 'node:child_process';
import { LATE_MS, until, within } from '../../lib/wait.js';

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/**
 * A shell that waits for `go` before its first command, so that it can be put into a group first.
 */
export interface Shell extends AsyncDisposable {
  readonly pid: number;
  readonly exit: Promise<Exit>;
  /** What it has printed so far. */
  readonly output: string;
  /** Lets it begin. */
  go(): void;
  /** Resolves when it has printed the word. */
  printed(word: string): Promise<void>;
}

export interface ShellOptions {
  /** Run as this user and group. */
  readonly uid?: number;
  /** More environment variables. */
  readonly env?: Readonly<Record<string, string>>;
  /** What becomes of its complaints; by default they are the test's own. */
  readonly stderr?: 'inherit' | 'ignore';
}

/** Starts one. Disposing it kills it and waits for its end. */
export async function startShell(script: string, { uid, env, stderr = 'inherit' }: ShellOptions = {}): Promise<Shell> {
  const child = spawn('sh', ['-c', `read start; ${script}`], {
    stdio: ['pipe', 'pipe', stderr],
    cwd: '/',
    env: { ...process.env, ...env },
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
  const exit = new Promise<Exit>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal }));
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString('latin1');
  });
  child.stdin.on('error', () => undefined);
  await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject));
  return {
    pid: child.pid as number,
    get exit() {
      const ended = within(`exit of ${script}`, LATE_MS, exit);
      // who is not interested need not wait for it
      ended.catch(() => undefined);
      return ended;
    },
    get output() {
      return output;
    },
    go: () => void child.stdin.write('go\n'),
    printed: async (word) => void (await until(`"${word}" from ${script}`, () => output.includes(word))),
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await exit;
      child.stdin.destroy();
      child.stdout.destroy();
    },
  };
}
