/** `lamina engine`: the engines of this node. */
import type { Invocation } from './command/spec.js';
import { libraryDir } from './installation.js';
import { printLine } from './output/print.js';
import { checkedStateDir } from './state-dir.js';
import { exitStatusOf, linesOf, reportOf } from './status.js';
import { survey } from './survey.js';
import { upgrade } from './upgrade.js';
import { usageError } from './usage.js';

/** @returns the exit status @throws UsageError, LaminaError */
export async function runStatus(invocation: Invocation): Promise<number> {
  const timeoutMs = secondsOf(invocation, 5);
  const library = libraryDir();
  const report = await reportOf(await survey({ stateDir: checkedStateDir(), library, timeoutMs }), library);
  if (invocation.flag('json')) printLine(JSON.stringify(report));
  else for (const line of linesOf(report)) printLine(line);
  return exitStatusOf(report);
}

/** @throws UsageError, LaminaError */
export async function runUpgrade(invocation: Invocation): Promise<undefined> {
  await upgrade({
    timeoutMs: secondsOf(invocation, 30),
    library: libraryDir(),
    stateDir: checkedStateDir(),
    release: invocation.text('to'),
    force: invocation.flag('force'),
    dryRun: invocation.flag('dry-run'),
    say: printLine,
  });
}

/** --timeout in milliseconds. @throws UsageError */
export function secondsOf(invocation: Invocation, standard: number): number {
  const text = invocation.text('timeout');
  const value = text === undefined ? standard : Number(text);
  if (!(value > 0) || value > 3600)
    throw usageError(invocation, `--timeout is ${text}, expected seconds, more than 0 and at most 3600`);
  return Math.round(value * 1000);
}
