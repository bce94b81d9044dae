// Makes docs/cgroups-conformance.md of what the conformance test left in build/vm: node test/vm/conformance-table.mjs [FILE.json...]
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const REPOSITORY = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const TARGET = join(REPOSITORY, 'docs/cgroups-conformance.md');
const PLACES = ['uml-forky', 'qemu-forky', 'host'];

const HOW = `node test/vm/run.mjs --bare -- node scripts/test.mjs vm-guest --only guest/conformance
    LAMINA_TEST_CONFORMANCE=rare node test/vm/run.mjs --machine qemu --bare -- node scripts/test.mjs vm-guest --only guest/conformance
    node test/vm/conformance-table.mjs`;

/** What a row shows of a group: only what differs from a group without limits. */
function settings(values) {
  const entries = Object.entries(values);
  return entries.length === 0 ? 'as without limits' : entries.map(([key, value]) => `${key} = ${value}`).join('<br>');
}

function verdict(row) {
  const { lamina, runc } = row.errors;
  const both = lamina !== undefined && runc !== undefined ? 'same: refused' : 'same';
  if (row.differences.length === 0) return both;
  const reasons = new Map();
  for (const { key, moment, reason, lamina: ours, runc: theirs } of row.differences) {
    const when = { set: '', reload: ' after daemon-reload', undone: ' undone by daemon-reload' }[moment];
    const text = reason ?? '**not explained**';
    reasons.set(text, [...(reasons.get(text) ?? []), `${key}${when}: ${ours ?? 'none'} / ${theirs ?? 'none'}`]);
  }
  return [...reasons].map(([reason, where]) => `differs (ours / runc's): ${where.join('; ')}. ${reason}.`).join('<br>');
}

function cell(text) {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}

function line(row) {
  const asked = `${row.step === 0 ? 'create' : 'update'} ${'`'}${JSON.stringify(row.asked)}${'`'}`;
  const ours = settings(row.lamina);
  const theirs = settings(row.runc);
  const columns = [row.name, row.driver, asked, ours, ours === theirs ? 'the same' : theirs, verdict(row)];
  return `| ${columns.map(cell).join(' | ')} |`;
}

/** By case, in the order they were listed in; then by driver and step. */
function sorted(rows) {
  const names = [...new Set(rows.map((row) => row.name))];
  const key = (row) => [names.indexOf(row.name), row.driver === 'fs' ? 0 : 1, row.step];
  const compare = (a, b) => a.map((part, index) => part - b[index]).find((difference) => difference !== 0) ?? 0;
  return rows.toSorted((a, b) => compare(key(a), key(b)));
}

function section({ place, kernel, systemd, runc, rows }) {
  const differing = rows.filter((row) => row.differences.length > 0).length;
  const unexplained = rows.filter((row) => row.differences.some(({ reason }) => reason === undefined)).length;
  return `## ${place}: Linux ${kernel}, systemd ${systemd}, runc ${runc}

${rows.length} steps: ${rows.length - differing} the same, ${differing} with differences, ${unexplained} of them not explained.

| case | driver | asked | ours | runc's | |
|---|---|---|---|---|---|
${sorted(rows).map(line).join('\n')}
`;
}

const named = process.argv.slice(2);
const files = named.length > 0 ? named : PLACES.map((place) => join(REPOSITORY, 'build/vm', place, 'conformance.json'));
const found = files.filter((file) => existsSync(file));
if (found.length === 0) {
  console.error(`conformance-table: none of ${files.join(', ')}: run the test first:\n    ${HOW}`);
  process.exit(1);
}
const text = `# Conformance of the cgroup manager

Made by a test on a real kernel and systemd; do not edit. Every field of OCI \`linux.resources\` is set through \`Cgroup.create\` and \`set\`, and
through \`runc run\` and \`runc update\`, with both drivers. Then every file of both groups that can carry a setting, every property of both units that
limits, and, where devices are the matter, what a process in the group may open, are read and compared, before and after \`systemctl
daemon-reload\`. Shown is what differs from a group without limits. A difference that is not listed with its reason in
\`test/vm/guest/conformance/expected.ts\` fails the test, and so does one that is listed and does not occur.

    ${HOW}

${found.map((file) => section(JSON.parse(readFileSync(file, 'utf8')))).join('\n')}`;
writeFileSync(TARGET, text);
console.log(`conformance-table: wrote ${relative(process.cwd(), TARGET)} from ${found.length} places`);
