/**
 * The `lamina` command. Exit status 0, 1 for a failure, 2 for a wrong command line.
 *
 * Reads the command line, and answers by itself what needs no command: help, the version, how it is
 * used. Else lamina-run.cjs beside it, which holds all commands, is loaded and reads it again:
 * several times as much to compile, which a help does not wait for.
 */
import { parseCommandLine } from './command/parse.js';
import { COMMANDS } from './command/tree.js';
import { report, say } from './report.js';

/** What is run is a script (scripts/bundle.mjs), which has one. */
declare const require: (name: string) => unknown;

function begin(args: readonly string[]): void {
  const parsed = parseCommandLine(COMMANDS, args);
  if ('text' in parsed) {
    say(parsed.text);
    return;
  }
  const { main } = require('./lamina-run.cjs') as typeof import('./main.js');
  void main(args).then((code) => {
    process.exitCode ??= code;
  });
}

try {
  begin(process.argv.slice(2));
} catch (error) {
  process.exitCode = report(error);
}
