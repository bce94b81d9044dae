/**
 * The engine's entry point, called by boot.ts: `node engine.cjs` with the listening socket as
 * descriptor 3, `node engine.cjs --dedicated` with the link to its keeper there,
 * `node engine.cjs --print-runtime` for the native `-info` verb, or `node engine.cjs --check`
 * (check.ts).
 */
import { readFileSync } from 'node:fs';
import { Any } from '../api/index.js';
import { messageOf } from '../base/index.js';
import { Boundary } from './boundary.js';
import { check } from './check.js';
import { ConfigFile, loadConfig } from './config.js';
import { Engine } from './engine.js';
import { decodeOptions } from './options.js';
import { socketPath } from './socket-path.js';

export { check };

const INHERITED_FD = 3;

async function main(args: readonly string[]): Promise<void> {
  if (args.includes('--print-runtime')) {
    const stdin = readFileSync(0);
    const options = await decodeOptions(stdin.length === 0 ? undefined : Any.decode(stdin), await loadConfig());
    process.stdout.write(options.binaryName);
    return;
  }
  if (args.includes('--check')) {
    process.stdout.write(`${JSON.stringify(await check())}\n`);
    process.exit(0);
  }
  const config = await ConfigFile.open();
  if (config.error !== undefined) process.stderr.write(`engine: ${messageOf(config.error)}\n`);
  const engine = new Engine(config);
  // From `lamina engine upgrade`. A signal and no message: it reaches engines without keepers too,
  // which have no link, and those of any version.
  process.on('SIGHUP', () => engine.handOver());
  if (args.includes('--dedicated')) engine.serve(INHERITED_FD);
  else engine.listen(INHERITED_FD, socketPath(INHERITED_FD));
}

/** Runs the engine until its process ends. @param args of the command line */
export function run(args: readonly string[]): void {
  // What is no keeper's own: the keepers keep what the containers need and start a successor; going
  // on in an unknown state would be worse.
  process.on('uncaughtException', (error) => {
    if (Boundary.claim(error)) return;
    process.stderr.write(`engine: ${error.stack ?? error.message}\n`);
    process.exit(70);
  });
  process.on('SIGPIPE', () => undefined);
  // Instead of Node's own handler, which opens the inspector: for keepers of before
  // --disable-sigusr1, and for another Node.
  process.on('SIGUSR1', () => undefined);
  main(args).catch((error: unknown) => {
    process.stderr.write(`engine: ${messageOf(error)}\n`);
    process.exit(1);
  });
}
