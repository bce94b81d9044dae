/**
 * Changing the limits of containers (Task.Update) through a shim without a daemon: the same steps
 * for the stock shim, as the witness that an expectation is right, and for Lamina. After every step
 * all limit files of the container's group are compared, not only the changed ones.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import * as api from '../../src/api/index.js';
import { SIGKILL } from '../../src/sys/index.js';
import type { Runtime } from './box.js';
import { mustRun } from './command.js';
import { killEngine } from './processes.js';
import { cgroupMode } from './requires.js';
import { FakeDaemon, type ShimHandle } from './shim-client.js';

const MIB = 1024 * 1024;
const SHIMS = { stock: 'containerd-shim-runc-v2', lamina: 'containerd-shim-lamina-v2' } as const;

const LIMIT_FILES = {
  v1: [
    ...['limit_in_bytes', 'soft_limit_in_bytes', 'memsw.limit_in_bytes', 'swappiness'].map((name) => `memory.${name}`),
    ...['shares', 'cfs_quota_us', 'cfs_period_us', 'cfs_burst_us'].map((name) => `cpu.${name}`),
    ...['cpuset.cpus', 'cpuset.mems', 'pids.max', 'blkio.weight', 'devices.list', 'freezer.state'],
  ],
  v2: [
    ...['min', 'low', 'high', 'max', 'swap.max', 'oom.group'].map((name) => `memory.${name}`),
    ...['idle', 'max', 'max.burst', 'weight'].map((name) => `cpu.${name}`),
    ...['cpuset.cpus', 'cpuset.mems', 'pids.max', 'io.weight', 'io.bfq.weight', 'io.max', 'cgroup.freeze'],
  ],
} as const;

export type Limits = Readonly<Record<string, string>>;

/** The limit files of a process's group. */
export function readLimits(pid: number): Limits {
  const mode = cgroupMode();
  const found: Record<string, string> = {};
  for (const line of readFileSync(`/proc/${pid}/cgroup`, 'utf8').split('\n').filter(Boolean)) {
    const [, controllers = '', path = ''] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    for (const controller of controllers.split(',')) {
      const root = controller === '' ? '/sys/fs/cgroup' : `/sys/fs/cgroup/${controller.replace(/^name=/, '')}`;
      for (const file of LIMIT_FILES[mode]) {
        if (existsSync(`${root}${path}/${file}`)) found[file] = readFileSync(`${root}${path}/${file}`, 'utf8').trim();
      }
    }
  }
  return found;
}

interface Step {
  readonly title: string;
  readonly update: Readonly<Record<string, unknown>>;
  /**
   * The files it changes, and what they say then; undefined: it is refused, and changes nothing.
   */
  readonly changes: Readonly<Record<'v1' | 'v2', Limits>> | undefined;
  /** Why runc does something else. */
  readonly notStock?: string;
}

const START = {
  memory: { limit: 32 * MIB, reservation: 24 * MIB },
  cpu: { shares: 100, quota: 50_000, period: 100_000 },
  pids: { limit: 20 },
};

const STEPS: readonly Step[] = [
  {
    title: 'a memory limit alone',
    update: { memory: { limit: 64 * MIB } },
    changes: { v1: { 'memory.limit_in_bytes': String(64 * MIB) }, v2: { 'memory.max': String(64 * MIB) } },
  },
  {
    title: 'a quota alone, which keeps the period',
    update: { cpu: { quota: 30_000 } },
    changes: { v1: { 'cpu.cfs_quota_us': '30000' }, v2: { 'cpu.max': '30000 100000' } },
  },
  {
    title: 'a period alone, which keeps the quota',
    update: { cpu: { period: 50_000 } },
    changes: { v1: { 'cpu.cfs_period_us': '50000' }, v2: { 'cpu.max': '30000 50000' } },
  },
  {
    title: 'a period with a quota of 0, as Docker sends it',
    update: { cpu: { shares: 0, quota: 0, period: 100_000, cpus: '', mems: '' }, memory: { limit: 0 } },
    changes: { v1: { 'cpu.cfs_period_us': '100000' }, v2: { 'cpu.max': '30000 100000' } },
  },
  {
    title: 'the number of processes, with devices, which are not looked at',
    update: { pids: { limit: 31 }, devices: [{ allow: true, access: 'rwm' }] },
    changes: { v1: { 'pids.max': '31' }, v2: { 'pids.max': '31' } },
  },
  {
    title: 'null members, which are none',
    update: { pids: { limit: 32 }, memory: null, cpu: { quota: null } },
    changes: { v1: { 'pids.max': '32' }, v2: { 'pids.max': '32' } },
  },
  {
    title: 'a period that the kernel does not take, after a limit that it does',
    update: { pids: { limit: 7 }, cpu: { quota: 20_000, period: 100 } },
    changes: undefined,
    notStock: 'runc leaves the quota changed',
  },
  {
    title: 'a total below the memory limit',
    update: { pids: { limit: 8 }, memory: { limit: 48 * MIB, swap: 40 * MIB } },
    changes: undefined,
    notStock: 'runc leaves the memory limit changed',
  },
  { title: 'what is no number', update: { pids: { limit: 'many' } }, changes: undefined },
  {
    title: 'zeros all over, which mean nothing',
    update: {
      cpu: { shares: 0, quota: 0, period: 0, cpus: '', mems: '' },
      memory: { limit: 48 * MIB, reservation: 0 },
      blockIO: { weight: 0 },
    },
    changes: { v1: { 'memory.limit_in_bytes': String(48 * MIB) }, v2: { 'memory.max': String(48 * MIB) } },
  },
  {
    title: 'a quota alone after zeros',
    update: { cpu: { quota: 40_000 } },
    changes: { v1: { 'cpu.cfs_quota_us': '40000' }, v2: { 'cpu.max': '40000 100000' } },
  },
  {
    title: 'a quota lifted',
    update: { cpu: { quota: -1 } },
    changes: { v1: { 'cpu.cfs_quota_us': '-1' }, v2: { 'cpu.max': 'max 100000' } },
  },
  {
    title: 'no memory limit any more',
    update: { memory: { limit: -1 } },
    changes: { v1: { 'memory.limit_in_bytes': '9223372036854771712' }, v2: { 'memory.max': 'max' } },
  },
];

