/** The matrix as tests: one for each start and stream, which names every case that went wrong. */
import assert from 'node:assert/strict';
import { type Case, nameOf } from './cases.js';
import { type Client, play } from './player.js';

/** Plays cases so many at a time; fails with all that were wrong. */
export async function playAll(client: Client, cases: readonly Case[], atOnce: number): Promise<void> {
  assert.ok(cases.length > 0);
  const left = [...cases];
  const wrong: string[] = [];
  const worker = async (): Promise<void> => {
    for (let test = left.shift(); test !== undefined; test = left.shift()) {
      const what = await play(client, test);
      if (what.length > 0) wrong.push(`${nameOf(test)}: ${what.join('; ')}`);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  assert.ok(wrong.length === 0, `${wrong.length} of ${cases.length} cases:\n${wrong.join('\n')}`);
}
