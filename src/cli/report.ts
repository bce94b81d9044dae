/** What goes out without a command: texts and failures. */
import { writeSync } from 'node:fs';
import { isErrno, LaminaError, messageOf } from '../base/index.js';
import { UsageError } from './usage.js';

export const ENDED_BY_SIGPIPE = 128 + 13;

/**
 * A failure in the words of those who have to do something about it.
 * @returns the exit status
 */
export function report(error: unknown): number {
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

/**
 * Without the stream that Node makes of standard output: a third of the start of what only says a
 * text.
 */
export function say(text: string): void {
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
