/** `lamina df` */
import { type DiskUsage, df, diskUsage, typeName } from '../../collect/index.js';
import type { Invocation } from '../command/spec.js';
import { jsonOf, printJson, printLine, printTable } from '../output/print.js';
import { formatBytes } from '../output/units.js';
import { daemonOf, openStore } from './context.js';

const COLUMNS = [
  { title: 'OWNER' },
  { title: 'NAMESPACE' },
  { title: 'UNIQUE', isRight: true },
  { title: 'SHARED', isRight: true },
];

export async function runDf(invocation: Invocation): Promise<undefined> {
  const usage = await usageOf(invocation);
  const { owners, total, shared, reclaimable, trash } = usage;
  if (invocation.flag('json')) {
    const rows = owners.map(({ owner, ...bytes }) => ({ ...jsonOf(owner), ...bytes }));
    printJson({ owners: rows, total, shared, reclaimable, trash });
    return;
  }
  printTable(
    COLUMNS,
    owners.map(({ owner, unique, shared: of }) => [
      `${typeName(owner.type)}/${owner.key}`,
      owner.namespace,
      formatBytes(unique),
      formatBytes(of),
    ]),
  );
  if (owners.length > 0) printLine('');
  printLine(`total        ${formatBytes(total)}`);
  printLine(`shared       ${formatBytes(shared)}`);
  printLine(`reclaimable  ${formatBytes(reclaimable)}`);
  if (invocation.text('containerd') === undefined) printLine(`trash        ${formatBytes(trash)}`);
}

async function usageOf(invocation: Invocation): Promise<DiskUsage> {
  using connection = await daemonOf(invocation);
  if (connection !== undefined) {
    const { readSized } = await import('./daemon.js');
    return diskUsage(await readSized(connection));
  }
  using store = await openStore(invocation, { readOnly: true });
  return await df(store);
}
