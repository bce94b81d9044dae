/** Removes garbage of plug-ins: outside of any lock, item by item, each with a deadline. */
import { Code, codeOf } from '../base/index.js';
import { describeResource, typeName } from '../gc/index.js';
import type { Changes } from './changes.js';
import type { CollectorRound } from './collector-round.js';
import type { Reading } from './reading.js';
import type { CollectStore } from './store.js';

/** So many at the same time of one collector. */
const AT_ONCE = 4;
/** So many that were too late one after the other: the collector hangs, and is asked no more. */
const MOST_LATE = 8;

/** @param garbage ids of nodes; those that were reached meanwhile stay */
export async function removeOfPlugins(
  store: CollectStore,
  reading: Reading,
  changes: Changes,
  garbage: readonly number[],
  isOver: () => boolean,
): Promise<void> {
  const { scan, tally } = reading;
  if (garbage.length > 0) {
    store.read((view) => changes.catchUp(view));
    await changes.askCollectors();
  }
  const byType = Map.groupBy(garbage, (id) => scan.graph.resource(id).type);
  await Promise.all(
    reading.rounds.map(async (round) => {
      if (round.isBroken) return await round.cancel();
      const { type } = round.collector;
      await removeOf(round, reading, byType.get(type) ?? [], isOver);
      try {
        await round.finish();
      } catch (error) {
        tally.fail(`collector of ${typeName(type)}`, error);
      }
    }),
  );
}

async function removeOf(
  round: CollectorRound,
  { scan, marking, tally }: Reading,
  garbage: readonly number[],
  isOver: () => boolean,
): Promise<void> {
  let late = 0;
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let id = garbage[next++]; id !== undefined; id = garbage[next++]) {
      const resource = scan.graph.resource(id);
      if (marking.isReached(id)) {
        tally.add(resource.type, 'changed');
        continue;
      }
      if (isOver()) return;
      if (late >= MOST_LATE) {
        tally.fail(describeResource(resource), `not tried: ${late} removals before it were not over in time`, resource);
        continue;
      }
      try {
        const removal = await round.remove(resource);
        tally.add(resource.type, removal === 'removed' ? 'removed' : 'changed');
        late = 0;
      } catch (error) {
        if (codeOf(error) === Code.DeadlineExceeded) late += 1;
        tally.fail(describeResource(resource), error, resource);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}
