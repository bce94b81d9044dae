/** `lamina engine`: the engines of this node. */
import { parseArgs } from 'node:util';
import { messageOf } from '../base/index.js';
import { libraryDir } from './installation.js';
import { checkedStateDir } from './state-dir.js';
import { exitStatusOf, linesOf, reportOf } from './status.js';
import { survey } from './survey.js';
import { upgrade } from './upgrade.js';
import { UsageError } from './usage.js';

const HELP = `usage: lamina engine status [--json] [--timeout SECONDS]
       lamina engine upgrade [--to RELEASE] [--force] [--dry-run] [--timeout SECONDS]

status     lists the engines, what they serve, the build of each keeper, and the releases that are installed. Exit status 1 if a keeper is not
           served, or the configuration cannot be used.
upgrade    starts the installed engine for a trial, then lets the running ones hand over to it, one at first, and waits until every keeper is
           served again. Containers, their output, and calls under way go on. If the trial fails, nothing is changed.

  --to RELEASE       make this release (a folder of lib/lamina/releases) the installed one, also to go back
  --force            also replace engines that run the installed release, to let them read a changed configuration
  --dry-run          only the trial
  --timeout SECONDS  how long a keeper may take to answer (status: 5) or to be served again (upgrade: 30)
  --json             as JSON

Only keepers and engines of one state directory are seen: LAMINA_STATE_DIR, else /run/lamina. Run it as the user that they run as, usually root,
in the same namespaces. The trial has this command's PATH, LAMINA_NODE and LAMINA_CONFIG; a running engine's LAMINA_CONFIG goes before.
`;

const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        help: { type: 'boolean', short: 'h' },
        json: { type: 'boolean' },
        to: { type: 'string' },
        force: { type: 'boolean' },
        'dry-run': { type: 'boolean' },
        timeout: { type: 'string' },
      },
    });
  } catch (error) {
    throw new UsageError(messageOf(error), HELP);
  }
}

/** Runs a subcommand. @returns the exit status @throws UsageError, LaminaError */
export async function runEngine(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args);
  const [command, ...rest] = positionals;
  if (values.help === true) {
    process.stdout.write(HELP);
    return 0;
  }
  if (rest.length > 0) throw new UsageError(`too many arguments: ${rest.join(' ')}`, HELP);
  if (command === 'status') return await status(seconds(values.timeout, 5), values.json === true);
  if (command !== 'upgrade') throw new UsageError(`unknown command engine ${command ?? ''}`.trimEnd(), HELP);
  await upgrade({
    library: libraryDir(),
    stateDir: checkedStateDir(),
    timeoutMs: seconds(values.timeout, 30),
    release: values.to,
    force: values.force === true,
    dryRun: values['dry-run'] === true,
    say: print,
  });
  return 0;
}

/** A number of seconds as milliseconds. */
function seconds(text: string | undefined, standard: number): number {
  const value = text === undefined ? standard : Number(text);
  if (!(value > 0) || value > 3600)
    throw new UsageError(`--timeout is ${text}, expected seconds, more than 0 and at most 3600`, HELP);
  return Math.round(value * 1000);
}

async function status(timeoutMs: number, asJson: boolean): Promise<number> {
  const library = libraryDir();
  const report = await reportOf(await survey({ stateDir: checkedStateDir(), library, timeoutMs }), library);
  if (asJson) print(JSON.stringify(report));
  else for (const line of linesOf(report)) print(line);
  return exitStatusOf(report);
}
