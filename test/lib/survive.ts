/** Scenarios in which the engine dies: what every one of them checks besides its own business. */
import assert from 'node:assert/strict';
import type { Box } from './box.js';
import type { Scenario, Suite } from './parity.js';
import { disconnects, engineLog, engines } from './processes.js';

/** A scenario for Lamina alone; when it fails, the engine's own log is shown too. */
export function laminaOnly({ scenario }: Suite, defaults: { readonly timeoutMs?: number } = {}) {
  return (title: string, run: Scenario, options: { readonly timeoutMs?: number } = {}): void => {
    const shown: Scenario = async (box) => {
      try {
        return await run(box);
      } catch (error) {
        console.error(`--- engines ${engines(box.daemon).join(', ')}; their log ---\n${engineLog(box.daemon)}---`);
        throw error;
      }
    };
    scenario(title, shown, { ...defaults, ...options, only: 'lamina' });
  };
}

/**
 * The daemon still has the connection it made when the container was created. Call while the
 * container is there.
 */
export function assertConnected(box: Box, id: string): void {
  assert.deepEqual(disconnects(box.daemon, id), [], 'the daemon has lost its connection to the keeper');
}

/** Topics of a container's events, in order, up to its delete; `exit:ID=STATUS` for exits. */
export async function story(box: Box, id: string): Promise<string[]> {
  const events = await box.events.waitFor(
    { namespace: box.namespace, id },
    '/tasks/delete',
    (event) => event.fields['id'] === undefined || event.fields['id'] === id,
  );
  return events.map(({ topic, fields }) => {
    const name = topic.replace('/tasks/', '');
    if (name !== 'exit') return name;
    const who = fields['id'] === id ? 'init' : 'exec';
    return `exit:${who}=${fields['exit_status'] ?? 0}`;
  });
}

/** The whole story of a container that was started and ended with this status. */
export function plainStory(status: number): string[] {
  return ['create', 'start', `exit:init=${status}`, 'delete'];
}
