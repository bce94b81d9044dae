/** Who serves whom right now. */
import type { lamina } from '../api/index.js';
import { Code, codeOf, messageOf } from '../base/index.js';
import { askKeeper, type EngineProcess, findEngines, findKeepers, type Keeper } from './keepers.js';

/** Keepers asked at the same time. */
const AT_ONCE = 32;

export interface ServedKeeper {
  readonly keeper: Keeper;
  readonly engine: lamina.EngineStatus;
}

export interface UnservedKeeper {
  readonly keeper: Keeper;
  readonly why: string;
}

export interface Survey {
  readonly engines: readonly EngineProcess[];
  readonly served: readonly ServedKeeper[];
  /** Keepers whose engine does not answer, or cannot. */
  readonly unserved: readonly UnservedKeeper[];
}

/** Asks all keepers. @param timeoutMs for each answer */
export async function survey(timeoutMs: number): Promise<Survey> {
  const served: ServedKeeper[] = [];
  const unserved: UnservedKeeper[] = [];
  const waiting = findKeepers();
  const ask = async (): Promise<void> => {
    for (let keeper = waiting.shift(); keeper !== undefined; keeper = waiting.shift()) {
      try {
        served.push({ keeper, engine: await askKeeper(keeper, timeoutMs) });
      } catch (error) {
        // Gone, with its container.
        if (codeOf(error) === Code.Unavailable) continue;
        unserved.push({ keeper, why: reason(error, timeoutMs) });
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, ask));
  return { engines: findEngines(), served, unserved };
}

function reason(error: unknown, timeoutMs: number): string {
  switch (codeOf(error)) {
    case Code.DeadlineExceeded:
      return `no answer within ${timeoutMs} ms`;
    case Code.Unimplemented:
      return 'its engine is too old to say';
    default:
      return messageOf(error);
  }
}

export function describeKeeper({ pid, namespace, id }: Keeper): string {
  return `keeper ${pid} (${namespace}/${id})`;
}

/** `3 keepers`. */
export function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}

export function describeEngine(engine: lamina.EngineStatus): string {
  return `engine ${engine.pid} (${engine.version}, ${engine.directory})`;
}
