/**
 * What `node engine.mjs` runs: loads engine.js beside it, with the code V8 has compiled for it when it was installed. Compiling it anew takes
 * longer than everything else between the start of the engine and the first container.
 *
 * `node engine.mjs --make-cache` writes that file, engine.cache. V8 refuses one that another version or other flags have made; the engine then
 * compiles as if there were none. V8 does not compare contents: whoever replaces engine.js must remove or remake the cache.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Script } from 'node:vm';

/** engine.js: main.ts and all it needs, as the one expression `scripts/bundle.mjs` makes. */
type EngineScript = (require: NodeJS.Require, url: string) => typeof import('./main.js');

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
const cachedData = isMakingCache ? undefined : readCache();
const script = new Script(readFileSync(scriptPath, 'utf8'), {
  filename: scriptPath,
  ...(cachedData === undefined ? {} : { cachedData }),
});
const engine = (script.runInThisContext() as EngineScript)(createRequire(import.meta.url), import.meta.url);
// After it has run: what ran is compiled, and in the cache.
if (isMakingCache) writeFileSync(cachePath, script.createCachedData());
else engine.run(process.argv.slice(2));
