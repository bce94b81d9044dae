/** `lamina gc run` */
import { collect, summary } from '../../collect/index.js';
import type { Store } from '../../store/index.js';
import type { Invocation } from '../command/spec.js';
import { jsonOf, note, printJson, printLine, printTable } from '../output/print.js';
import { formatBytes } from '../output/units.js';
import { actorOf, daemonOf, openStore } from './context.js';

/** @returns 1 when something could not be removed */
export async function runCollect(invocation: Invocation): Promise<number> {
  using connection = await daemonOf(invocation);
  if (connection !== undefined) {
    const { collectDaemon, planDaemon } = await import('./daemon.js');
    const removed = await collectDaemon(connection, await planDaemon(connection));
    const bytes = removed.reduce((sum, { unique }) => sum + unique, 0);
    if (invocation.flag('json')) printJson({ removed: removed.map(({ resource }) => jsonOf(resource)), bytes });
    else printLine(`${removed.length} removed, ${formatBytes(bytes)}`);
    return 0;
  }
  using store = await openStore(invocation, { readOnly: false });
  const result = await collect(store, { by: actorOf(invocation) });
  const { types, failures, freedBytes, trash } = result;
  for (const { subject, message } of failures) note(`${subject}: ${message}`);
  if (invocation.flag('verbose')) note(summary(result));
  if (invocation.flag('json')) printJson({ types, failures, freedBytes, trash });
  else {
    const columns = ['TYPE', 'KEPT', 'REMOVED', 'FAILED', 'SIZE'].map((title) => ({
      title,
      isRight: title !== 'TYPE',
    }));
    const rows = Object.entries(types).map(([type, { kept, removed, failed, bytes }]) => [
      type,
      ...[kept, removed, failed].map(String),
      formatBytes(bytes),
    ]);
    printTable(columns, rows);
    printLine(`trash: ${trash.items} items, ${formatBytes(trash.bytes)}; freed: ${formatBytes(freedBytes)}`);
  }
  return failures.length === 0 ? 0 : 1;
}

/**
 * What a command does at its end when it has caused garbage: collects, within a budget. Never
 * fails.
 */
export async function collectAtEnd(invocation: Invocation, store: Store): Promise<void> {
  const { collectAfter } = await import('../../collect/index.js');
  const onLine = invocation.flag('verbose') ? note : () => undefined;
  await collectAfter(store, { by: actorOf(invocation), onLine });
}
