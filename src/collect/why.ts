/**
 * Why a thing is kept; or what would have to be there for it to be kept; or who removed it, and
 * when.
 */
import {
  describeResource,
  type Explanation,
  explain,
  RESOURCE_MAX,
  type Resource,
  type Step,
  scan,
  typeName,
} from '../gc/index.js';
import { type JournalEntry, objectOf, type TrashItem } from '../store/index.js';
import type { Marked } from './facts.js';
import { type ReadingOptions, readAndMark } from './reading.js';
import { endOf, nameOf } from './reasons.js';
import type { CollectStore } from './store.js';

/** A way by which garbage would be kept, if its first end still were. */
export interface MissingWay {
  /**
   * What nothing keeps: an expired image, a lease that is over; or garbage to which nothing refers.
   */
  readonly from: Resource;
  /** Why that is no root. */
  readonly reason: string;
  /** From there to the thing: what is led to, and by which edge. */
  readonly steps: readonly { readonly resource: Resource; readonly origin: string }[];
}

export interface Why {
  readonly resource: Resource;
  readonly kind: 'kept' | 'garbage' | 'removed' | 'unknown';
  /** The proof, or the referrers that are lost. */
  readonly explanation: Explanation;
  /** For garbage: what is missing, the shortest way first. */
  readonly missing: readonly MissingWay[];
  /** Its removal, when it is not there any more. */
  readonly removal: JournalEntry | undefined;
  /** Under this number it can be brought back. */
  readonly trashId: number | undefined;
  /** The same for people. */
  readonly lines: readonly string[];
}

/** So many ways are told. */
const MOST_WAYS = 10;

/** By facts alone. */
export function whyOf(marked: Marked, resource: Resource): Why {
  const explanation = explain(marked.scan, marked.marking, resource);
  const nothing = { missing: [], removal: undefined, trashId: undefined };
  if (explanation.kind === 'kept') {
    const lines = [`${describeResource(resource)} is kept`, ...proofLines(explanation.proof)];
    return { resource, kind: 'kept', explanation, ...nothing, lines };
  }
  if (explanation.kind === 'unknown') {
    const proof = marked.marking.proof(resource);
    const what = `${describeResource(resource)} is not there`;
    const lines = proof === undefined ? [what] : [`${what}, although it is referred to`, ...proofLines(proof)];
    return { resource, kind: 'unknown', explanation, ...nothing, lines };
  }
  const missing = missingWays(marked, resource);
  const lines = [`${describeResource(resource)} is garbage`];
  const isAlone = missing.every(({ from, steps }) => steps.length === 0 && isSame(from, resource));
  if (missing.length === 0 || (isAlone && missing[0]?.reason === NO_REFERRER)) lines.push(`  ${NO_REFERRER}`);
  else {
    lines.push('  it would be kept by');
    for (const { from, reason, steps } of missing) {
      lines.push(`  ${steps.length === 0 ? 'itself' : nameOf(from)}: ${reason}`);
      for (const step of steps) lines.push(`    → ${nameOf(step.resource)} (${step.origin})`);
    }
  }
  return { resource, kind: 'garbage', explanation, ...nothing, missing, lines };
}

function proofLines([root, ...steps]: readonly Step[]): string[] {
  if (root === undefined) return [];
  return [
    `  ${nameOf(root.resource)} (${root.origin})`,
    ...steps.map(({ resource, origin }) => `  → ${nameOf(resource)} (${origin})`),
  ];
}

const NO_REFERRER = 'nothing refers to it';

/** Goes back through garbage, breadth first, to what once was a root or to where nothing leads. */
function missingWays({ scan, marking }: Marked, resource: Resource): MissingWay[] {
  const { graph } = scan;
  const start = graph.find(resource);
  if (start === undefined) return [];
  const lapsed = new Map(scan.lapsed.map((root) => [graph.find(root.resource) ?? -1, root] as const));
  const back = garbageReferrers({ scan, marking });
  /** Node → the node it leads to on the way to the thing, and by which edge. */
  const next = new Map<number, { readonly to: number; readonly origin: string }>();
  const seen = new Set([start]);
  const queue = [start];
  const ways: MissingWay[] = [];
  for (let at = 0; at < queue.length && ways.length < MOST_WAYS; at += 1) {
    const id: number = queue[at] ?? start;
    const referrers: readonly { readonly from: number; readonly origin: string }[] = (back.get(id) ?? []).filter(
      ({ from }) => !seen.has(from),
    );
    const root = lapsed.get(id);
    if (root !== undefined || referrers.length === 0) {
      const reason = root === undefined ? (id === start ? NO_REFERRER : 'nothing keeps it') : endOf(root);
      // A cycle, or a way that another has told already.
      if (root !== undefined || (back.get(id) ?? []).length === 0 || id === start) {
        ways.push({ from: plain(graph.resource(id)), reason, steps: stepsFrom(id) });
      }
    }
    for (const { from, origin } of referrers) {
      if (seen.has(from)) continue;
      seen.add(from);
      next.set(from, { to: id, origin });
      queue.push(from);
    }
  }
  if (ways.length === 0)
    ways.push({ from: resource, reason: 'only a cycle that nothing keeps refers to it', steps: [] });
  return ways;

  function stepsFrom(id: number): MissingWay['steps'] {
    const steps: MissingWay['steps'][number][] = [];
    for (let step = next.get(id); step !== undefined; step = next.get(step.to)) {
      steps.push({ resource: plain(graph.resource(step.to)), origin: step.origin });
    }
    return steps;
  }
}

