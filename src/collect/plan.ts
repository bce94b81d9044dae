/**
 * A plan: what a collection would remove now, kept under an id; and its application, which removes
 * that or nothing else.
 */
import { randomBytes } from 'node:crypto';
import { Code, LaminaError } from '../base/index.js';
import { describeResource, type Resource } from '../gc/index.js';
import { type Actor, type JournalEntry, type Json, objectOf } from '../store/index.js';
import { Changes, isMetadata } from './changes.js';
import { type PlanItem, type PlanItems, planItems } from './plan-items.js';
import { type Reading, type ReadingOptions, readAndMark } from './reading.js';
import { Tally } from './result.js';
import type { CollectStore } from './store.js';
import { PACE, Sweep } from './sweep.js';

export interface Plan extends PlanItems {
  readonly id: string;
  /** Milliseconds since the epoch. */
  readonly time: number;
  /** The journal's number: what happened later is not in the plan. */
  readonly sequence: number;
}

export interface PlanOptions extends ReadingOptions {
  readonly by: Actor;
}

export interface Applied {
  readonly removed: readonly Resource[];
  readonly bytes: number;
}

/** An item of a plan that is not as the plan had it. */
export interface ChangedItem {
  readonly resource: Resource;
  readonly why: string;
}

/** A plan is refused, FailedPrecondition. */
export class PlanChanged extends LaminaError {
  readonly changed: readonly ChangedItem[];
  /** What had been removed before the change was seen. */
  readonly removed: readonly Resource[];

  constructor(id: string, changed: readonly ChangedItem[], removed: readonly Resource[]) {
    const named = changed.slice(0, 10).map(({ resource, why }) => `${describeResource(resource)}: ${why}`);
    const more = changed.length > named.length ? `; and ${changed.length - named.length} more` : '';
    const done = removed.length === 0 ? 'nothing was removed' : `${removed.length} others were removed`;
    super(Code.FailedPrecondition, `plan ${id}: ${named.join('; ')}${more}: ${done}; make a new plan`, { subject: id });
    this.changed = changed;
    this.removed = removed;
  }
}

/** Plans are forgotten after this. */
const LIFETIME_MS = 7 * 24 * 3_600_000;

/** Makes a plan and keeps it in the store. What collectors own is not in it. */
export async function plan(store: CollectStore, options: PlanOptions): Promise<Plan> {
  const reading = await readAndMark(store, options);
  await Promise.all(reading.rounds.map((round) => round.cancel()));
  const found = planItems(reading, isMetadata);
  const id = randomBytes(6).toString('hex');
  const time = (options.now ?? Date.now)();
  const body: Json = {
    sequence: reading.sequence,
    items: found.items.map(({ resource: { type, namespace, key }, bytes, unique, reason }) => ({
      resource: { type, namespace, key },
      bytes,
      unique,
      reason,
    })),
    types: Object.fromEntries(Object.entries(found.types).map(([name, sums]) => [name, { ...sums }])),
    bytes: { compressed: { ...found.bytes.compressed }, unpacked: { ...found.bytes.unpacked } },
  };
  store.write(options.by, (transaction) => {
    for (const old of transaction.plans()) if (time - old.time > LIFETIME_MS) transaction.deletePlan(old.id);
    transaction.putPlan(id, body);
  });
  return { id, time, sequence: reading.sequence, ...found };
}

/** @throws LaminaError NotFound */
export function findPlan(store: CollectStore, id: string): Plan {
  const saved = store.read((view) => view.plan(id));
  if (saved === undefined) throw new LaminaError(Code.NotFound, `plan ${id}: not found`, { subject: id });
  return { ...(saved.body as unknown as Omit<Plan, 'id' | 'time'>), id, time: saved.time };
}

/**
 * Removes what a plan names and nothing else.
 * @throws PlanChanged when any of it was changed, used or removed since; LaminaError NotFound for
 *   the plan
 */
export async function apply(store: CollectStore, id: string, options: PlanOptions): Promise<Applied> {
  const planned = findPlan(store, id);
  const tally = new Tally();
  const reading = await readAndMark(store, options, tally);
  await Promise.all(reading.rounds.map((round) => round.cancel()));
  const entries = store.read((view) => {
    const { sequence } = planned;
    const found = view.journal({ after: sequence, limit: Number.MAX_SAFE_INTEGER });
    if (found.length === view.sequence() - sequence) return found;
    throw new LaminaError(Code.FailedPrecondition, `plan ${id}: it is too old: make a new plan`, { subject: id });
  });
  const changed = changedItems(reading, planned.items, entries);
  if (changed.length > 0) throw new PlanChanged(id, changed, []);
  const only = new Set(planned.items.map(({ resource }) => reading.scan.graph.find(resource) ?? -1));
  const by = { rule: `plan ${id}`, ...options.by };
  const sweep = new Sweep(store, reading, new Changes(reading), {
    by,
    ...PACE,
    isOver: () => false,
    only,
  });
  await sweep.run();
  const removed = planned.items.filter(({ resource }) => sweep.removed.has(reading.scan.graph.find(resource) ?? -1));
  if (removed.length < planned.items.length) {
    const failed = new Map(tally.failures.map(({ subject, message }) => [subject, message] as const));
    const left = planned.items
      .filter((item) => !removed.includes(item))
      .map(({ resource }) => ({
        resource,
        why: failed.get(describeResource(resource)) ?? 'it was made use of just now',
      }));
    throw new PlanChanged(
      id,
      left,
      removed.map(({ resource }) => resource),
    );
  }
  store.write(options.by, (transaction) => transaction.deletePlan(id));
  return {
    removed: removed.map(({ resource }) => resource),
    bytes: removed.reduce((sum, { unique }) => sum + unique, 0),
  };
}

/**
 * What is not as the plan had it: touched since, kept now, gone, or referred to by what is not in
 * the plan.
 */
function changedItems(
  { scan, marking }: Reading,
  items: readonly PlanItem[],
  entries: readonly JournalEntry[],
): ChangedItem[] {
  const { graph, isCandidate } = scan;
  const touched = new Map(entries.map((entry) => [`${entry.kind}\0${entry.namespace}\0${entry.key}`, entry] as const));
  const planned = new Set<number>();
  const changed: ChangedItem[] = [];
  for (const { resource } of items) {
    const id = graph.find(resource);
    const object = objectOf(resource);
    const entry = object && touched.get(`${object.kind}\0${object.namespace}\0${object.key}`);
    if (id === undefined || !isCandidate(id)) changed.push({ resource, why: 'it has gone' });
    else if (marking.isReached(id)) changed.push({ resource, why: 'it is kept now' });
    else if (entry !== undefined) changed.push({ resource, why: `${entry.action} by "${entry.command}" since` });
    else planned.add(id);
  }
  for (let from = 0; from < graph.nodeCount; from += 1) {
    if (planned.has(from) || !isCandidate(from) || marking.isReached(from)) continue;
    for (let edge = 0, to = graph.target(from, 0); to !== undefined; edge += 1, to = graph.target(from, edge)) {
      const target = graph.plain(to) ?? to;
      if (!planned.delete(target)) continue;
      changed.push({
        resource: graph.resource(target),
        why: `${describeResource(graph.resource(from))} refers to it now`,
      });
    }
  }
  return changed;
}
