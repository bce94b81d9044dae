/** The `lamina` command: one file per command group. Exit status 0, 1 for an error, 2 for a wrong command line. */
import { constants } from 'node:os';
import { isErrno, LaminaError, messageOf, VERSION } from '../base/index.js';
import { runEngine } from './engine.js';
import { runUninstall } from './uninstall.js';
import { UsageError } from './usage.js';

const HELP = `usage: lamina COMMAND

  lamina engine status     the engines that serve the containers of this node
  lamina engine upgrade    let them hand over to the release that is installed now
  lamina uninstall         remove this installation, once no container needs it
  lamina --version

lamina engine --help and lamina uninstall --help say more.
`;

async function main(args: readonly string[]): Promise<number> {
  const [command, ...rest] = args;
  switch (command) {
    case 'engine':
      return await runEngine(rest);
    case 'uninstall':
      return await runUninstall(rest);
    case '--version':
    case 'version':
      process.stdout.write(`lamina ${VERSION}\n`);
      return 0;
    case '--help':
    case '-h':
    case 'help':
      process.stdout.write(HELP);
      return 0;
    default:
      throw new UsageError(command === undefined ? 'no command' : `unknown command ${command}`, HELP);
  }
}

// `lamina engine status | head -1`: nobody reads on, which is no fault. As if the signal had not been ignored by Node.
process.stdout.on('error', (error) => {
  if (!isErrno(error, 'EPIPE')) throw error;
  process.exit(128 + constants.signals.SIGPIPE);
});

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`lamina: ${messageOf(error)}\n`);
  if (error instanceof UsageError) process.stderr.write(`\n${error.help}`);
  // What is not ours is a fault in this program: show where.
  else if (!(error instanceof LaminaError) && error instanceof Error) process.stderr.write(`${error.stack ?? ''}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
