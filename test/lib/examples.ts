/** The JavaScript of a page of docs/, run as a user of the package would have it. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCommand } from './command.js';
import { REPO } from './repo.js';

type Texts = Readonly<Record<string, string>>;

export interface Example {
  /** What it stands under. */
  readonly heading: string;
  readonly code: string;
}

/** @param page `docs/gc.md` @throws AssertionError for a page without any */
export function findExamples(page: string): Example[] {
  const sections = readFileSync(join(REPO, page), 'utf8').split(/^#+ /m);
  const examples = sections.flatMap((section) =>
    [...section.matchAll(/```js\n(.*?)```/gs)].map(([, code = '']) => ({
      heading: section.split('\n')[0] ?? '',
      code,
    })),
  );
  assert.notEqual(examples.length, 0, `${page} has no examples`);
  return examples;
}

/**
 * Runs an example as a module, whose imports of the package resolve from the repository, and
 * asserts that it prints what its comments say (`// prints …`) and nothing else.
 * @param replaced what stands in the page, by what is to be run in its place
 */
export async function checkExample(
  { code }: Example,
  { env = {}, replaced = {} }: { readonly env?: Texts; readonly replaced?: Texts } = {},
): Promise<void> {
  const expected = [...code.matchAll(/\/\/ prints (.*)$/gm)].map(([, text]) => `${text}\n`).join('');
  const own = Object.entries(replaced).reduce((text, [from, to]) => text.replaceAll(from, to), code);
  const argv = [process.execPath, '--input-type=module', '-e', own];
  const { code: status, stdout, stderr } = await runCommand(argv, { cwd: REPO, env });
  assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: expected, stderr: '' });
}
