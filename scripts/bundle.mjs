/**
 * Bundles the engine: build/lib/engine.js is all of it, so that the installed tree needs no node_modules, and engine.cjs is what node runs:
 * it loads the other with compiled code (src/shim/boot.ts). Rarely used dependencies are in the bundle too, but not run before they are needed.
 * lamina.cjs is the command: it reads the command line, and lamina-run.cjs does what that says. Scripts too, in which what a command does, and
 * what that needs of node, is run when the command is.
 *
 * What node runs first is no ES module: node's loader for those, and the whole modules it makes of node's own, cost a third of the engine's start.
 */
import { readFileSync, rmSync } from 'node:fs';
import { build } from 'esbuild';
import { writeLicences } from './licences.mjs';

rmSync('build/lib', { recursive: true, force: true });
const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
const versionDefine = { LAMINA_VERSION: JSON.stringify(version) };
const common = {
  outdir: 'build/lib',
  bundle: true,
  platform: 'node',
  target: 'node24',
  sourcemap: true,
  metafile: true,
  logLevel: 'warning',
};

/** `performance` is eight modules of Node's. What is compared with each other can as well be this. */
const NOW = 'const $now = () => { const [s, ns] = process.hrtime(); return s * 1e3 + ns / 1e6; };';

const boot = await build({
  ...common,
  entryPoints: { engine: 'src/shim/boot.ts' },
  outExtension: { '.js': '.cjs' },
  format: 'cjs',
  banner: { js: 'const $url = require("node:url").pathToFileURL(__filename).href;' },
  define: { 'import.meta.url': '$url' },
});
const engine = await build({
  ...common,
  entryPoints: { engine: 'src/shim/main.ts' },
  format: 'cjs',
  // One expression: a function that boot.ts calls with what a module would find around it.
  banner: { js: `(function (require, $url) { const module = {}; ${NOW}` },
  footer: { js: 'return module.exports; })' },
  define: { ...versionDefine, 'import.meta.url': '$url', 'performance.now': '$now' },
  // Reading the text is a third of what the engine's start takes beyond Node's own. Names, and so stack traces, stay.
  minifyWhitespace: true,
  lineLimit: 200,
  // A script has no import(); require() of a part of the bundle is as lazy.
  supported: { 'dynamic-import': false },
});
/** commander has it for commands that are programs of their own; here it is for those that start one. */
const LATE_CHILD_PROCESS = `{ const now = require; require = (name) => name !== "node:child_process" ? now(name) :
  new Proxy({}, { get: (_, key) => Reflect.get(now(name), key) }); }`;
const script = {
  ...common,
  outExtension: { '.js': '.cjs' },
  format: 'cjs',
  banner: { js: `${LATE_CHILD_PROCESS} const $url = "file://" + encodeURI(__filename);` },
  define: { ...versionDefine, 'import.meta.url': '$url' },
  minifyWhitespace: true,
  lineLimit: 200,
};
const command = await build({
  ...script,
  entryPoints: { lamina: 'src/cli/boot.ts' },
  // What the commands load is in the other one.
  external: ['./lamina-run.cjs', '../run/*', '../engine.js', '../uninstall.js', './completion.js'],
});
const commands = await build({ ...script, entryPoints: { 'lamina-run': 'src/cli/main.ts' } });
writeLicences([boot, engine, command, commands].map(({ metafile }) => metafile));