/** Node → garbage that refers to it. Reads every edge of garbage. */
function garbageReferrers({
  scan,
  marking,
}: Marked): Map<number, { readonly from: number; readonly origin: string }[]> {
  const { graph } = scan;
  const found = new Map<number, { readonly from: number; readonly origin: string }[]>();
  for (let from = 0; from < graph.nodeCount; from += 1) {
    if (marking.isReached(from)) continue;
    for (let edge = 0, to = graph.target(from, 0); to !== undefined; edge += 1, to = graph.target(from, edge)) {
      // What is named flat stands for the thing itself.
      const target = graph.plain(to) ?? to;
      const list = found.get(target) ?? [];
      found.set(target, list);
      list.push({ from: graph.plain(from) ?? from, origin: graph.edgeOrigin(from, edge) });
    }
  }
  return found;
}

function plain({ type, namespace, key }: Resource): Resource {
  return { type: type & RESOURCE_MAX, namespace, key };
}

function isSame(a: Resource, b: Resource): boolean {
  return a.type === b.type && a.namespace === b.namespace && a.key === b.key;
}

/**
 * Explains one thing of a store; of what is not there any more, the journal and the trash tell.
 * @throws LaminaError DataLoss when the metadata is damaged
 */
export async function why(store: CollectStore, resource: Resource, options: ReadingOptions = {}): Promise<Why> {
  const reading = await readAndMark(store, options);
  await Promise.all(reading.rounds.map((round) => round.cancel()));
  const found = whyOf(reading, resource);
  if (found.kind === 'garbage') {
    const lines = store.read((view) => removedReferrers(view.trash(), resource));
    return { ...found, lines: [...found.lines, ...lines] };
  }
  const { kind, namespace, key } = objectOf(resource) ?? { kind: undefined, namespace: '', key: '' };
  if (found.kind === 'kept' || kind === undefined) return found;
  const { removal, item } = store.read((view) => ({
    removal: view
      .journal({ namespace, key, limit: Number.MAX_SAFE_INTEGER })
      .findLast((entry) => entry.kind === kind && (entry.action === 'delete' || entry.action === 'trash')),
    item: view.trash().findLast((one) => one.kind === kind && one.namespace === namespace && one.key === key),
  }));
  if (removal === undefined) return found;
  const lines = [
    `${describeResource(resource)} was removed at ${new Date(removal.time).toISOString()}`,
    `  by "${removal.command}" (user ${removal.uid}, process ${removal.pid})${removal.rule === undefined ? '' : `, rule ${removal.rule}`}`,
    ...(removal.proof === undefined ? [] : [`  because: ${removal.proof}`]),
    item === undefined ? '  it is gone for good' : `  it is in the trash: lamina gc undo ${item.id}`,
    ...found.lines.slice(1).map((line, index) => (index === 0 ? `  it is still referred to by${line.slice(1)}` : line)),
  ];
  return { ...found, kind: 'removed', removal, trashId: item?.id, lines };
}

/** What in the trash referred to a thing, and how to bring it back. */
function removedReferrers(trash: readonly TrashItem[], { type, namespace, key }: Resource): string[] {
  const items = trash.filter((item) => item.namespace === namespace);
  const of = (kind: TrashItem['kind']): TrashItem[] => items.filter((item) => item.kind === kind);
  const { graph } = scan(
    [
      {
        name: namespace,
        leases: [],
        images: of('image').map(({ key: name, labels, target = '' }) => ({ name, labels, target })),
        content: of('content').map(({ key: digest, labels }) => ({ digest, labels })),
        ingests: [],
        snapshots: of('snapshot').map(({ key: name, labels, parent }) => {
          const [snapshotter = ''] = name.split('/');
          return { key: name, labels, parent: parent === undefined ? undefined : `${snapshotter}/${parent}` };
        }),
        containers: [],
        sandboxes: [],
      },
    ],
    { now: Date.now() },
  );
  const id = graph.find({ type, namespace, key });
  if (id === undefined) return [];
  return graph.referrers(id).flatMap(({ resource, origin }) => {
    const from = items.findLast((item) => item.key === resource.key && typeOf(item.kind) === resource.type);
    if (from === undefined) return [];
    const when = new Date(from.time).toISOString();
    return [`  ${nameOf(resource)} referred to it (${origin}), removed at ${when}: lamina gc undo ${from.id}`];
  });
}

/** What `why` can be asked of, by the word a command uses: `content`, `image`, … */
export function typeOf(word: string): number | undefined {
  for (let type = 1; type < RESOURCE_MAX; type += 1) if (typeName(type) === word) return type;
  return undefined;
}
