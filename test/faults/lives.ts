/**
 * Lives of every kind `ctr` can give a container, and what can be seen of each: the same however
 * often the engine dies meanwhile.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Box } from '../lib/box.js';
import { type CommandResult, runAtTerminal, WAIT_FOR_SIZE } from '../lib/command.js';
import { hostProgram } from '../lib/image.js';
import { until } from '../lib/wait.js';

/** Under fire and load; a command that hangs is a difference, a slow one is none. */
const COMMAND_MS = 120_000;
const LINES = 3_000;

/** What one life has shown; without ids and times. */
export interface Seen {
  readonly id: string;
  readonly results: readonly unknown[];
}

type Life = (box: Box, n: number) => Promise<Seen>;

/** Long output by its digest, and what helps to see how another differs. */
function shorten({ stdout, stderr, code }: CommandResult): unknown {
  if (stdout.length < 200) return { stdout, stderr, code };
  const digest = createHash('sha256').update(stdout).digest('hex');
  return { length: stdout.length, digest, begin: stdout.slice(0, 40), end: stdout.slice(-40), stderr, code };
}

const plain: Life = async (box, n) => {
  const script = `echo out ${n}; sleep 0.${n % 10}; echo err ${n} >&2; exit ${n % 256}`;
  const { id, command } = box.spawnRun(['sh', '-c', script], { timeoutMs: COMMAND_MS });
  return { id, results: [shorten(await command.result())] };
};

const talkative: Life = async (box, n) => {
  const script = `probe drip ${LINES}; exit ${n % 256}`;
  const { id, command } = box.spawnRun(['sh', '-c', script], { timeoutMs: COMMAND_MS });
  return { id, results: [shorten(await command.result())] };
};

const fed: Life = async (box, n) => {
  const script = `echo up; cat; exit ${n % 256}`;
  const { id, command } = box.spawnRun(['sh', '-c', script], { timeoutMs: COMMAND_MS });
  for (let piece = 0; piece < 8; piece += 1) {
    command.write(`piece ${piece} `.repeat(2_000));
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
  // ctr forgets to tell of an end of its input that comes before it has created the task.
  await command.output(/^up\n/, COMMAND_MS);
  command.closeStdin();
  return { id, results: [shorten(await command.result())] };
};

const atTerminal: Life = async (box, n) => {
  const script = `${WAIT_FOR_SIZE}; echo ready; read x; echo "[$x]"; exit ${n % 256}`;
  const { id, command } = box.runAtTerminal(['sh', '-c', script], { timeoutMs: COMMAND_MS });
  await command.output(/ready\r\n/, COMMAND_MS);
  command.write('typed\n');
  return { id, results: [shorten(await command.result())] };
};

const logged: Life = async (box, n) => {
  const id = box.id();
  const path = join(box.daemon.dir, 'work', `${id}.logged`);
  const uri = `binary://${hostProgram('iolog')}?file=${path}`;
  const script = `echo out ${n}; sleep 0.${n % 10}; echo err ${n} >&2; exit ${n % 256}`;
  await box.must(box.runArgs(id, ['sh', '-c', script], { flags: ['-d', '--log-uri', uri] }), { timeoutMs: COMMAND_MS });
  const lines = (): string[] =>
    readFileSync(path, 'utf8')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('env:'));
  // The logger is ended with the task.
  await until('both lines are logged', () => lines().length >= 2, { deadlineMs: COMMAND_MS });
  await box.waitForStatus(id, 'STOPPED');
  const removed = await box.ctr(['tasks', 'rm', id], { timeoutMs: COMMAND_MS });
  await box.must(['containers', 'rm', id]);
  return { id, results: [lines().toSorted((a, b) => (a < b ? -1 : 1)), removed.code] };
};

const withExecs: Life = async (box, n) => {
  const id = await box.start(['sleep', '1000'], { timeoutMs: COMMAND_MS });
  const results: unknown[] = [];
  const script = `echo out ${n}; sleep 0.${n % 7}; echo err ${n} >&2; exit 3`;
  results.push(shorten(await box.exec(id, ['sh', '-c', script], { timeoutMs: COMMAND_MS })));
  const input = `line ${n}\n`.repeat(20_000);
  results.push(shorten(await box.exec(id, ['sh', '-c', 'cat; exit 4'], { timeoutMs: COMMAND_MS, stdin: input })));
  const argv = box.execArgs(id, ['sh', '-c', `${WAIT_FOR_SIZE}; echo ready; read x; echo "[$x]"; exit 5`], {
    flags: ['-t'],
  });
  const terminal = runAtTerminal(box.daemon.ctrArgv(box.namespace, argv), { timeoutMs: COMMAND_MS });
  await terminal.output(/ready\r\n/, COMMAND_MS);
  terminal.write('typed\n');
  results.push(shorten(await terminal.result()));
  const removed = await box.ctr(['tasks', 'rm', '-f', id], { timeoutMs: COMMAND_MS });
  results.push(removed.code);
  await box.must(['containers', 'rm', id]);
  return { id, results };
};

const KINDS: Readonly<Record<string, Life>> = { plain, talkative, fed, atTerminal, logged, withExecs };

/**
 * Lives number 0 to `count` - 1, several at a time: what each has shown, or how it failed, under
 * `NUMBER KIND`.
 */
export async function live(box: Box, count: number, atOnce: number): Promise<Map<string, Seen | Error>> {
  const kinds = Object.entries(KINDS);
  const seen = new Map<string, Seen | Error>();
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) {
      const n = next;
      next += 1;
      const [name, life = plain] = kinds[n % kinds.length] ?? [];
      try {
        seen.set(`${n} ${name}`, await life(box, n));
      } catch (error) {
        seen.set(`${n} ${name}`, error instanceof Error ? error : new Error(String(error)));
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return seen;
}

/** Events by container, in order: topic, whose, status. Parsed once, as there are thousands. */
export function stories(box: Box): Map<string, string[]> {
  const stories = new Map<string, string[]>();
  const names = new Map<string, string>();
  for (const { namespace, topic, fields } of box.events.all()) {
    const id = String(fields['container_id'] ?? '');
    if (namespace !== box.namespace || !topic.startsWith('/tasks/')) continue;
    const story = stories.get(id) ?? [];
    stories.set(id, story);
    const who = String(fields['exec_id'] ?? fields['id'] ?? id);
    // The ids of execs differ from run to run, their order does not.
    if (!names.has(who))
      names.set(who, who === id ? 'init' : `exec ${story.filter((line) => line.includes('exec-added')).length}`);
    const status = topic === '/tasks/exit' ? ` ${fields['exit_status'] ?? 0}` : '';
    story.push(`${topic.replace('/tasks/', '')} ${names.get(who)}${status}`);
  }
  return stories;
}
