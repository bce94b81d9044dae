/** Runs one test file in a process of its own, shows what it reports, and counts. */
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { inspect } from 'node:util';

const ERROR_LINES = 25;

/** The file's own totals, which would be of one file each. */
const TOTALS = /^\S*ℹ (tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) /;

function describeError(error) {
  // What the test threw; the rest is the runner's.
  const text = inspect(error?.cause ?? error, { colors: false });
  return text.split('\n').slice(0, ERROR_LINES).join('\n');
}

/** What has passed, was skipped (with reasons) and failed, from the runner's events. */
class Count {
  passed = 0;
  skipped = [];
  failures = [];
  #file;
  #name;
  #path = [];

  constructor(file, name) {
    this.#file = file;
    this.#name = name;
  }

  start(event) {
    this.#path.length = event.nesting;
    this.#path.push(event.name);
  }

  record(event, ok) {
    const isSuite = event.details?.type === 'suite';
    const error = event.details?.error;
    // A skipped group has no tests of its own in the stream, so it counts as one; other groups, and the file, are the sum of their tests.
    if (event.skip !== undefined) {
      const reason = typeof event.skip === 'string' && event.skip !== '' ? event.skip : 'no reason given';
      // A name to look for makes Node report what it left out as skipped, which tells nobody anything.
      if (this.#name === undefined || !reason.startsWith('test name does not match')) this.skipped.push(reason);
    } else if ((isSuite || event.name === this.#file) && (ok || error?.failureType === 'subtestsFailed')) return;
    else if (ok) this.passed += 1;
    else this.failures.push({ name: this.#nameOf(event), error: describeError(error) });
  }

  #nameOf(event) {
    if (event.name === this.#file) return '(the file)';
    return [...this.#path.slice(0, event.nesting), event.name].join(' > ');
  }
}

/** Writes the reporter's text without the totals: at once if nothing else is shown meanwhile, else when the file has ended. */
async function show(text, isAlone) {
  let kept = '';
  let rest = '';
  for await (const chunk of text) {
    const lines = `${rest}${chunk}`.split('\n');
    rest = lines.pop() ?? '';
    const shown = lines.filter((line) => !TOTALS.test(line)).map((line) => `${line}\n`);
    if (isAlone) process.stdout.write(shown.join(''));
    else kept += shown.join('');
  }
  process.stdout.write(`${kept}${rest}`);
}

/**
 * @param file path of the built test file
 * @param options.timeoutMs bound for the whole file
 * @param options.name      regular expression for the names of the tests to run, or undefined
 * @param options.signal    ends it
 * @param options.isAlone   nothing else is shown meanwhile
 * @returns {Promise<{ passed: number, skipped: string[], failures: { name: string, error: string }[], ms: number }>}
 */
export async function runFile(file, { timeoutMs, name, signal, isAlone }) {
  const began = performance.now();
  const stream = run({
    files: [file],
    timeout: timeoutMs,
    signal,
    ...(name === undefined ? {} : { testNamePatterns: [new RegExp(name)] }),
  });
  const count = new Count(file, name);
  stream.on('test:start', (event) => count.start(event));
  stream.on('test:pass', (event) => count.record(event, true));
  stream.on('test:fail', (event) => count.record(event, false));
  await show(stream.compose(new spec()), isAlone);
  const { passed, skipped, failures } = count;
  return { passed, skipped, failures, ms: Math.round(performance.now() - began) };
}
