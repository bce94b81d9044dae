/** `lamina engine status`: what runs, what is installed, and whether the two agree. */
import { messageOf } from '../base/index.js';
import { DEFAULT_CONFIG_PATH, loadConfig } from '../shim/config.js';
import { libraryOf } from './engines.js';
import { installedBuild, missingParts, releases } from './installation.js';
import { describeKeeper } from './keepers.js';
import { count, type Survey } from './survey.js';

/** What is shown of one engine. */
interface EngineRow {
  readonly pid: number;
  readonly mode: 'shared' | 'dedicated';
  readonly library: string | null;
  /** Null for one that does not answer. */
  readonly status: {
    readonly version: string;
    readonly directory: string;
    readonly protocol: number;
    readonly keepers: number;
    readonly containers: number;
    readonly node: string;
  } | null;
}

interface KeeperRow {
  readonly pid: number;
  readonly namespace: string;
  readonly id: string;
  readonly socket: string;
  /** Empty: of before there were builds. */
  readonly build: string;
  /** Pid of the engine that serves it, or why none does. */
  readonly engine: number | null;
  readonly why?: string;
}

interface ConfigRow {
  readonly path: string;
  readonly error: string | null;
}

export interface StatusReport {
  readonly engines: readonly EngineRow[];
  readonly keepers: readonly KeeperRow[];
  readonly unserved: readonly KeeperRow[];
  /** Sockets of shims that neither answer nor register. */
  readonly silent: readonly string[];
  readonly configurations: readonly ConfigRow[];
  /** Files that the next engine needs, and that are not installed. */
  readonly missing: readonly string[];
  readonly current: string | null;
  readonly releases: readonly string[];
  /** Of the keepers that the installed release starts; null: it does not say. */
  readonly build: string | null;
}

/** What `status` shows, from what was found. */
export async function reportOf(found: Survey, library: string): Promise<StatusReport> {
  const installed = releases(library);
  const served = found.served.map(({ keeper, engine }) => ({ ...keeper, engine: engine.pid }));
  const unserved = found.unserved.map(({ keeper, why }) => ({ ...keeper, engine: null, why }));
  const keepers = [...served, ...unserved].map(({ registration: _, ...row }) => row);
  return {
    engines: found.engines.map(({ process: { pid }, socket, status }) => {
      const mode = socket === undefined ? 'dedicated' : 'shared';
      if (status === undefined) return { pid, mode, library: null, status: null };
      const { version, directory, protocol, keepers, containers, node } = status;
      const shown = { version, directory, protocol, keepers, containers, node };
      return { pid, mode, library: libraryOf(directory), status: shown };
    }),
    keepers,
    unserved: keepers.filter(({ engine }) => engine === null),
    silent: found.silent,
    configurations: await readConfigurations(found),
    missing: missingParts(library),
    current: installed.current ?? null,
    releases: installed.all,
    build: installedBuild(library) ?? null,
  };
}

/** The files that the next engines will read: those of the running ones, else this command's. */
async function readConfigurations({ engines }: Survey): Promise<ConfigRow[]> {
  const told = engines.flatMap(({ status }) => (status === undefined || status.node === '' ? [] : status.config));
  const given = new Set(told.length === 0 ? [process.env['LAMINA_CONFIG'] ?? ''] : told);
  return await Promise.all(
    [...given].map(async (path) => {
      try {
        await (path === '' ? loadConfig(null) : loadConfig(path));
        return { path: path || DEFAULT_CONFIG_PATH, error: null };
      } catch (error) {
        return { path: path || DEFAULT_CONFIG_PATH, error: messageOf(error) };
      }
    }),
  );
}

/** Exit status of `status`: 1 when a keeper is not served, or no container can be made. */
export function exitStatusOf({ unserved, configurations, missing }: StatusReport): number {
  const isReady = missing.length === 0 && configurations.every(({ error }) => error === null);
  return unserved.length === 0 && isReady ? 0 : 1;
}

/** A report as lines. */
export function linesOf(report: StatusReport): string[] {
  return [
    ...report.engines.map((engine) => engineLine(engine)),
    ...(report.engines.length === 0 ? ['no engine runs'] : []),
    ...report.keepers.map((keeper) => keeperLine(keeper, report)),
    ...report.silent.map(
      (socket) =>
        `${socket}: whoever listens there does not answer: another kind of shim, or a keeper of an earlier release`,
    ),
    ...report.configurations.flatMap(({ path, error }) =>
      error === null ? [] : [`configuration ${path} cannot be used, so containers cannot be created: ${error}`],
    ),
    ...report.missing.map((path) => `${path} is missing, so containers cannot be created: install Lamina again`),
    ...report.releases.map((name) => `release ${name}${name === report.current ? ' (installed)' : ''}`),
  ];
}

function engineLine({ pid, mode, status }: EngineRow): string {
  if (status === null) return `engine ${pid}: ${mode}, does not answer; its keepers replace it after 30 to 40 s`;
  const { version, keepers, containers, directory } = status;
  return `engine ${pid}: ${mode}, ${version}, ${count(keepers, 'keeper')}, ${count(containers, 'container')}, ${directory}`;
}

function keeperLine(keeper: KeeperRow, { build }: StatusReport): string {
  const name = describeKeeper({ ...keeper, registration: undefined });
  const own = keeper.build === '' ? 'unknown (of an earlier release)' : keeper.build;
  const isCurrent = build === null || keeper.build === build;
  const differs = isCurrent ? '' : `, not the installed ${build}: it stays until its containers have ended`;
  if (keeper.engine === null) return `${name} is not served: ${keeper.why}; build ${own}${differs}`;
  return `${name}: build ${own}${differs}`;
}
