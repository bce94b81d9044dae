/**
 * Imported first by what is run as `node scripts/…`: where that `node` is not the one Lamina brings, the same is run
 * again on that one, with it first in PATH. A machine's own Node then is good for `npm ci` and for nothing else.
 *
 * Where npm has no Node for the machine, or `npm ci` has not run yet, everything goes on as it is.
 */
import { spawn } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { delimiter } from 'node:path';
import { fileURLToPath } from 'node:url';

const FOLDER = fileURLToPath(new URL('../node_modules/.bin', import.meta.url));
const OWN = `${FOLDER}/node`;

if (existsSync(OWN)) {
  const isFirst = process.env.PATH?.split(delimiter)[0] === FOLDER;
  if (!isFirst) process.env.PATH = `${FOLDER}${delimiter}${process.env.PATH ?? ''}`;
  if (realpathSync(OWN) !== realpathSync(process.execPath)) {
    const child = spawn(OWN, [...process.execArgv, ...process.argv.slice(1)], { stdio: 'inherit' });
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => child.kill(signal));
    const status = await new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => resolve(code ?? (signal === 'SIGTERM' ? 143 : 1)));
    });
    process.exit(status);
  }
}
