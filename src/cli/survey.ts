/** Who serves whom right now. */
import type { lamina } from '../api/index.js';
import { Code, codeOf, messageOf } from '../base/index.js';
import { type EngineProcess, isSamePlace, libraryOf, listeningEngines, namedEngine } from './engines.js';
import {
  type Answer,
  askKeeper,
  hintedSockets,
  identify,
  type Keeper,
  listenerAt,
  readRegistrations,
} from './keepers.js';

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
  /** Keepers of other state directories. */
  readonly elsewhere: readonly ServedKeeper[];
  /**
   * Sockets of shims that do not answer and do not register: another kind's, or keepers of before
   * there were registrations.
   */
  readonly silent: readonly string[];
}

export interface SurveyOptions {
  /**
   * Checked (state-dir.ts); undefined when there is none, and so neither engines nor registrations.
   */
  readonly stateDir: string | undefined;
  /** This command's. */
  readonly library: string;
  /** For each answer. */
  readonly timeoutMs: number;
}

/** Asks all engines and keepers. */
export async function survey({ stateDir, library, timeoutMs }: SurveyOptions): Promise<Survey> {
  const listening = stateDir === undefined ? [] : await listeningEngines(stateDir, library, timeoutMs);
  const registrations = new Map(
    (stateDir === undefined ? [] : readRegistrations(stateDir)).map((entry) => [entry.socket, entry]),
  );
  const found = { served: [] as ServedKeeper[], unserved: [] as UnservedKeeper[], silent: [] as string[] };
  const elsewhere: ServedKeeper[] = [];
  const isOurs = ({ stateDir: theirs, pid, directory }: lamina.EngineStatus): boolean => {
    if (stateDir === undefined) return false;
    if (theirs !== '') return isSamePlace(theirs, stateDir);
    // Older engines do not say.
    return listening.some(({ process }) => process.pid === pid) || isSamePlace(libraryOf(directory), library);
  };
  const look = async (socket: string): Promise<void> => {
    const registration = registrations.get(socket);
    let answer: Answer;
    try {
      answer = await askKeeper(socket, timeoutMs);
    } catch (error) {
      const pid = listenerAt(socket);
      if (registration !== undefined && pid !== undefined) {
        found.unserved.push({ keeper: { pid, registration, ...registration }, why: reason(error, timeoutMs) });
      }
      // One that registers elsewhere listens itself.
      const isUnknown = registration === undefined && pid === undefined;
      if (isUnknown && codeOf(error) === Code.DeadlineExceeded) found.silent.push(socket);
      return;
    }
    const keeper = identify(socket, answer, registration);
    if (keeper === undefined) return;
    const { status } = answer;
    if (registration !== undefined || isOurs(status)) found.served.push({ keeper, engine: status });
    else elsewhere.push({ keeper, engine: status });
  };
  const waiting = [...new Set([...registrations.keys(), ...hintedSockets()])];
  const work = async (): Promise<void> => {
    for (let socket = waiting.shift(); socket !== undefined; socket = waiting.shift()) await look(socket);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  const engines = enginesOf(listening, found);
  found.served.sort(byPid);
  found.unserved.sort(byPid);
  return { engines, ...found, elsewhere };
}

/**
 * All engines once, with what is known of each. Keepers of one that is no process of ours are not
 * served by it.
 */
function enginesOf(
  listening: readonly EngineProcess[],
  found: { served: ServedKeeper[]; readonly unserved: UnservedKeeper[] },
): EngineProcess[] {
  const engines = new Map(listening.map((engine) => [engine.process.pid, engine]));
  found.served = found.served.filter(({ keeper, engine: status }) => {
    const known = engines.get(status.pid);
    const engine = known === undefined ? namedEngine(status) : { ...known, status: known.status ?? status };
    if (engine !== undefined) {
      engines.set(status.pid, engine);
      return true;
    }
    found.unserved.push({
      keeper,
      why: `it is answered by process ${status.pid}, which has ended or is no engine here`,
    });
    return false;
  });
  return [...engines.values()].sort((a, b) => a.process.pid - b.process.pid);
}

function byPid(a: { readonly keeper: Keeper }, b: { readonly keeper: Keeper }): number {
  return a.keeper.pid - b.keeper.pid;
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

/** `3 keepers`. */
export function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}

export function describeEngine(engine: lamina.EngineStatus): string {
  return `engine ${engine.pid} (${engine.version}, ${engine.directory})`;
}
