/**
 * Generates the code that is not committed:
 *
 *   proto/containerd/*.proto   -> src/api/gen      messages and service tables (buf + ts-proto, no network)
 *   proto/ttrpc/*.proto        -> src/ttrpc/gen    the envelope of a call
 *   proto/daemon/*.proto       -> src/containerd/gen   containerd's API, for the command and the tests
 *   proto/clients/*.proto      -> test/lib/gen     what clients say to containerd, for tests and the bench
 *   native/common/protocol.h   -> src/sys/gen/protocol.ts
 *
 * Does nothing for outputs that are newer than their inputs and this file. `--force` generates all the same.
 */
import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
// On the same file system as the outputs, and out of the compiler's sight.
const CACHE = join(ROOT, 'node_modules/.cache/lamina-generate');
const FORCE = process.argv.includes('--force');

const TS_PROTO_OPTIONS = [
  'outputServices=generic-definitions',
  // u64 counters and int64 times do not fit a double.
  'forceLong=bigint',
  // A Date has milliseconds; timestamps here have nanoseconds.
  'useDate=false',
  'enumsAsLiterals=true',
  'unrecognizedEnum=false',
  'outputJsonMethods=false',
  'outputPartialMethods=true',
  'outputExtensions=false',
  'useOptionals=none',
  'importSuffix=.js',
  // The full name as a static $type, for packing into Any; messages stay plain.
  'outputTypeAnnotations=static-only',
  // Plain Uint8Array: with env=node every bytes field is copied into a Buffer.
  'env=both',
];

/** All files below a folder, as paths. */
async function filesBelow(folder) {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** True when the stamp exists and no input is newer. */
async function isFresh(stamp, inputs) {
  if (FORCE) return false;
  const written = await stat(stamp).catch(() => undefined);
  if (written === undefined) return false;
  const times = await Promise.all(
    [...inputs, fileURLToPath(import.meta.url)].map(async (file) => (await stat(file)).mtimeMs),
  );
  return times.every((time) => time <= written.mtimeMs);
}

/** Puts `fresh` in the place of `target`; a second generator running at the same time may come between the steps. */
async function replaceFolder(fresh, target) {
  for (let attempt = 1; ; attempt += 1) {
    await rm(target, { recursive: true, force: true });
    try {
      await rename(fresh, target);
      return;
    } catch (error) {
      if (attempt === 10 || (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST')) throw error;
    }
  }
}

/** Generates `proto/<area>` into `out`. The whole folder is replaced in one step, so no stale file survives. */
async function generateProto(area, out) {
  const target = join(ROOT, out);
  const stamp = join(target, '.stamp');
  const protos = await filesBelow(join(ROOT, 'proto', area));
  const lock = join(ROOT, 'package-lock.json');
  if (await isFresh(stamp, [...protos, lock])) return;

  const fresh = join(CACHE, `${area}-${process.pid}`);
  const template = {
    version: 'v2',
    plugins: [
      {
        local: [process.execPath, join(ROOT, 'node_modules/ts-proto/protoc-gen-ts_proto')],
        out: fresh,
        include_imports: true,
        include_wkt: true,
        opt: TS_PROTO_OPTIONS,
      },
    ],
  };
  const buf = join(ROOT, 'node_modules/.bin/buf');
  const args = [
    'generate',
    join(ROOT, 'proto'),
    '--path',
    join(ROOT, 'proto', area),
    '--template',
    JSON.stringify(template),
  ];
  try {
    await mkdir(fresh, { recursive: true });
    await promisify(execFile)(buf, args, { cwd: ROOT });
    await writeFile(join(fresh, '.stamp'), '');
    await replaceFolder(fresh, target);
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
  process.stdout.write(`generated ${out} from proto/${area}\n`);
}

/** Turns `#define LM_NAME number` and `#define LM_NAME "text"` lines into exported constants. */
async function generateProtocol() {
  const source = join(ROOT, 'native/common/protocol.h');
  const out = 'src/sys/gen/protocol.ts';
  const target = join(ROOT, out);
  if (await isFresh(target, [source])) return;

  const constants = [
    ...(await readFile(source, 'utf8')).matchAll(/^#define (LM_[A-Z0-9_]+) +(0[xX][0-9a-fA-F]+|\d+|"[^"\\]*")$/gm),
  ];
  if (constants.length === 0) throw new Error(`no "#define LM_X number" line in ${source}`);
  const lines = constants.map(([, name, value]) => `export const ${name} = ${value.replaceAll('"', "'")};\n`);
  await mkdir(dirname(target), { recursive: true });
  const fresh = `${target}.${process.pid}`;
  await writeFile(
    fresh,
    `// Generated by scripts/generate.mjs from native/common/protocol.h. Do not edit.\n${lines.join('')}`,
  );
  await rename(fresh, target);
  process.stdout.write(`generated ${out} from native/common/protocol.h\n`);
}

try {
  await Promise.all([
    generateProto('containerd', 'src/api/gen'),
    generateProto('ttrpc', 'src/ttrpc/gen'),
    generateProto('daemon', 'src/containerd/gen'),
    generateProto('clients', 'test/lib/gen'),
    generateProtocol(),
  ]);
} catch (error) {
  process.stderr.write(`generate: ${error.stderr || error.message}\n`);
  process.exitCode = 1;
}
