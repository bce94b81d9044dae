/** `lamina gc plan`, `lamina gc apply ID` */
import { Code, LaminaError } from '../../base/index.js';
import { apply, type PlanItems, plan, typeName } from '../../collect/index.js';
import type { Invocation } from '../command/spec.js';
import { jsonOf, note, printJson, printLine, printTable } from '../output/print.js';
import { formatBytes } from '../output/units.js';
import { actorOf, daemonOf, openStore } from './context.js';

const COLUMNS = [
  { title: 'TYPE' },
  { title: 'NAMESPACE' },
  { title: 'KEY' },
  { title: 'SIZE', isRight: true },
  { title: 'FREES', isRight: true },
  { title: 'WHY' },
];

export async function runPlan(invocation: Invocation): Promise<undefined> {
  using connection = await daemonOf(invocation);
  if (connection !== undefined) {
    const { planDaemon } = await import('./daemon.js');
    const found = await planDaemon(connection);
    if (!found.isSteady) note('it was changed while it was read: some garbage may be missing');
    show(invocation, found.id, found);
    return;
  }
  using store = await openStore(invocation, { readOnly: false });
  const found = await plan(store, { by: actorOf(invocation) });
  show(invocation, found.id, found);
}

export async function runApply(invocation: Invocation): Promise<undefined> {
  const id = invocation.arg(0) ?? '';
  using connection = await daemonOf(invocation);
  if (connection !== undefined) {
    const { collectDaemon, planDaemon } = await import('./daemon.js');
    const found = await planDaemon(connection);
    if (found.id !== id) {
      throw new LaminaError(
        Code.FailedPrecondition,
        `plan ${id}: what ${connection.address} would remove is another plan now, ${found.id}: nothing was removed; look at lamina gc plan --containerd ${connection.address}`,
        { subject: id },
      );
    }
    const removed = await collectDaemon(connection, found);
    const bytes = removed.reduce((sum, { unique }) => sum + unique, 0);
    showApplied(
      invocation,
      id,
      removed.map(({ resource }) => resource),
      bytes,
    );
    return;
  }
  using store = await openStore(invocation, { readOnly: false });
  const { removed, bytes } = await apply(store, id, { by: actorOf(invocation) });
  showApplied(invocation, id, removed, bytes);
}

function show(invocation: Invocation, id: string, { items, types, bytes }: PlanItems): void {
  if (invocation.flag('json')) {
    printJson({ id, items: items.map(({ resource, ...rest }) => ({ ...jsonOf(resource), ...rest })), types, bytes });
    return;
  }
  const rows = items.map(({ resource: { type, namespace, key }, bytes: size, unique, reason }) => [
    ...[typeName(type), namespace, key],
    ...(size === 0 ? ['', ''] : [formatBytes(size), formatBytes(unique)]),
    reason,
  ]);
  printTable(COLUMNS, rows);
  if (items.length > 0) printLine('');
  const { compressed, unpacked } = bytes;
  const shared = compressed.shared + unpacked.shared;
  printLine(`plan ${id}: ${items.length} to remove, ${formatBytes(compressed.unique + unpacked.unique)} to free`);
  if (compressed.unique > 0) printLine(`  content    ${formatBytes(compressed.unique)}`);
  if (unpacked.unique > 0) printLine(`  snapshots  ${formatBytes(unpacked.unique)}`);
  if (shared > 0) printLine(`  not freed  ${formatBytes(shared)}, as others use the same blobs`);
}

function showApplied(
  invocation: Invocation,
  id: string,
  removed: readonly Parameters<typeof jsonOf>[0][],
  bytes: number,
): void {
  if (invocation.flag('json')) printJson({ id, removed: removed.map(jsonOf), bytes });
  else printLine(`plan ${id}: ${removed.length} removed, ${formatBytes(bytes)}`);
}
