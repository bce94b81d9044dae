/**
 * Runs what a command line names. What a command does is loaded when it is run; what it needs of
 * Node, too.
 */
import { isErrno } from '../base/index.js';
import { parseCommandLine } from './command/parse.js';
import { COMMANDS } from './command/tree.js';
import { ENDED_BY_SIGPIPE, report, say } from './report.js';

/** @returns the exit status. Failures are reported, and never thrown. */
export async function main(args: readonly string[]): Promise<number> {
  watchOutput();
  try {
    const parsed = parseCommandLine(COMMANDS, args);
    if ('text' in parsed) {
      say(parsed.text);
      return 0;
    }
    const { invocation } = parsed;
    const run = await invocation.spec.load();
    return (await run(invocation, COMMANDS)) ?? 0;
  } catch (error) {
    return report(error);
  }
}

/**
 * `lamina engine status | head -1`: its reader has enough, which is no fault. As if the signal had
 * not been ignored by Node.
 */
function watchOutput(): void {
  process.stdout.on('error', (error) => {
    process.exit(isErrno(error, 'EPIPE') ? ENDED_BY_SIGPIPE : report(error));
  });
}
