/**
 * The examples of docs/cli.md, typed into one shell in their order; and every command line that a
 * help shows is one.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parseCommandLine } from '../../../src/cli/command/parse.js';
import { COMMANDS } from '../../../src/cli/command/tree.js';
import { mustRun } from '../../lib/command.js';
import { OwnStore } from '../../lib/own-store.js';
import { REPO } from '../../lib/repo.js';

interface Example {
  readonly line: string;
  readonly output: string;
}

function examples(markdown: string): Example[] {
  const blocks = [...markdown.matchAll(/```console\n(.*?)```/gs)].map(([, text = '']) => text);
  return blocks.flatMap((block) =>
    block
      .split(/^\$ /m)
      .slice(1)
      .map((part) => {
        const end = part.indexOf('\n');
        return { line: part.slice(0, end), output: part.slice(end + 1) };
      }),
  );
}

/** Without what differs each time, and without alignment. */
function normal(text: string): string {
  return text
    .replace(/\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z/g, 'TIME')
    .replace(/^plan [0-9a-f]{12}:/gm, 'plan ID:')
    .replace(/^\d+ +TIME +\d+ +\d+ /gm, 'NUMBER TIME USER PROCESS ')
    .replace(/^\d+ +TIME/gm, 'NUMBER TIME')
    .replace(/[ \t]+/g, ' ')
    .replace(/ $/gm, '')
    .trim();
}

describe('docs/cli.md', () => {
  it('shows what happens', async () => {
    const found = examples(readFileSync(join(REPO, 'docs/cli.md'), 'utf8'));
    assert.ok(found.length >= 15, `${found.length} examples`);
    using store = new OwnStore();
    const mark = '---- next ----';
    const script = found.map(({ line }) => `${line}\necho '\n${mark}'`).join('\n');
    const outputs = (await store.shell(`set -o pipefail\n${script}`)).split(mark);
    for (const [at, { line, output }] of found.entries()) {
      assert.equal(normal(outputs[at] ?? ''), normal(output), line);
    }
  });

  it('names every command that prints JSON', () => {
    const table = readFileSync(join(REPO, 'docs/cli.md'), 'utf8').split('## JSON')[1] ?? '';
    for (const { words, shared } of COMMANDS) {
      if (!shared.includes('json') || words === 'engine status') continue;
      const last = words.split(' ').at(-1);
      assert.ok(table.includes(`\`${words}\``) || table.includes(`\`${last}\``), words);
    }
  });
});

describe('the examples of the help', () => {
  for (const spec of COMMANDS) {
    for (const [line] of spec.examples) {
      it(`are command lines: ${line}`, async () => {
        // A real shell takes it apart, with a lamina that only says its arguments.
        const script = `lamina() { printf '%s\\0' "$@" >&9; }; lease=L; ${line}`;
        const output = await mustRun([
          'bash',
          '-c',
          `exec 9>&1; { ${script.replaceAll(/ > \S+/g, ' > /dev/null')}\n} < /dev/null > /dev/null 2>&1 || true`,
        ]);
        const parsed = parseCommandLine(COMMANDS, output.split('\0').slice(0, -1));
        assert.ok('invocation' in parsed);
        assert.equal(parsed.invocation.spec.words, spec.words);
      });
    }
  }
});
