/**
 * A flame graph of a V8 CPU profile: node scripts/flame-graph.mjs FILE.cpuprofile [--under FUNCTION] [--first MS] > graph.svg
 *
 * Width is wall-clock time, idle time left out. --under shows only what functions of that name were doing, --first only the first milliseconds.
 * How to get a profile of the engine is in docs/performance.md.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

const WIDTH = 1200;
const ROW = 17;
const MARGIN = 10;
const TITLE_HEIGHT = 26;
/** Narrower frames are left out, pixels. */
const LEAST_WIDTH = 0.6;
const CHARACTER_WIDTH = 6.6;
const LEFT_OUT = new Set(['(idle)']);

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { under: { type: 'string' }, first: { type: 'string', default: 'Infinity' } },
});
const [file] = positionals;
const firstMs = Number(values.first);
if (file === undefined || Number.isNaN(firstMs)) {
  process.stderr.write('usage: node scripts/flame-graph.mjs FILE.cpuprofile [--under FUNCTION] [--first MS]\n');
  process.exit(2);
}

/** A function with all that it called: name → µs, callees. */
const makeFrame = (name) => ({ name, time: 0, callees: new Map() });

function nameOf({ functionName, url, lineNumber }) {
  const name = functionName === '' ? '(anonymous)' : functionName;
  const base = url.split('/').at(-1) ?? '';
  return base === '' ? name : `${name} ${base}:${lineNumber + 1}`;
}

/** Adds `time` to a stack of names, outermost first. */
function add(root, stack, time) {
  let frame = root;
  frame.time += time;
  for (const name of stack) {
    if (!frame.callees.has(name)) frame.callees.set(name, makeFrame(name));
    frame = frame.callees.get(name);
    frame.time += time;
  }
}

/** The merged stacks of all samples. */
function readProfile(path, { under, endMs }) {
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(path, 'utf8'));
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const callers = new Map(nodes.flatMap((node) => (node.children ?? []).map((child) => [child, node.id])));
  const root = makeFrame(under ?? 'all');
  let elapsed = 0;
  for (const [index, id] of samples.entries()) {
    elapsed += timeDeltas[index];
    if (elapsed > endMs * 1000) break;
    const stack = [];
    for (let at = id; at !== undefined; at = callers.get(at)) stack.unshift(byId.get(at).callFrame);
    if (stack.some(({ functionName }) => LEFT_OUT.has(functionName))) continue;
    const from = under === undefined ? 0 : stack.findIndex(({ functionName }) => functionName === under);
    if (from >= 0) add(root, stack.slice(from + 1).map(nameOf), timeDeltas[index]);
  }
  return root;
}

const escapeXml = (text) => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
const depthOf = (frame) => 1 + Math.max(0, ...[...frame.callees.values()].map(depthOf));
/** Warm colours, the same for the same name. */
function colourOf(name) {
  let hash = 0;
  for (const character of name) hash = (hash * 31 + character.charCodeAt(0)) % 997;
  return `hsl(${10 + (hash % 45)} 85% ${62 + (hash % 14)}%)`;
}

function draw(frame, x, row, scale, lines) {
  const width = frame.time * scale;
  if (width < LEAST_WIDTH) return;
  const y = TITLE_HEIGHT + row * ROW;
  const label = frame.name.slice(0, Math.max(0, Math.floor((width - 4) / CHARACTER_WIDTH)));
  const title = escapeXml(`${frame.name}: ${(frame.time / 1000).toFixed(2)} ms`);
  lines.push(
    `<g><title>${title}</title><rect x="${x.toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="${ROW - 1}" fill="${colourOf(frame.name)}"/>`,
    `${label.length > 2 ? `<text x="${(x + 3).toFixed(1)}" y="${y + 12}">${escapeXml(label)}</text>` : ''}</g>`,
  );
  let at = x;
  for (const callee of [...frame.callees.values()].sort((a, b) => b.time - a.time)) {
    draw(callee, at, row + 1, scale, lines);
    at += callee.time * scale;
  }
}

const root = readProfile(file, { under: values.under, endMs: firstMs });
if (root.time === 0) {
  process.stderr.write(`${file}: nothing ran${values.under === undefined ? '' : ` under ${values.under}`}\n`);
  process.exit(1);
}
const lines = [];
draw(root, MARGIN, 0, (WIDTH - 2 * MARGIN) / root.time, lines);
const height = TITLE_HEIGHT + depthOf(root) * ROW + MARGIN;
process.stdout.write(
  [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="monospace" font-size="11">`,
    `<title>Flame graph of ${escapeXml(root.name)}</title>`,
    `<rect width="100%" height="100%" fill="white"/><text x="${MARGIN}" y="17" font-size="13">${escapeXml(root.name)}: ${(root.time / 1000).toFixed(1)} ms of work</text>`,
    ...lines,
    '</svg>\n',
  ].join('\n'),
);
