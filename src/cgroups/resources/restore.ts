/** How the earlier content of a cgroup file is written back: few files take what they show. */

/** Files of one line per key, and how a line that was not there before is taken away. */
const KEYED: readonly (readonly [file: RegExp, reset: (key: string) => string | undefined])[] = [
  [/^io\.max$/, (device) => `${device} rbps=max wbps=max riops=max wiops=max`],
  [/^io\.(bfq\.)?weight$/, (device) => `${device} default`],
  [/^io\.latency$/, (device) => `${device} target=max`],
  [/^rdma\.max$/, (device) => `${device} hca_handle=max hca_object=max`],
  [/^misc\.max$/, (resource) => `${resource} max`],
  [/^(dmem|io\.cost)\./, () => undefined],
  [/^net_prio\.ifpriomap$/, (name) => `${name} 0`],
  [/^blkio\.throttle\.\w+_device$/, (device) => `${device} 0`],
  [/^blkio\.(bfq\.)?(leaf_)?weight_device$/, (device) => `${device} default`],
];

/** Files whose writes are actions; what they show is nothing to write back. */
const ACTIONS = /^(cgroup\.(procs|threads|kill|type)|tasks|memory\.(reclaim|force_empty)|\w+(?<!^cgroup)\.pressure)$/;

function linesByKey(content: string): Map<string, string> {
  const lines = new Map<string, string>();
  for (const line of content.split('\n')) {
    if (line !== '') lines.set(line.slice(0, line.search(/ |$/)), line);
  }
  return lines;
}

function restoreKeyed(before: string, now: string, reset: (key: string) => string | undefined): string[] {
  const [earlier, current] = [linesByKey(before), linesByKey(now)];
  const added = [...current.keys()].filter((key) => !earlier.has(key)).map(reset);
  const changed = [...earlier].filter(([key, line]) => current.get(key) !== line).map(([, line]) => line);
  return [...added.filter((line) => line !== undefined), ...changed];
}

/** A set of words of which each is added by "+" and taken away by "-". */
function restoreWords(before: string, now: string): string[] {
  const [earlier, current] = [before, now].map((content) => content.split(/\s+/).filter(Boolean)) as [
    string[],
    string[],
  ];
  const removed = current.filter((name) => !earlier.includes(name)).map((name) => `-${name}`);
  const added = earlier.filter((name) => !current.includes(name)).map((name) => `+${name}`);
  const changes = [...removed, ...added];
  return changes.length === 0 ? [] : [changes.join(' ')];
}

/**
 * What to write, one write(2) each, so that a file shows again what it showed before.
 * @param file its bare name
 * @param now reads what it shows now; called only if that matters
 */
export function restoringWrites(file: string, before: string, now: () => string): string[] {
  if (ACTIONS.test(file)) return [];
  if (file === 'cgroup.subtree_control') return restoreWords(before, now());
  const keyed = KEYED.find(([pattern]) => pattern.test(file));
  const value = before.trim();
  // BFQ before Linux 5.4 shows its weight as one bare number.
  if (keyed !== undefined && !/^\d+$/.test(value)) return restoreKeyed(before, now(), keyed[1]);
  if (file === 'memory.oom_control') return [/^oom_kill_disable (\d)$/m.exec(before)?.[1] ?? '0'];
  // "root invalid (Parent is not a partition root)"
  if (file === 'cpuset.cpus.partition') return [value.split(' ', 1)[0] as string];
  if (value.includes('\n')) return [];
  // An empty list; a write of no bytes at all does other things to some files.
  return [value === '' ? '\n' : value];
}
