/**
 * The hard tests, one command: node scripts/hard.mjs [--seconds N] [--only STEP]
 *
 *   build      keeper, addon and fuzzers under AddressSanitizer and UBSan
 *   native     test/native on that keeper
 *   addon      test/unit/sys on that addon
 *   parsers    libFuzzer: whatever in the keeper reads bytes of others (native/keeper/test/fuzz/parsers.c)
 *   machine    libFuzzer: a whole keeper in one process (native/keeper/test/fuzz/keeper.c)
 *   keeper     a real keeper between a mad engine and mad daemons (test/hard/keeper.test.ts)
 *   engine     a mad keeper at the engine's link, and one that has kept wrong bytes (test/hard/engine-*.test.ts)
 *   store      the metadata store killed, or refused a change of a file, at 1,000 points (test/integration/store/crash.test.ts)
 *   hostile    a hostile container beside one whose calls are timed, with both shims (test/hard/hostile); needs root, runc
 *              and the installed tree
 *
 * --seconds is the time of the four fuzzers together (default 60), and of `hostile` with each shim. The build (`npm run build`) must be done; the fuzzers need clang
 * (Debian: clang and libclang-rt-dev). What they learn is kept in build/fuzz/corpus, inputs that fail in build/fuzz/failed: run one with
 * build/fuzz/parsers FILE. Ends with a table; exit status 1 if a step failed, 2 for what it lacks.
 */
import './own-node.mjs';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const repo = fileURLToPath(new URL('..', import.meta.url));
const build = join(repo, 'build');
const keeper = join(build, 'asan/containerd-shim-lamina-v2');
const addon = join(build, 'asan/addon');
const reports = mkdtempSync(join(tmpdir(), 'lamina-hard-'));

function lack(what) {
  console.error(`hard: ${what}`);
  process.exit(2);
}

/** Runs a command with its output shown. @returns its exit status and what it said */
function run(command, args, env = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: repo,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk) => {
        text += chunk;
        if (!isFuzzerChatter) process.stdout.write(chunk);
      });
    }
    const isFuzzerChatter = command.startsWith(join(build, 'fuzz'));
    child.once('error', (error) => resolve({ ok: false, text: error.message }));
    child.once('close', (code) => resolve({ ok: code === 0, text }));
  });
}

/** What sanitizers wrote to files rather than to a terminal, and forgets it. */
function findings() {
  const names = readdirSync(reports);
  const text = names.map((name) => readFileSync(join(reports, name), 'utf8')).join('\n');
  for (const name of names) rmSync(join(reports, name));
  return text;
}

async function buildAll() {
  const clang = ['clang', 'clang-19', 'clang-18', 'clang-17', 'clang-16', 'clang-15', 'clang-14'];
  if (!clang.some((name) => spawnSync(name, ['--version']).status === 0)) {
    lack('clang is missing, for the fuzzers: apt-get install clang libclang-rt-dev (libclang-rt-14-dev on Debian 12)');
  }
  const native = await run('make', ['-s', '-C', 'native', 'keeper', 'asan', 'fuzz']);
  const asan = await run('make', ['-s', '-C', 'native/addon', 'ASAN=1', `BUILD=${addon}`]);
  return { ok: native.ok && asan.ok, what: 'gcc: keeper, addon; clang: two fuzzers' };
}

/** The totals of scripts/test.mjs's table, and whether there are some. */
function totals(text) {
  const sum = [0, 0, 0, 0, 0];
  // files, passed, failed, flaky, skipped
  for (const [, ...numbers] of text.matchAll(/^\S+ +native +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +[\d.]+$/gm)) {
    numbers.forEach((number, i) => {
      sum[i] += Number(number);
    });
  }
  const [, passed, failed, , skipped] = sum;
  return { some: passed > 0, what: `${passed} passed, ${failed} failed, ${skipped} skipped` };
}

async function nativeTests() {
  const { ok, text } = await run('node', ['scripts/test.mjs', 'native'], { LAMINA_KEEPER_BIN: keeper });
  const { some, what } = totals(text);
  return { ok: ok && some, what };
}

async function addonTests() {
  const library = spawnSync('gcc', ['-print-file-name=libasan.so'], { encoding: 'utf8' }).stdout.trim();
  const options = `log_path=${join(reports, 'addon')}:detect_leaks=0`;
  const { ok, text } = await run('node', ['scripts/test.mjs', 'unit', '--only', 'unit/sys/'], {
    LAMINA_ADDON: join(addon, 'lamina.node'),
    LD_PRELOAD: library,
    ASAN_OPTIONS: options,
    UBSAN_OPTIONS: `${options}:print_stacktrace=1`,
  });
  const found = findings();
  if (found !== '') console.log(found);
  const { some, what } = totals(text);
  return { ok: ok && some && found === '', what };
}

