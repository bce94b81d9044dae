/**
 * Shows the outcome of test runs: node scripts/summary.mjs [--failed STEP=LOG]... FOLDER...
 *
 * Every tests-*.json in the FOLDERs is what one run of test.mjs has left. Prints one table per place, the slowest files, and for each test
 * that failed or is flaky its name, its file and the beginning of its error. --failed names a step that failed and the file with its output,
 * the end of which is shown. Exit status 1 if a test or a step failed, or if more than MAX_FLAKY_FILES files are flaky.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

/** More files than this, of all places together, that pass only when run once more are a failure. */
export const MAX_FLAKY_FILES = 2;
const SLOWEST = 8;
const LOG_LINES = 25;

const COLUMNS = ['files', 'passed', 'failed', 'flaky', 'skipped', 'seconds'];

function row(suite, place, cells) {
  const numbers = cells.map((cell, i) => String(cell).padStart(COLUMNS[i].length));
  return `${suite.padEnd(30)} ${place.padEnd(11)} ${numbers.join('  ')}`;
}

function sum(files, value) {
  return files.reduce((total, file) => total + value(file), 0);
}

function printSuite(suite, place, files) {
  const counts = [
    files.length,
    sum(files, (file) => file.passed),
    sum(files, (file) => file.failures.length),
    sum(files, (file) => file.flaky.length),
    sum(files, (file) => file.skipped.length),
    (sum(files, (file) => file.ms) / 1000).toFixed(1),
  ];
  console.log(row(suite, place, counts));
  const reasons = new Map();
  for (const reason of files.flatMap((file) => file.skipped)) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  for (const [reason, count] of reasons) console.log(`    skipped ${count}: ${reason}`);
}

function printSlowest(files) {
  const slow = files.toSorted((a, b) => b.ms - a.ms).slice(0, SLOWEST);
  console.log(`slowest: ${slow.map(({ file, ms }) => `${file} ${(ms / 1000).toFixed(1)} s`).join(', ')}`);
}

function printErrors(place, files, kind, title) {
  for (const file of files) {
    for (const { name, error } of file[kind]) {
      console.log(`\n${title} [${place}] ${name}\n  in ${file.file}\n${error.replaceAll(/^/gm, '    ')}`);
    }
  }
}

/** @param runs what runs of test.mjs have left: `{ place, files: { suite, file, passed, skipped, failures, flaky, ms }[] }` */
export function printSummary(runs) {
  for (const place of new Set(runs.map((run) => run.place))) {
    const files = runs.filter((run) => run.place === place).flatMap((run) => run.files);
    console.log(`\n${row('suite', 'place', COLUMNS)}`);
    for (const suite of new Set(files.map((file) => file.suite))) {
      printSuite(
        suite,
        place,
        files.filter((file) => file.suite === suite),
      );
    }
    printSlowest(files);
  }
  for (const { place, files } of runs) printErrors(place, files, 'flaky', 'FLAKY, passed when run once more:');
  for (const { place, files } of runs) printErrors(place, files, 'failures', 'FAILED');
}

function readRuns(folders) {
  return folders
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)))
    .filter((path) => /\/tests-[^/]*\.json$/.test(path))
    .sort()
    .map((path) => JSON.parse(readFileSync(path, 'utf8')));
}

function printStep(step) {
  const [name, log = ''] = step.split('=');
  const lines = existsSync(log) ? readFileSync(log, 'utf8').trimEnd().split('\n') : [];
  console.log(
    `\nFAILED step: ${name}; the end of its output:\n${lines.slice(-LOG_LINES).join('\n').replaceAll(/^/gm, '    ')}`,
  );
}

function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { failed: { type: 'string', multiple: true, default: [] } },
  });
  const runs = readRuns(positionals);
  for (const step of values.failed) printStep(step);
  printSummary(runs);
  const files = runs.flatMap((run) => run.files);
  const flaky = files.filter((file) => file.flaky.length > 0).length;
  const failed = sum(files, (file) => file.failures.length);
  const tooMany = flaky > MAX_FLAKY_FILES ? `; more than ${MAX_FLAKY_FILES} flaky files are a failure` : '';
  console.log(
    `\n${sum(files, (file) => file.passed)} tests passed, ${failed} failed, ${flaky} files flaky${tooMany}; ` +
      `${values.failed.length} steps failed${values.failed.map((step) => `: ${step.split('=')[0]}`).join('')}`,
  );
  return failed > 0 || values.failed.length > 0 || flaky > MAX_FLAKY_FILES ? 1 : 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = main();
