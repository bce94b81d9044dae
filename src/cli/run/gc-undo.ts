/** `lamina gc undo`, `lamina gc empty` */
import { emptyTrash, undo } from '../../collect/index.js';
import { type ObjectName, resourceOf, type Store } from '../../store/index.js';
import type { Invocation } from '../command/spec.js';
import { note, printJson, printLine, printTable, printText } from '../output/print.js';
import { formatBytes, formatTime, readDuration } from '../output/units.js';
import { usageError } from '../usage.js';
import { actorOf, leaseResourceOf, openStore } from './context.js';

/** @returns 1 when something could not come back */
export async function runUndo(invocation: Invocation): Promise<number> {
  const since = invocation.text('since');
  const lease = invocation.text('lease');
  if (invocation.args.length === 0 && since === undefined) {
    if (lease !== undefined) throw usageError(invocation, '--lease goes with a NUMBER or --since');
    using store = await openStore(invocation, { readOnly: true });
    listTrash(invocation, store);
    return 0;
  }
  if (invocation.args.length > 0 && since !== undefined) throw usageError(invocation, 'a NUMBER or --since, not both');
  const ids = invocation.args.map((text) => {
    if (!/^\d{1,15}$/.test(text)) throw usageError(invocation, `${text} is no number: lamina gc undo lists the trash`);
    return Number(text);
  });
  const sinceMs = since === undefined ? undefined : readDuration('--since', since);
  using store = await openStore(invocation, { readOnly: false });
  const by = actorOf(invocation);
  const { restored, refused } = undo(store, {
    by,
    ...(sinceMs === undefined ? { ids } : { since: Date.now() - sinceMs }),
  });
  if (lease !== undefined) addToLease(store, invocation, lease, restored);
  if (invocation.flag('json')) printJson({ restored, refused });
  else {
    for (const { kind, namespace, key } of restored) printText(`${kind}/${key} of ${namespace} is back`);
    if (restored.length === 0 && refused.length === 0) printLine('nothing was removed since then');
  }
  for (const { id, message } of refused) note(`${id}: ${message}`);
  return refused.length === 0 ? 0 : 1;
}

function addToLease(store: Store, invocation: Invocation, lease: string, restored: readonly ObjectName[]): void {
  store.write(actorOf(invocation), (tx) => {
    for (const name of restored) {
      const resource = resourceOf(name);
      if (resource === undefined || name.kind === 'lease' || name.kind === 'container') continue;
      tx.addLeaseResource(name.namespace, lease, leaseResourceOf(resource));
    }
  });
}

function listTrash(invocation: Invocation, store: Store): void {
  const items = store.read((view) => view.trash());
  if (invocation.flag('json')) {
    printJson({ trash: items.map((item) => ({ ...item, digest: item.digest ?? null })) });
    return;
  }
  const columns = ['NUMBER', 'REMOVED', 'NAMESPACE', 'WHAT', 'SIZE', 'WHY'].map((title) => ({
    title,
    isRight: title === 'SIZE',
  }));
  printTable(
    columns,
    items.map(({ id, time, namespace, kind, key, bytes, reason }) => [
      ...[String(id), formatTime(time), namespace, `${kind}/${key}`],
      bytes === 0 ? '' : formatBytes(bytes),
      reason,
    ]),
  );
}

export async function runEmpty(invocation: Invocation): Promise<undefined> {
  const text = invocation.text('older-than');
  const olderThanMs = text === undefined ? 0 : readDuration('--older-than', text);
  using store = await openStore(invocation, { readOnly: false });
  const { items, bytes } = await emptyTrash(store, { by: actorOf(invocation), olderThanMs });
  await store.reclaim();
  if (invocation.flag('json')) printJson({ items, bytes });
  else printLine(`${items} items, ${formatBytes(bytes)} freed`);
}
