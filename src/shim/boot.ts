/**
 * What `node engine.cjs` runs: loads engine.js beside it, with the code V8 has compiled for it when
 * it was installed. Compiling it anew takes longer than everything else between the start of the
 * engine and the first container.
 *
 * `node engine.cjs --make-cache` writes that file, engine.cache. V8 refuses one that another
 * version or other flags have made; the engine then compiles as if there were none. V8 does not
 * compare contents: whoever replaces engine.js must remove or remake the cache.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Script } from 'node:vm';
import { LM_ENGINE_OPTIONS } from '../sys/index.js';

/**
 * Parts of node that take milliseconds to load and that most containers never need: loaded when
 * something of them is first used. Only for what is imported by name or as default: `import *` and
 * `import()` copy what is there, which is nothing then.
 */
const LATE: ReadonlySet<string> = new Set([
  ...['node:crypto', 'node:net', 'node:os', 'node:timers/promises', 'node:tty'],
]);

/** engine.js: main.ts and all it needs, as the one expression `scripts/bundle.mjs` makes. */
type EngineScript = (require: (name: string) => unknown, url: string) => typeof import('./main.js');

/** What is run is a script (scripts/bundle.mjs), which has one. */
declare const require: (name: string) => unknown;
const requireNow = require;
const requireLate = (name: string): unknown =>
  LATE.has(name) ? new Proxy({}, { get: (_, key) => Reflect.get(requireNow(name) as object, key) }) : requireNow(name);

const scriptPath = fileURLToPath(new URL('engine.js', import.meta.url));
const cachePath = fileURLToPath(new URL('engine.cache', import.meta.url));

function readCache(): Buffer | undefined {
  try {
    return readFileSync(cachePath);
  } catch {
    // Not installed with one, or not readable: it only makes the start faster.
    return undefined;
  }
}

const isMakingCache = process.argv[2] === '--make-cache';
const options = LM_ENGINE_OPTIONS.split(' ');
if (isMakingCache && !options.every((option) => process.execArgv.includes(option))) {
  // As keepers start it: V8 takes only what was made under the same options.
  const { spawnSync } = requireNow('node:child_process') as typeof import('node:child_process');
  const args = [...options, ...process.argv.slice(1, 3)];
  process.exit(spawnSync(process.execPath, args, { stdio: 'inherit' }).status ?? 1);
}
const cachedData = isMakingCache ? undefined : readCache();
// One byte per character, so that nothing has to be decoded: the bundler writes ASCII.
const script = new Script(readFileSync(scriptPath, 'latin1'), {
  filename: scriptPath,
  ...(cachedData === undefined ? {} : { cachedData }),
});
const engine = (script.runInThisContext() as EngineScript)(requireLate, import.meta.url);
if (isMakingCache) void makeCache();
else engine.run(process.argv.slice(2));

/**
 * What has run is compiled, and in the cache: for that the engine is started once, as far as it
 * goes without a keeper.
 */
async function makeCache(): Promise<void> {
  // A configuration that cannot be used makes the cache smaller, no more.
  await engine.check().catch(() => undefined);
  writeFileSync(cachePath, script.createCachedData());
  process.exit(0);
}
