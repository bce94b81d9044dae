/**
 * Bundles the engine into one file, build/engine.mjs: it loads faster than sixty, and the installed tree needs no node_modules.
 * Rarely used dependencies stay chunks of their own, loaded when first needed.
 */
import { rmSync } from 'node:fs';
import { build } from 'esbuild';

rmSync('build/lib', { recursive: true, force: true });
await build({
  entryPoints: { engine: 'src/shim/main.ts' },
  outdir: 'build/lib',
  outExtension: { '.js': '.mjs' },
  chunkNames: 'chunk-[name]-[hash]',
  bundle: true,
  splitting: true,
  platform: 'node',
  target: 'node20',
  format: 'esm',
  sourcemap: true,
  logLevel: 'warning',
  // CommonJS packages ask for Node's own modules with require(), which an ES module has not.
  banner: {
    js: "import { createRequire as $createRequire } from 'node:module'; const require = $createRequire(import.meta.url);",
  },
});
