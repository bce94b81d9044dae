/** Everything that can be measured: names for the command line, titles for the table. */
export type Group = 'life' | 'cold' | 'stdout' | 'calls' | 'burst' | 'memory' | 'idle' | 'containerd' | 'cgroups';

export interface Measure {
  readonly name: string;
  readonly group: Group;
  readonly title: string;
  readonly unit: 'ms' | 'µs' | 's' | 'MB' | 'MB/s' | 'calls/s' | 'reads/s' | '';
}

/** Containers per side at which memory is measured, unless `--containers` says otherwise. */
export const MEMORY_COUNTS = [1, 10, 50];

const ms = (group: Group, name: string, title: string): Measure => ({ name, group, title, unit: 'ms' });

/** In the order of the table. */
export function measures(memoryCounts: readonly number[]): Measure[] {
  return [
    ms('life', 'start-verb', 'start verb'),
    ms('life', 'connect', 'connect'),
    ms('life', 'create', 'Create'),
    ms('cold', 'cold-create', 'Create, no engine yet'),
    ms('life', 'start', 'Start'),
    ms('life', 'state', 'State'),
    ms('life', 'stats', 'Stats'),
    ms('life', 'pids', 'Pids'),
    ms('life', 'pause', 'Pause'),
    ms('life', 'resume', 'Resume'),
    ms('life', 'update', 'Update'),
    ms('life', 'exec', 'exec start..exit'),
    ms('life', 'kill-wait', 'Kill..Wait'),
    ms('life', 'delete', 'Delete'),
    ms('life', 'shutdown', 'Shutdown'),
    ms('life', 'delete-verb', 'delete verb'),
    ms('life', 'whole-life', 'whole life'),
    { name: 'stdout', group: 'stdout', title: 'stdout to a FIFO', unit: 'MB/s' },
    { name: 'stdout-cpu', group: 'stdout', title: 'shim CPU per GiB of stdout', unit: 's' },
    ...[1, 16].flatMap((connections): Measure[] => {
      const on = connections === 1 ? '1 connection' : `${connections} connections`;
      return [
        { name: `calls-${connections}`, group: 'calls', title: `State calls, ${on}`, unit: 'calls/s' },
        { name: `calls-cpu-${connections}`, group: 'calls', title: `shim CPU per State call, ${on}`, unit: 'µs' },
      ];
    }),
    ms('burst', 'burst', '100 containers, 16 at a time'),
    ...memoryCounts.flatMap((count): Measure[] => [
      { name: `memory-${count}`, group: 'memory', title: `PSS per container, ${count} running`, unit: 'MB' },
      {
        name: `unshared-${count}`,
        group: 'memory',
        title: `unshared memory per container, ${count} running`,
        unit: 'MB',
      },
    ]),
    { name: 'idle', group: 'idle', title: 'wake-ups in 20 s, 10 idle containers', unit: '' },
    ms('containerd', 'ctr-run', 'containerd: `ctr run --rm … true`'),
    ms('containerd', 'exec-rate', 'containerd: one of 20 execs per second, Exec..Delete'),
    {
      name: 'cgroup-stats',
      group: 'cgroups',
      title: 'library: stats() against `runc events --stats`',
      unit: 'reads/s',
    },
    {
      name: 'cgroup-files',
      group: 'cgroups',
      title: 'library: stats() against readFile of its files',
      unit: 'reads/s',
    },
    ms('cgroups', 'cgroup-set', 'library: set() against `runc update`'),
    ms('cgroups', 'cgroup-set-systemd', 'library: set() of a scope against `runc update`'),
  ];
}

/**
 * The measures that the words of a command line choose, each a group or the name of one measure; no
 * words mean all.
 * @throws Error for a word that chooses none
 */
export function choose(words: readonly string[], all: readonly Measure[]): ReadonlySet<string> {
  const chosen = new Set<string>();
  for (const word of words) {
    const matches = all.filter((measure) => measure.group === word || measure.name === word);
    if (matches.length === 0) {
      const groups = [...new Set(all.map((measure) => measure.group))].join(' ');
      const names = all.map((measure) => measure.name).join(' ');
      throw new Error(`no measure "${word}". Groups: ${groups}. Measures: ${names}`);
    }
    for (const measure of matches) chosen.add(measure.name);
  }
  return words.length === 0 ? new Set(all.map((measure) => measure.name)) : chosen;
}
