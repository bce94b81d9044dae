/**
 * The cgroup library against what it replaces: `runc events --stats` and `runc update` on the same
 * container, and reading the same files with fs.promises.readFile, unparsed. Where systemd manages
 * v2 groups, updates of a scope too.
 */
import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Cgroup, type CgroupDriver, currentLayout } from '../src/cgroups/index.js';
import { type LinuxResources, nodeSpawner, Runc } from '../src/oci/index.js';
import { copyRootfs } from '../test/lib/image.js';
import { bareSpec } from '../test/lib/spec.js';
import type { Plan } from './plan.js';
import { STEP_MS } from './side.js';

const WARM_UP = 2;
const READS = 200;
const FILE_READS = 50;
const MIB = 1 << 20;

interface Running {
  readonly id: string;
  readonly runc: Runc;
  readonly cgroup: Cgroup;
  end(): Promise<void>;
}

async function start(dir: string, driver: CgroupDriver): Promise<Running> {
  const id = `lamina-bench-${process.pid}-${driver}`;
  const bundle = join(dir, id);
  mkdirSync(bundle);
  copyRootfs(join(bundle, 'rootfs'));
  const cgroupsPath = driver === 'fs' ? `/${id}` : `system.slice:lamina:${id}`;
  const spec = bareSpec({ args: ['/bin/sleep', '1000'], rootfs: 'rootfs', cgroupsPath, memoryLimitBytes: 64 * MIB });
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec));
  const systemdCgroup = driver === 'systemd';
  const runc = new Runc({ spawner: nodeSpawner, root: join(dir, 'runc'), systemdCgroup, timeoutMs: STEP_MS });
  const end = async (): Promise<void> => void (await runc.delete(id, { force: true }));
  try {
    const pid = await runc.create(id, { bundle });
    await runc.start(id);
    const cgroup = Cgroup.loadFromPid(pid, { driver, resources: { memory: { limit: 64 * MIB } } });
    return { id, runc, cgroup, end };
  } catch (error) {
    await end();
    throw error;
  }
}

/** The files that `stats` keeps open. */
function openFiles(cgroup: Cgroup): string[] {
  cgroup.stats();
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      return path.startsWith('/sys/fs/cgroup/') && path.includes(cgroup.path) ? [path] : [];
    } catch {
      return []; // The descriptor of readdir itself.
    }
  });
}

async function rate(count: number, read: () => unknown): Promise<number> {
  const begin = performance.now();
  for (let i = 0; i < count; i += 1) await read();
  return (count * 1000) / (performance.now() - begin);
}

async function stats(plan: Plan, { id, runc, cgroup }: Running): Promise<void> {
  const files = openFiles(cgroup);
  for (let round = -WARM_UP; round < plan.rounds; round += 1) {
    const ours = await rate(READS, () => cgroup.stats());
    const runcs = await rate(1, () => runc.events(id));
    const plain = await rate(FILE_READS, () => Promise.all(files.map((file) => readFile(file, 'latin1'))));
    if (round < 0) continue;
    plan.samples.add('cgroup-stats', 'lamina', ours);
    plan.samples.add('cgroup-stats', 'peer', runcs);
    plan.samples.add('cgroup-files', 'lamina', ours);
    plan.samples.add('cgroup-files', 'peer', plain);
  }
  plan.note(`cgroup statistics: ${files.length} files each time`);
}

async function timed(action: () => Promise<void>): Promise<number> {
  const begin = performance.now();
  await action();
  return performance.now() - begin;
}

async function set(plan: Plan, measure: string, { id, runc, cgroup }: Running): Promise<void> {
  for (let round = -WARM_UP; round < plan.rounds; round += 1) {
    const limits = (n: number): LinuxResources => ({
      cpu: { shares: 256 + 10 * (n + WARM_UP), quota: 50_000, period: 100_000 },
      memory: { limit: (96 + n) * MIB },
      pids: { limit: 100 + n },
    });
    const ours = await timed(() => cgroup.set(limits(2 * round)));
    const runcs = await timed(() => runc.update(id, limits(2 * round + 1)));
    if (round < 0) continue;
    plan.samples.add(measure, 'lamina', ours);
    plan.samples.add(measure, 'peer', runcs);
  }
}

/** @param dir for bundles; emptied by the caller */
export async function cgroups(plan: Plan, dir: string): Promise<void> {
  const running = await start(dir, 'fs');
  try {
    await stats(plan, running);
    await set(plan, 'cgroup-set', running);
  } finally {
    running.cgroup.close();
    await running.end();
  }
  const hasSystemd = readFileSync('/proc/1/comm', 'utf8') === 'systemd\n' && currentLayout().mode === 'unified';
  if (!hasSystemd) {
    plan.note('no updates of scopes: this machine has no systemd with cgroup v2');
    return;
  }
  const scope = await start(dir, 'systemd');
  try {
    await set(plan, 'cgroup-set-systemd', scope);
  } finally {
    scope.cgroup.close();
    await scope.end();
  }
  rmSync(join(dir, 'runc'), { recursive: true, force: true });
}
