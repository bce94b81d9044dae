/**
 * Runs test suites on the built JavaScript: node scripts/test.mjs KIND... [--only TEXT]... [--except TEXT]... [--name REGEXP] [--again]
 *
 *   unit         dist/test/unit/**            needs nothing
 *   native       dist/test/native/**          needs the native part; one file at a time
 *   integration  dist/test/integration/**     needs root, runc and containerd; two files at a time, as most of them wait most of the time
 *   faults       dist/test/faults/**          the engine killed at many points; as integration
 *   vm-guest     dist/test/{vm/guest,integration/{cgroups,cri,oci}}/**   inside the test VM, where nothing else runs
 *
 * --only keeps the files whose path contains one of the TEXTs, --except leaves such files out, --name keeps the tests whose name matches. Files
 * are listed here and passed one by one, as a file that has failed is run once more alone. Each file is a process of its own. Ends with what summary.mjs prints, and leaves the same in $LAMINA_TEST_RESULTS as JSON. Exit status 1 if a test failed or if there
 * was none.
 *
 * --again runs a file of integration or vm-guest that has failed once more, alone, after all others. If it passes then, what failed counts as
 * flaky, and is named; more than MAX_FLAKY_FILES such files are a failure.
 */
import './own-node.mjs';
import { setMaxListeners } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { MAX_FLAKY_FILES, printSummary } from './summary.mjs';
import { runFile } from './test-file.mjs';

const KINDS = {
  unit: { folders: ['unit'], concurrency: availableParallelism(), timeoutMs: 600_000 },
  native: { folders: ['native'], concurrency: 1, timeoutMs: 900_000 },
  integration: { folders: ['integration'], concurrency: 2, timeoutMs: 1_800_000, mayFlake: true },
  faults: { folders: ['faults'], concurrency: 1, timeoutMs: 1_800_000 },
  'vm-guest': {
    folders: ['vm/guest', 'integration/cgroups', 'integration/cri', 'integration/oci'],
    concurrency: 1,
    timeoutMs: 1_800_000,
    mayFlake: true,
  },
};

const dist = fileURLToPath(new URL('../dist/test', import.meta.url));
const built = fileURLToPath(new URL('../build', import.meta.url));
/** What is tested is what is installed: by file of the release, where the build has it. */
const PARTS = {
  'engine.js': 'lib/engine.js',
  'lamina.cjs': 'lib/lamina.cjs',
  'lamina-run.cjs': 'lib/lamina-run.cjs',
  'lamina.node': 'lamina.node',
  'lamina-worker': 'lamina-worker',
  'containerd-shim-lamina-v2': 'containerd-shim-lamina-v2',
};

function fail(message) {
  console.error(`test: ${message}`);
  process.exit(2);
}

function parse() {
  const { values, positionals: kinds } = parseArgs({
    allowPositionals: true,
    options: {
      only: { type: 'string', multiple: true },
      except: { type: 'string', multiple: true, default: [] },
      name: { type: 'string' },
      again: { type: 'boolean', default: false },
    },
  });
  if (kinds.length === 0) fail(`say what to run: ${Object.keys(KINDS).join(', ')}`);
  for (const kind of kinds) {
    if (KINDS[kind] === undefined) fail(`unknown kind "${kind}": use ${Object.keys(KINDS).join(', ')}`);
  }
  return { ...values, kinds };
}

/** An installed tree that is older than the build would be tested in its place. */
function refuseOldInstallation() {
  const link = join(built, 'install/lib/lamina/engine.cjs');
  if (process.env.LAMINA_BIN !== undefined || !existsSync(link)) return;
  const release = dirname(realpathSync(link));
  const isSame = (part) => {
    const made = readFileSync(join(built, PARTS[part]));
    // The installed keeper names its library behind what was built.
    return existsSync(join(release, part)) && readFileSync(join(release, part)).subarray(0, made.length).equals(made);
  };
  const old = Object.keys(PARTS).filter((part) => !isSame(part));
  if (old.length > 0) fail(`${release} is not what was built (${old.join(', ')}): run scripts/install build/install`);
}

function listFiles(folder, { only, except }) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true })
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => join(folder, name))
    .filter((name) => only === undefined || only.some((text) => relative(dist, name).includes(text)))
    .filter((name) => !except.some((text) => relative(dist, name).includes(text)))
    .sort();
}

/** The suite a file belongs to: its folder, `integration/shim`. */
function suiteOf(file) {
  return relative(dist, file).split('/').slice(0, -1).join('/');
}

/** Calls `work` for every item, so many at a time. */
async function forEach(items, concurrency, work) {
  const left = [...items];
  const worker = async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
}

async function runKind(kind, options, results) {
  const files = kind.folders.flatMap((folder) => listFiles(join(dist, folder), options));
  const settings = { timeoutMs: kind.timeoutMs, name: options.name, signal: stop.signal };
  const note = (file, result, flaky) =>
    results.push({ ...result, file: relative(dist, file), suite: suiteOf(file), flaky });
  const failed = [];
  await forEach(files, kind.concurrency, async (file) => {
    const result = await runFile(file, { ...settings, isAlone: kind.concurrency === 1 });
    if (result.failures.length > 0 && options.again && kind.mayFlake) failed.push([file, result]);
    else note(file, result, []);
  });
  for (const [file, first] of failed) {
    let second;
    if (!stop.signal.aborted) {
      console.log(`test: ${relative(dist, file)} has failed and is run once more`);
      second = await runFile(file, { ...settings, isAlone: true });
    }
    if (second?.failures.length === 0) note(file, second, first.failures);
    else note(file, first, []);
  }
  return files.length;
}

/** For the summary of several runs in several places; the name is one that no other run takes. */
function leaveResults(results) {
  const folder = process.env.LAMINA_TEST_RESULTS;
  if (folder === undefined) return;
  mkdirSync(folder, { recursive: true });
  const name = `tests-${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 8)}.json`;
  writeFileSync(join(folder, name), JSON.stringify(results));
}

const options = parse();
const stop = new AbortController();
// each test file listens
setMaxListeners(0, stop.signal);
for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => stop.abort());

const place = process.env.LAMINA_TEST_PLACE ?? (options.kinds.includes('vm-guest') ? 'vm' : 'native');
process.env.LAMINA_TEST_PLACE = place;
if (place === 'native' && options.kinds.some((kind) => !['unit', 'native'].includes(kind))) refuseOldInstallation();
const results = { place, files: [] };
for (const kind of options.kinds) {
  const count = await runKind(KINDS[kind], options, results.files);
  if (count === 0 && options.only === undefined) {
    console.error(`test: no files for "${kind}" under dist/test: is the build done?`);
  }
}
leaveResults(results);
printSummary([results]);

const total = results.files.reduce(
  (sum, { passed, failures, skipped }) => sum + passed + failures.length + skipped.length,
  0,
);
if (total === 0) console.error('test: nothing was run');
const flakyFiles = results.files.filter((file) => file.flaky.length > 0).length;
const isFailed = results.files.some((file) => file.failures.length > 0) || flakyFiles > MAX_FLAKY_FILES;
process.exit(isFailed || total === 0 ? 1 : 0);
