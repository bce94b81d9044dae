/**
 * What is asked of a containerd: its metadata as facts, with the bytes of snapshots where they
 * count.
 */
import { createHash } from 'node:crypto';
import { Code, LaminaError } from '../../base/index.js';
import { type Marked, markFacts, type PlanItems, planItems } from '../../collect/index.js';
import {
  collectNow,
  type GrpcConnection,
  listNamespaces,
  type NamespaceReading,
  readDaemon,
  withUsage,
} from '../../containerd/index.js';
import { ResourceType } from '../../gc/index.js';

export interface MarkedDaemon {
  readonly marked: Marked;
  readonly isSteady: boolean;
  readonly digests: readonly string[];
}

/**
 * One namespace, without the bytes of snapshots.
 * @throws LaminaError NotFound for one that is not there
 */
export async function readMarked(connection: GrpcConnection, namespace: string): Promise<MarkedDaemon> {
  const names = await listNamespaces(connection);
  if (!names.includes(namespace)) {
    const there = names.length === 0 ? 'there is none' : `there are: ${names.join(', ')}`;
    throw new LaminaError(Code.NotFound, `namespace ${namespace}: not found at ${connection.address}; ${there}`, {
      subject: namespace,
    });
  }
  const readings = await readDaemon(connection, [namespace]);
  return {
    marked: mark(readings),
    isSteady: readings.every(({ isSteady }) => isSteady),
    digests: readings.flatMap(({ metadata }) => metadata.content.map(({ digest }) => digest)),
  };
}

export interface DaemonPlan extends PlanItems {
  /** The same for the same items. */
  readonly id: string;
  readonly isSteady: boolean;
}

/** What containerd's next collection would remove. */
export async function planDaemon(connection: GrpcConnection): Promise<DaemonPlan> {
  const readings = await readDaemon(connection);
  const { items } = planItems(mark(readings));
  const isGarbage = new Set(
    items.flatMap(({ resource: { type, namespace, key } }) =>
      type === ResourceType.Snapshot ? [`${namespace}\0${key}`] : [],
    ),
  );
  const sized = await withUsage(connection, readings, (namespace, key) => isGarbage.has(`${namespace}\0${key}`));
  const found = planItems(mark(sized));
  const names = found.items.map(({ resource: { type, namespace, key } }) => [type, namespace, key]);
  const id = createHash('sha256').update(JSON.stringify(names)).digest('hex').slice(0, 12);
  return { ...found, id, isSteady: readings.every(({ isSteady }) => isSteady) };
}

/** Everything, with the bytes of every snapshot. */
export async function readSized(connection: GrpcConnection): Promise<Marked> {
  return mark(await withUsage(connection, await readDaemon(connection)));
}

/** Lets containerd collect. @returns the items of the plan that are gone */
export async function collectDaemon(connection: GrpcConnection, plan: PlanItems): Promise<PlanItems['items']> {
  await collectNow(connection);
  const left = await readDaemon(connection);
  const { scan } = mark(left);
  return plan.items.filter(({ resource }) => {
    const id = scan.graph.find(resource);
    return id === undefined || !scan.isCandidate(id);
  });
}

function mark(readings: readonly NamespaceReading[]): Marked {
  return markFacts({ namespaces: readings.map(({ metadata }) => metadata) });
}