/** First inputs for the parsers: the byte that chooses one, then something it understands. */
const SEEDS = [
  [
    0,
    '{"annotations":{"io.kubernetes.cri.sandbox-id":"p\\u00f6d\\ud83d\\ude00"},"linux":{"cgroupsPath":"/a"},"x":[1.5e-3,true,null]}',
  ],
  [0, '{"pid":12,"systemd_cgroup":false}'],
  [1, '\n\x03one\x12\x04test\x18\x04"\x06v2.3.0*\x03/ttJ\x02/s'],
  [2, '\n\x1acontainerd.runc.v1.Options\x12\x022\x00'],
  [3, '-namespace\0test\0--id=one\0-debug\0-bundle\0/b\0delete\0'],
  [4, '/run/containerd/containerd.sock\0test\0../x/./y//z'],
  [5, '36 35 98:0 /mnt1 /mnt2\\040x rw,noatime master:1 - ext3 /dev/root rw'],
  [6, '\x0b\0\n\x01s\x12\x01m\x1a\x01p \x05\n\x01s\x12\x01m\x1a\x01p \x09'],
  [7, 'L\x01B\0\0\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0a\x01\0\0\0b'],
];

function libFuzzer(name, program, share, extra) {
  return async (seconds) => {
    const corpus = join(build, 'fuzz/corpus', program);
    const failed = join(build, 'fuzz/failed');
    for (const folder of [corpus, failed]) mkdirSync(folder, { recursive: true });
    if (program === 'parsers') {
      SEEDS.forEach(([which, text], i) => {
        writeFileSync(join(corpus, `seed-${i}`), Buffer.concat([Buffer.of(which), Buffer.from(text, 'latin1')]));
      });
    }
    const time = Math.max(1, Math.round(seconds * share));
    const { ok, text } = await run(join(build, 'fuzz', program), [
      `-max_total_time=${time}`,
      `-artifact_prefix=${failed}/${name}-`,
      '-timeout=10',
      '-rss_limit_mb=1024',
      '-print_final_stats=1',
      ...extra,
      corpus,
    ]);
    const [, runs = '0'] = /Done (\d+) runs/.exec(text) ?? [];
    const covered = [...text.matchAll(/ cov: (\d+)/g)].at(-1)?.[1] ?? '?';
    if (!ok) console.log(text.slice(-6000));
    return { ok, what: `${runs} inputs, ${covered} edges covered` };
  };
}

async function madEngine(seconds) {
  const { ok, text } = await run('node', ['--test', '--test-reporter=spec', 'dist/test/hard/keeper.test.js'], {
    LAMINA_KEEPER_BIN: keeper,
    LAMINA_FUZZ_SECONDS: String(Math.max(1, Math.round(seconds * 0.25))),
  });
  return { ok, what: /seed \d+: (.*)/.exec(text)?.[1] ?? '' };
}

/** Conversations a second, roughly, with both properties. */
const CONVERSATIONS = 100;

async function madKeeper(seconds) {
  const runs = Math.max(50, Math.round(seconds * 0.15 * CONVERSATIONS));
  const files = ['dist/test/hard/engine-link.test.js', 'dist/test/hard/engine-entries.test.js'];
  const { ok } = await run('node', ['--test', '--test-reporter=spec', ...files], {
    LAMINA_FUZZ_RUNS: String(runs),
  });
  return { ok, what: `2 × ${runs} conversations, 2 × ${runs} replays` };
}

async function hostileContainer(seconds) {
  const { ok, text } = await run('node', ['dist/test/hard/hostile/main.js', '--seconds', String(seconds)]);
  return { ok, what: /^hostile: (.*)$/m.exec(text)?.[1] ?? '' };
}

/** A store killed, or refused a change of a file, at so many points. */
const STORE_FAULTS = 1_000;

async function storeFaults() {
  const file = 'dist/test/integration/store/crash.test.js';
  const runs = { LAMINA_CRASH_RUNS: String(STORE_FAULTS) };
  const { ok } = await run('node', ['--test', '--test-reporter=spec', file], runs);
  return { ok, what: `${STORE_FAULTS} faults` };
}

/** Steps for which nothing has to be built under the sanitizers. */
const PLAIN = new Set(['store', 'hostile']);

const STEPS = {
  build: buildAll,
  native: nativeTests,
  addon: addonTests,
  parsers: libFuzzer('parsers', 'parsers', 0.25, ['-max_len=2048']),
  machine: libFuzzer('machine', 'keeper', 0.35, ['-max_len=4096']),
  keeper: madEngine,
  engine: madKeeper,
  store: storeFaults,
  hostile: hostileContainer,
};

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '60' }, only: { type: 'string' } } });
const seconds = Number(values.seconds);
if (!(seconds > 0)) lack(`--seconds ${values.seconds} is no number of seconds`);
if (values.only !== undefined && STEPS[values.only] === undefined) {
  lack(`unknown step "${values.only}": use ${Object.keys(STEPS).join(', ')}`);
}
if (!existsSync(join(repo, 'dist/test/hard'))) lack('dist/test/hard is missing: npm run build');

const rows = [];
for (const [name, step] of Object.entries(STEPS)) {
  const isNeeded = name === 'build' && !PLAIN.has(values.only);
  if (values.only !== undefined && name !== values.only && !isNeeded) continue;
  console.log(`\n== ${name}`);
  const start = performance.now();
  const { ok, what } = await step(seconds);
  rows.push({ name, ok, what, took: ((performance.now() - start) / 1000).toFixed(1) });
  if (name === 'build' && !ok) break;
}
rmSync(reports, { recursive: true, force: true });

console.log('\nstep      result   seconds  what');
for (const { name, ok, what, took } of rows) {
  console.log(`${name.padEnd(9)} ${(ok ? 'passed' : 'FAILED').padEnd(8)} ${took.padStart(7)}  ${what}`);
}
process.exit(rows.every(({ ok }) => ok) ? 0 : 1);
