/**
 * Runs test suites on the built JavaScript: node scripts/test.mjs KIND... [--only TEXT]... [--name REGEXP]
 *
 *   unit         dist/test/unit/**            needs nothing
 *   native       dist/test/native/**          needs the native part; one file at a time
 *   integration  dist/test/integration/**     needs root, runc and containerd; one file at a time
 *   faults       dist/test/faults/**          the engine killed at many points; as integration
 *   vm-guest     dist/test/{vm/guest,integration/{cgroups,cri,oci}}/**   inside the test VM, where nothing else runs
 *
 * --only keeps the files whose path contains one of the TEXTs, --name the tests whose name matches. Files are listed here and passed one by one
 * because Node 20 knows no globs and, given a folder, would run helper files too. Each file is a process of its own. Ends with a table per
 * suite: where it ran, what passed, failed and was skipped, and why. Exit status 1 if a test failed or if there was none.
 */
import { setMaxListeners } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const KINDS = {
  unit: { folders: ['unit'], concurrency: true, timeoutMs: 120_000 },
  native: { folders: ['native'], concurrency: 1, timeoutMs: 300_000 },
  integration: { folders: ['integration'], concurrency: 1, timeoutMs: 900_000 },
  faults: { folders: ['faults'], concurrency: 1, timeoutMs: 900_000 },
  'vm-guest': {
    folders: ['vm/guest', 'integration/cgroups', 'integration/cri', 'integration/oci'],
    concurrency: 1,
    timeoutMs: 1_800_000,
  },
};

const repo = fileURLToPath(new URL('..', import.meta.url));
const dist = join(repo, 'dist/test');

function fail(message) {
  console.error(`test: ${message}`);
  process.exit(2);
}

function listFiles(folder, only) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true })
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => join(folder, name))
    .filter((name) => only === undefined || only.some((text) => name.includes(text)))
    .sort();
}

/** The suite a file belongs to: its folder, `integration/shim`. */
function suiteOf(file) {
  return relative(dist, file).split('/').slice(0, -1).join('/');
}

/**
 * Runs the files of one suite and resolves to its row of the table. Suites run one after the other: an event's own `file` is where the
 * test was declared, which may be a helper, so it does not tell the suite.
 */
async function runSuite(suite, files, options, name) {
  const row = { suite, files: files.length, passed: 0, failed: 0, skipped: 0, reasons: new Map() };
  const stream = run({
    files,
    concurrency: options.concurrency,
    timeout: options.timeoutMs,
    signal: stop.signal,
    ...(name === undefined ? {} : { testNamePatterns: [new RegExp(name)] }),
  });
  const record = (event, ok) => {
    // A skipped group has no tests of its own in the stream, so it counts as one; other groups are the sum of their tests.
    if (event.skip !== undefined) {
      const reason = typeof event.skip === 'string' && event.skip !== '' ? event.skip : 'no reason given';
      // --name makes Node report what it left out as skipped, which tells nobody anything.
      if (name !== undefined && reason.startsWith('test name does not match')) return;
      row.skipped += 1;
      row.reasons.set(reason, (row.reasons.get(reason) ?? 0) + 1);
    } else if (event.details?.type === 'suite' && ok) return;
    else if (event.details?.type === 'suite' && event.details.error?.failureType === 'subtestsFailed') return;
    else if (files.includes(event.name) && event.details?.error?.failureType === 'subtestsFailed') return;
    else if (files.includes(event.name) && ok) return;
    else row[ok ? 'passed' : 'failed'] += 1;
  };
  stream.on('test:pass', (event) => record(event, true));
  stream.on('test:fail', (event) => record(event, false));
  await new Promise((resolve, reject) => {
    stream.once('error', reject);
    const text = stream.compose(new spec());
    text.once('error', reject);
    text.once('end', resolve);
    text.pipe(process.stdout, { end: false });
  });
  return row;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { only: { type: 'string', multiple: true }, name: { type: 'string' } },
});
if (positionals.length === 0) fail(`say what to run: ${Object.keys(KINDS).join(', ')}`);
for (const kind of positionals) {
  if (KINDS[kind] === undefined) fail(`unknown kind "${kind}": use ${Object.keys(KINDS).join(', ')}`);
}

const stop = new AbortController();
// each test file listens
setMaxListeners(0, stop.signal);
for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => stop.abort());

const place = process.env.LAMINA_TEST_PLACE ?? (positionals.includes('vm-guest') ? 'vm' : 'native');
process.env.LAMINA_TEST_PLACE = place;
const table = [];
for (const kind of positionals) {
  const options = KINDS[kind];
  const files = options.folders.flatMap((folder) => listFiles(join(dist, folder), values.only));
  if (files.length === 0) {
    if (values.only === undefined) console.error(`test: no files for "${kind}" under dist/test: is the build done?`);
    continue;
  }
  for (const suite of new Set(files.map(suiteOf))) {
    const own = files.filter((file) => suiteOf(file) === suite);
    table.push(await runSuite(suite, own, options, values.name));
  }
}

console.log('\nsuite                          place    files  passed  failed  skipped');
for (const row of table) {
  const numbers = [row.files, row.passed, row.failed, row.skipped]
    .map((n, i) => String(n).padStart([5, 6, 6, 7][i]))
    .join('  ');
  console.log(`${row.suite.padEnd(30)} ${place.padEnd(8)} ${numbers}`);
  for (const [reason, count] of row.reasons) console.log(`    skipped ${count}: ${reason}`);
}
const failed = table.reduce((sum, row) => sum + row.failed, 0);
const total = table.reduce((sum, row) => sum + row.passed + row.skipped, failed);
if (total === 0) console.error('test: nothing was run');
process.exit(failed > 0 || total === 0 ? 1 : 0);
