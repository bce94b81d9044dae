/**
 * What the suites about scopes and slices share: groups made with systemd that end with their test,
 * and nothing left of them afterwards.
 */
import assert from 'node:assert/strict';
import { after, afterEach, before } from 'node:test';
import { type Code, LaminaError } from '../../../src/base/index.js';
import { Cgroup } from '../../../src/cgroups/manager.js';
import type { CreateOptions } from '../../../src/cgroups/options.js';
import { systemdManager } from '../../../src/cgroups/systemd/manager.js';
import { until } from '../../lib/wait.js';
import { Leftovers } from './leftovers.js';
import { Processes, systemctl, units } from './systemd-machine.js';

export interface Units {
  readonly processes: Processes;
  /** A new group, by default a scope of its own, ended with the test. */
  create(options?: Partial<CreateOptions>): Promise<Cgroup>;
}

/** Hooks of a suite, which calls this where it begins. */
export function useUnits(): Units {
  const processes = new Processes();
  const made = new Set<Cgroup>();
  let leftovers: Leftovers;
  let unitsBefore: string[];
  let count = 0;

  before(async () => {
    leftovers = new Leftovers();
    unitsBefore = await units();
  });

  afterEach(async () => {
    for (const cgroup of made) {
      await cgroup.kill();
      await cgroup.destroy();
    }
    made.clear();
    await processes.end();
  });

  after(async () => {
    // The slices above a nested one stay, as systemd makes them by itself.
    const nested = (await units()).filter((unit) => /^lamt.*\.slice$/.test(unit));
    if (nested.length > 0) await systemctl('stop', ...nested);
    await leftovers.check();
    await until('systemd knows no other units than before', async () => {
      const now = await units();
      return now.every((unit) => unitsBefore.includes(unit));
    });
    systemdManager().close();
  });

  const create = async (options: Partial<CreateOptions> = {}): Promise<Cgroup> => {
    count += 1;
    const cgroup = await Cgroup.create({ path: `:lamt:${count}`, driver: 'systemd', ...options });
    made.add(cgroup);
    return cgroup;
  };
  return { processes, create };
}

export function unitOf(cgroup: Cgroup): string {
  return cgroup.path.split('/').at(-1) as string;
}

/** For `assert.rejects`: an error of this code that says this. */
export function refused(code: Code, text: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof LaminaError, String(error));
    assert.match(error.message, text);
    assert.equal(error.code, code, error.message);
    return true;
  };
}
