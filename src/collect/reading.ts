/**
 * The first half of a collection: asks the collectors, reads the metadata in one view, and marks.
 * Writers go on meanwhile; `changes.ts` makes good what they did.
 */
import { type Collector, type Marking, type Scan, type ScanOptions, scan, typeName } from '../gc/index.js';
import { isGone } from '../sys/index.js';
import { type CollectorLimits, CollectorRound, DEFAULT_LIMITS, protectedBy } from './collector-round.js';
import { Tally } from './result.js';
import type { CollectStore } from './store.js';

export interface ReadingOptions {
  readonly collectors?: readonly Collector[];
  readonly limits?: Partial<CollectorLimits>;
  /** The wall clock, milliseconds since the epoch. */
  readonly now?: () => number;
  readonly hasEnded?: ScanOptions['hasEnded'];
}

export interface Reading {
  readonly scan: Scan;
  readonly marking: Marking;
  /** The journal's number in the view that was read. */
  readonly sequence: number;
  /** Collectors that have answered. */
  readonly rounds: readonly CollectorRound[];
  readonly tally: Tally;
  /** Reference labels are read by these in whatever is scanned later. */
  readonly options: ScanOptions;
}

/** Reads and marks. The rounds of the result are to be ended: `finish` or `cancel`. */
export async function readAndMark(store: CollectStore, options: ReadingOptions, tally = new Tally()): Promise<Reading> {
  const { collectors = [], now = Date.now } = options;
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const unjudged = new Map<number, string>();
  const rounds = await tally.during('collectors', async () => await ask(store, collectors, limits, tally, unjudged));
  try {
    const scanOptions: ScanOptions = {
      now: now(),
      collectors: rounds.map((round) => round.running),
      hasEnded: options.hasEnded ?? isGone,
      unjudged,
      onInvalid: (message) => tally.fail('label', message),
    };
    const { scanned, sequence } = await tally.during('read', () =>
      store.read((view) => ({ scanned: scan(view.metadata(), scanOptions), sequence: view.sequence() })),
    );
    const marking = await tally.during('mark', () => scanned.graph.mark());
    return { scan: scanned, marking, sequence, rounds, tally, options: scanOptions };
  } catch (error) {
    await Promise.all(rounds.map((round) => round.cancel()));
    throw error;
  }
}

/** Starts all collectors together. Those that fail are left out, with what they may keep. */
async function ask(
  store: CollectStore,
  collectors: readonly Collector[],
  limits: CollectorLimits,
  tally: Tally,
  unjudged: Map<number, string>,
): Promise<CollectorRound[]> {
  const fail = (collector: Collector, error: unknown): void => {
    tally.fail(`collector of ${typeName(collector.type)}`, error);
    for (const type of protectedBy(collector)) {
      unjudged.set(type, `not judged, as the collector of ${typeName(collector.type)} failed`);
    }
  };
  const started = await Promise.all(
    collectors.map(async (collector) => {
      try {
        return await CollectorRound.start(collector, limits);
      } catch (error) {
        fail(collector, error);
        return undefined;
      }
    }),
  );
  const rounds = started.filter((round) => round !== undefined);
  if (rounds.length === 0) return [];
  const namespaces = store.read((view) =>
    view.namespaces().map((namespace) => ({ namespace, leases: view.leases(namespace).map(({ id }) => id) })),
  );
  const gathered = await Promise.all(
    rounds.map(async (round) => {
      try {
        await round.gather(namespaces);
        return round;
      } catch (error) {
        fail(round.collector, error);
        await round.cancel();
        return undefined;
      }
    }),
  );
  return gathered.filter((round) => round !== undefined);
}
