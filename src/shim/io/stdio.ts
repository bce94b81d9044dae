/**
 * What a Create or Exec request says about a process's streams, and how the URI of stdout is read
 * (research: shim.md 5.4).
 */
import { Code, LaminaError } from '../../base/index.js';

/** The four stream fields of a request. Paths or URIs; empty for none. */
export interface StdioRequest {
  readonly stdin: string;
  readonly stdout: string;
  readonly stderr: string;
  readonly terminal: boolean;
}

/** How the streams are carried; only the scheme of stdout decides. */
export type StdioPlan =
  | { readonly kind: 'null' }
  | { readonly kind: 'fifo'; readonly stdin: string; readonly stdout: string; readonly stderr: string }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'logger'; readonly program: string; readonly args: readonly string[]; readonly strict: boolean };

const URI = /^([a-z][a-z0-9+.-]*):\/\/(.*)$/i;

/** @throws LaminaError with the stock text for a scheme nobody knows */
export function planStdio(request: StdioRequest): StdioPlan {
  const { stdin, stdout, stderr } = request;
  if (stdin === '' && stdout === '' && stderr === '') return { kind: 'null' };
  const [, scheme = '', rest = ''] = URI.exec(stdout) ?? [];
  switch (scheme) {
    case '':
    case 'fifo':
      return { kind: 'fifo', stdin: fifoPath(stdin), stdout: fifoPath(stdout), stderr: fifoPath(stderr) };
    case 'file':
      return { kind: 'file', path: decodeURIComponent(new URL(stdout).pathname) };
    case 'binary':
    case 'binary-v2':
      return { kind: 'logger', ...parseLogger(rest), strict: scheme === 'binary-v2' };
    default:
      throw new LaminaError(Code.Unknown, `unknown STDIO scheme ${scheme}`, { subject: stdout });
  }
}

function fifoPath(text: string): string {
  return text.startsWith('fifo://') ? text.slice('fifo://'.length) : text;
}

/**
 * `/path/to/logger?key=value`: the arguments are key and first value of each, in the order of the
 * URI.
 */
function parseLogger(rest: string): { program: string; args: string[] } {
  const at = rest.indexOf('?');
  const program = decodeURIComponent(at < 0 ? rest : rest.slice(0, at));
  const query = new URLSearchParams(at < 0 ? '' : rest.slice(at + 1));
  const seen = new Set<string>();
  const args: string[] = [];
  for (const [key, value] of query) {
    if (seen.has(key)) continue;
    seen.add(key);
    args.push(key, value);
  }
  return { program, args };
}
