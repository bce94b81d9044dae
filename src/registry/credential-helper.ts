/** Docker's credential helpers (docker/docker-credential-helpers): programs that know passwords. */
import { spawn } from 'node:child_process';
import { createDeferred } from '../base/index.js';
import type { Credentials } from './credentials.js';
import { cleanText, RegistryError } from './errors.js';

const TIME_LIMIT_MS = 30_000;
const MAX_OUTPUT = 64 * 1024;
/** The output of a helper that has nothing for a server. */
const NOTHING = /credentials not found|no credentials server URL|no credentials username/i;

/** True for what may follow `docker-credential-`: never a path, never an option. */
export function isHelperName(name: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/.test(name);
}

export interface HelperOptions {
  readonly timeLimitMs?: number;
  readonly env?: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal;
}

/** Runs `docker-credential-NAME get` without a shell. Its process group ends with it. */
async function run(name: string, input: string, options: HelperOptions): Promise<{ code: number | null; out: string }> {
  const program = `docker-credential-${name}`;
  const failed = (why: string, cause?: unknown): RegistryError =>
    new RegistryError('credentials', `${program}: ${why}`, { subject: program, cause });
  const { promise, resolve, reject } = createDeferred<{ code: number | null; out: string }>();
  const child = spawn(program, ['get'], {
    stdio: ['pipe', 'pipe', 'ignore'],
    detached: true,
    env: options.env ?? process.env,
  });
  const end = (error: RegistryError): void => {
    reject(error);
    // Not reaped yet, so the group is still its own.
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It has just ended.
      }
    }
    child.stdout.destroy();
  };
  const limitMs = options.timeLimitMs ?? TIME_LIMIT_MS;
  const timer = setTimeout(() => end(failed(`no answer within ${limitMs} ms`)), limitMs);
  const onAbort = (): void => end(new RegistryError('aborted', 'given up', { cause: options.signal?.reason }));
  options.signal?.addEventListener('abort', onAbort, { once: true });
  const chunks: Buffer[] = [];
  let size = 0;
  child.stdout.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size > MAX_OUTPUT) end(failed(`more than ${MAX_OUTPUT} bytes of output`));
    else chunks.push(chunk);
  });
  child.stdin.on('error', () => undefined);
  child.stdin.end(`${input}\n`);
  child.once('error', (cause) => end(failed(cause.message, cause)));
  child.once('close', (code) => resolve({ code, out: Buffer.concat(chunks).toString('utf8') }));
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener('abort', onAbort);
  }
}

/**
 * Asks a helper.
 * @param name without `docker-credential-`
 * @param server what Docker stores the credentials under
 * @returns undefined when it has none
 * @throws RegistryError `credentials` when it cannot be run, fails, or answers with something else
 */
export async function askHelper(
  name: string,
  server: string,
  options: HelperOptions = {},
): Promise<Credentials | undefined> {
  const program = `docker-credential-${name}`;
  const failed = (why: string): RegistryError =>
    new RegistryError('credentials', `${program}: ${why}`, { subject: program });
  if (!isHelperName(name)) {
    throw new RegistryError('credentials', `"${cleanText(name, 80)}" is no name of a credential helper`);
  }
  if (/[\r\n\0]/.test(server)) throw failed('a server cannot have line breaks');
  const { code, out } = await run(name, server, options);
  if (code !== 0) {
    if (NOTHING.test(out)) return undefined;
    throw failed(`ended with ${code ?? 'a signal'}: ${cleanText(out)}`);
  }
  let answer: unknown;
  try {
    answer = JSON.parse(out);
  } catch {
    throw failed('the answer is no JSON');
  }
  const { Username: username, Secret: secret } = (answer ?? {}) as Record<string, unknown>;
  if (typeof username !== 'string' || typeof secret !== 'string') throw failed('the answer has no Username and Secret');
  if (username === '<token>') return { kind: 'identity', token: secret };
  return username === '' && secret === '' ? undefined : { kind: 'password', username, password: secret };
}
