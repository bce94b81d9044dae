/**
 * The `lamina` command. Exit status 0, 1 for a failure, 2 for a wrong command line. What a command does is
 * loaded when it is run; what it needs of Node, too.
 */
import { writeSync } from 'node:fs';
import { isErrno, LaminaError, messageOf } from '../base/index.js';
import { parseCommandLine } from './command/parse.js';
import { COMMANDS } from './command/tree.js';
import { UsageError } from './usage.js';

const ENDED_BY_SIGPIPE = 128 + 13;

async function main(args: readonly string[]): Promise<number> {
  const parsed = parseCommandLine(COMMANDS, args);
  if ('text' in parsed) {
    say(parsed.text);
    return 0;
  }
  watchOutput();
  const { invocation } = parsed;
  const run = await invocation.spec.load();
  return (await run(invocation, COMMANDS)) ?? 0;
}

/** A failure in the words of who has to do something about it. */
function report(error: unknown): number {
  process.stderr.write(`lamina: ${messageOf(error)}\n`);
  if (error instanceof UsageError) {
    process.stderr.write(`\n${error.help}`);
    return 2;
  }
  // What is not ours is a fault in this program: show where, to those who look for it.
  if (!(error instanceof LaminaError) && !isErrno(error) && error instanceof Error) {
    const isWanted = (process.env['LAMINA_DEBUG'] ?? '') !== '';
    process.stderr.write(
      isWanted ? `${error.stack ?? ''}\n` : 'lamina: set LAMINA_DEBUG=1 to see where this came from\n',
    );
  }
  return 1;
}

/** Without the stream that Node makes of standard output: a third of the start of what only says a text. */
function say(text: string): void {
  const bytes = Buffer.from(text);
  let at = 0;
  try {
    while (at < bytes.length) at += writeSync(1, bytes, at);
  } catch (error) {
    if (isErrno(error, 'EPIPE')) process.exit(ENDED_BY_SIGPIPE);
    // It does not block, and is read slowly.
    if (!isErrno(error, 'EAGAIN')) throw error;
    process.stdout.write(bytes.subarray(at));
  }
}

/** `lamina engine status | head -1`: its reader has enough, which is no fault. As if the signal had not been ignored by Node. */
function watchOutput(): void {
  process.stdout.on('error', (error) => {
    process.exit(isErrno(error, 'EPIPE') ? ENDED_BY_SIGPIPE : report(error));
  });
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode ??= code;
  },
  (error) => {
    process.exitCode = report(error);
  },
);
