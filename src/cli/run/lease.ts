/** `lamina lease ls|create|add|rm` */
import { Code, LaminaError } from '../../base/index.js';
import { EXPIRE_LABEL, FLAT_LABEL } from '../../gc/index.js';
import type { LeaseResource, ProcessIdentity } from '../../store/index.js';
import type { Invocation } from '../command/spec.js';
import { labelText, printJson, printLine, printTable } from '../output/print.js';
import { formatTime, readDuration } from '../output/units.js';
import { usageError } from '../usage.js';
import { actorOf, daemonOf, labelsOf, leaseResourceOf, namespaceOf, openStore, resourceOf } from './context.js';
import { collectAtEnd } from './gc-run.js';

/** How long containerd may collect at the end of a lease. */
const COLLECT_MS = 300_000;

interface LeaseRow {
  readonly id: string;
  readonly createdAt: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly resources: readonly LeaseResource[];
  /** Pid of the process with which it ends. */
  readonly pid: number | null;
}

export async function runList(invocation: Invocation): Promise<undefined> {
  const rows = await leaseRows(invocation, namespaceOf(invocation));
  if (invocation.flag('json')) {
    printJson({ leases: rows });
    return;
  }
  const titles = ['ID', 'CREATED', 'EXPIRES', 'PROCESS', 'NAMES', 'LABELS'];
  printTable(
    titles.map((title) => ({ title, isRight: title === 'NAMES' })),
    rows.map(({ id, createdAt, labels, resources, pid }) => [
      ...[id, formatTime(createdAt), labels[EXPIRE_LABEL] ?? '', pid === null ? '' : String(pid)],
      String(resources.length),
      labelText(Object.fromEntries(Object.entries(labels).filter(([name]) => name !== EXPIRE_LABEL))),
    ]),
  );
}

async function leaseRows(invocation: Invocation, namespace: string): Promise<LeaseRow[]> {
  using connection = await daemonOf(invocation);
  if (connection !== undefined) {
    const { DaemonNamespace } = await import('../../containerd/index.js');
    const leases = await new DaemonNamespace(connection, namespace).leases();
    return leases.map(({ id, createdAt, allLabels, resources }) => ({
      id,
      createdAt,
      labels: allLabels,
      resources,
      pid: null,
    }));
  }
  using store = await openStore(invocation, { readOnly: true });
  return store.read((view) =>
    view.leases(namespace).map(({ id, createdAt, labels, owner }) => ({
      ...{ id, createdAt, labels, resources: view.leaseResources(namespace, id) },
      pid: owner?.pid ?? null,
    })),
  );
}

export async function runCreate(invocation: Invocation): Promise<undefined> {
  const namespace = namespaceOf(invocation);
  const expires = invocation.text('expires');
  const expiresAt = expires === undefined ? undefined : Date.now() + readDuration('--expires', expires);
  const labels = { ...labelsOf(invocation), ...(invocation.flag('flat') ? { [FLAT_LABEL]: 'yes' } : {}) };
  const pid = invocation.text('pid');
  const given = invocation.text('id');
  if (given === '') throw usageError(invocation, '--id is empty');
  if (pid !== undefined && !/^[1-9]\d{0,9}$/.test(pid))
    throw usageError(invocation, `--pid is ${pid}, expected a process`);
  using connection = await daemonOf(invocation);
  if (connection !== undefined) {
    if (pid !== undefined) {
      throw usageError(
        invocation,
        '--pid: containerd knows no leases of processes; give the lease an end by --expires',
      );
    }
    const { DaemonNamespace, newLeaseId } = await import('../../containerd/index.js');
    const id = given ?? newLeaseId();
    const all = expiresAt === undefined ? labels : { ...labels, [EXPIRE_LABEL]: new Date(expiresAt).toISOString() };
    await new DaemonNamespace(connection, namespace).createLease(id, all);
    printId(invocation, id);
    return;
  }
  const owner = pid === undefined ? undefined : await identify(Number(pid));
  using store = await openStore(invocation, { readOnly: false });
  const lease = store.write(actorOf(invocation), (tx) =>
    tx.createLease(namespace, { id: given, labels, expiresAt, owner }),
  );
  printId(invocation, lease.id);
}

function printId(invocation: Invocation, id: string): void {
  if (invocation.flag('json')) printJson({ id });
  else printLine(id);
}

/** @throws LaminaError NotFound for a process that is not there */
async function identify(pid: number): Promise<ProcessIdentity> {
  const { identityOf } = await import('../../sys/index.js');
  const identity = identityOf(pid);
  if (identity === undefined)
    throw new LaminaError(Code.NotFound, `process ${pid}: there is none`, { subject: String(pid) });
  return identity;
}

export async function runAdd(invocation: Invocation): Promise<undefined> {
  const namespace = namespaceOf(invocation);
  const [lease = '', ...keys] = invocation.args;
  using connection = await daemonOf(invocation);
  if (connection !== undefined) {
    const { DaemonNamespace } = await import('../../containerd/index.js');
    const daemon = new DaemonNamespace(connection, namespace);
    const digests = async (): Promise<string[]> => (await daemon.blobs()).map(({ digest }) => digest);
    const resources = await leaseResources(keys, namespace, digests);
    for (const { type, id } of resources) await daemon.addToLease(lease, type, id);
    if (invocation.flag('json')) printJson({ id: lease, added: resources });
    return;
  }
  using store = await openStore(invocation, { readOnly: false });
  const digests = (): string[] => store.read((view) => view.blobs(namespace).map(({ digest }) => digest));
  const resources = await leaseResources(keys, namespace, digests);
  // All or none.
  store.write(actorOf(invocation), (tx) => {
    for (const resource of resources) tx.addLeaseResource(namespace, lease, resource);
  });
  if (invocation.flag('json')) printJson({ id: lease, added: resources });
}

async function leaseResources(
  keys: readonly string[],
  namespace: string,
  digests: () => Iterable<string> | Promise<Iterable<string>>,
): Promise<LeaseResource[]> {
  const resources: LeaseResource[] = [];
  for (const key of keys) resources.push(leaseResourceOf(await resourceOf(key, namespace, digests)));
  return resources;
}

export async function runRemove(invocation: Invocation): Promise<undefined> {
  const namespace = namespaceOf(invocation);
  const ids = [...new Set(invocation.args)];
  using connection = await daemonOf(invocation);
  if (connection !== undefined) {
    const { DaemonNamespace } = await import('../../containerd/index.js');
    const daemon = new DaemonNamespace(connection, namespace);
    // One collection for all of them.
    for (const [at, id] of ids.entries()) await daemon.deleteLease(id, at === ids.length - 1 ? COLLECT_MS : undefined);
  } else {
    using store = await openStore(invocation, { readOnly: false });
    store.write(actorOf(invocation), (tx) => {
      for (const id of ids) tx.deleteLease(namespace, id);
    });
    await collectAtEnd(invocation, store);
  }
  if (invocation.flag('json')) printJson({ removed: ids });
}