const V2_STEPS: readonly Step[] = [
  {
    title: 'files by name',
    update: { unified: { 'memory.high': String(20 * MIB), 'memory.min': '131072' } },
    changes: { v1: {}, v2: { 'memory.high': String(20 * MIB), 'memory.min': '131072' } },
  },
  {
    title: 'shares by the formula of today',
    update: { cpu: { shares: 1024 } },
    changes: { v1: {}, v2: { 'cpu.weight': '100' } },
    notStock: 'runc before 1.3.2 has another formula',
  },
];

export interface UpdatePlace {
  readonly runtime: Runtime;
  readonly skip: string | false;
  /** Let systemd make the scope, and reload it after every step. */
  readonly systemd?: boolean;
  readonly binary?: 'runc' | 'crun';
}

export function updateSuite({ runtime, skip, systemd = false, binary = 'runc' }: UpdatePlace): void {
  const driver = systemd ? 'systemd' : 'cgroupfs';
  describe(`changing limits with ${driver} and ${binary} [${runtime.label}]`, { skip: skip || runtime.skip }, () => {
    let daemon: FakeDaemon;
    let shim: ShimHandle;
    let pid: number;

    const update = async (resources: unknown): Promise<void> => {
      const packed = api.packJson(api.OCI_TYPE_URL.linuxResources, resources);
      await shim.task.update({ id: shim.id, resources: packed, annotations: {} });
    };

    /** Changes that systemd does not undo when it reads everything anew, and those only. */
    const check = async (before: Limits, changes: Limits): Promise<void> => {
      const present = Object.fromEntries(Object.entries(changes).filter(([file]) => file in before));
      assert.ok(Object.keys(present).length === Object.keys(changes).length, `no file of ${Object.keys(changes)}`);
      assert.deepEqual(readLimits(pid), { ...before, ...changes });
      if (!systemd) return;
      await mustRun(['systemctl', 'daemon-reload']);
      assert.deepEqual(readLimits(pid), { ...before, ...changes }, 'after systemctl daemon-reload');
    };

    before(async () => {
      daemon = await FakeDaemon.start(SHIMS[runtime.label]);
      const cgroupsPath = systemd ? { cgroupsPath: (id: string) => `system.slice:lamina:${id}` } : {};
      shim = await daemon.launch({ args: ['/bin/sleep', '1000'], resources: START, ...cgroupsPath });
      const options = api.packMessage(
        api.runc.Options,
        api.runc.Options.fromPartial({ systemdCgroup: systemd, binaryName: binary }),
      );
      pid = await daemon.create(shim, { options });
      await shim.task.start({ id: shim.id, execId: '' });
    });

    after(async () => {
      const init = { id: shim.id, execId: '' };
      await shim.task.kill({ ...init, signal: SIGKILL, all: true });
      await shim.task.wait(init);
      await shim.task.delete(init);
      await shim.task.shutdown({ id: shim.id, now: false }).catch(() => undefined);
      await daemon.stop();
    });

    for (const step of cgroupMode() === 'v2' ? [...STEPS, ...V2_STEPS] : STEPS) {
      const isSkipped = runtime.label === 'stock' && step.notStock;
      it(`${step.changes === undefined ? 'refuses' : 'takes'} ${step.title}`, {
        skip: isSkipped || false,
      }, async () => {
        const before = readLimits(pid);
        const done = update(step.update);
        if (step.changes === undefined) await assert.rejects(done);
        else await done;
        await check(before, step.changes?.[cgroupMode()] ?? {});
      });
    }

    it('leaves a paused container paused', async () => {
      await shim.task.pause({ id: shim.id });
      const before = readLimits(pid);
      await update({ pids: { limit: 44 }, memory: { limit: 96 * MIB } });
      const limit = cgroupMode() === 'v2' ? 'memory.max' : 'memory.limit_in_bytes';
      await check(before, { 'pids.max': '44', [limit]: String(96 * MIB) });
      const { status } = await shim.task.state({ id: shim.id, execId: '' });
      assert.equal(status, api.Status.PAUSED);
      await shim.task.resume({ id: shim.id });
    });

    it('knows the limits in force after its engine was replaced', {
      skip: runtime.label === 'stock' && 'there is one process',
    }, async () => {
      await update({ cpu: { quota: 60_000, period: 200_000 } });
      await killEngine(daemon);
      const before = readLimits(pid);
      await update({ cpu: { quota: 50_000 } });
      const changes = { v1: { 'cpu.cfs_quota_us': '50000' }, v2: { 'cpu.max': '50000 200000' } };
      await check(before, changes[cgroupMode()]);
    });

    const isRuntimeRun = runtime.label === 'stock' ? 'it does' : binary === 'crun' && 'crun notes no limits';
    it('runs no runtime for it', { skip: isRuntimeRun }, () => {
      // What runc knows is what it knew at the create.
      const state = readFileSync(`/run/containerd/runc/${daemon.namespace}/${shim.id}/state.json`, 'utf8');
      assert.equal(JSON.parse(state).config.cgroups.pids_limit, START.pids.limit);
    });
  });
}
