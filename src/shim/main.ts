/**
 * The engine's entry point: `node engine.mjs` with the listening socket as descriptor 3, `node engine.mjs --dedicated` with the link to its keeper
 * there, or `node engine.mjs --print-runtime` for the native `-info` verb.
 */
import { readFileSync } from 'node:fs';
import { Any } from '../api/index.js';
import { messageOf } from '../base/index.js';
import { DEFAULT_CONFIG, loadConfig } from './config.js';
import { Engine } from './engine.js';
import { decodeOptions } from './options.js';
import { socketPath } from './socket-path.js';

const INHERITED_FD = 3;

async function main(args: readonly string[]): Promise<void> {
  if (args.includes('--print-runtime')) {
    const stdin = readFileSync(0);
    const options = await decodeOptions(stdin.length === 0 ? undefined : Any.decode(stdin), await loadConfig());
    process.stdout.write(options.binaryName);
    return;
  }
  const engine = await createEngine();
  if (args.includes('--dedicated')) engine.serve(INHERITED_FD);
  else engine.listen(INHERITED_FD, socketPath(INHERITED_FD));
}

/** With a broken configuration nobody could tell the user why nothing starts: an engine that says so on every Create can. */
async function createEngine(): Promise<Engine> {
  try {
    return new Engine(await loadConfig());
  } catch (error) {
    process.stderr.write(`engine: ${messageOf(error)}\n`);
    return new Engine(DEFAULT_CONFIG, error);
  }
}

// The keeper keeps what the containers need and starts a successor; going on in an unknown state would be worse.
process.on('uncaughtException', (error) => {
  process.stderr.write(`engine: ${error.stack ?? error.message}\n`);
  process.exit(70);
});
process.on('SIGPIPE', () => undefined);

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`engine: ${messageOf(error)}\n`);
  process.exit(1);
});
