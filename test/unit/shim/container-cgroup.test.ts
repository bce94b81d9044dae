import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import { Code, LaminaError, silentLogger } from '../../../src/base/index.js';
import type { Runc } from '../../../src/oci/index.js';
import { ContainerCgroup } from '../../../src/shim/container-cgroup.js';
import type { ContainerSettings } from '../../../src/shim/record.js';

const SIGKILL = 9;
const SIGTERM = 15;
/** Above the largest pid there can be. */
const NOBODY = 2 ** 22 + 7;

/** A runtime that writes down what it is called for. */
class RecordingRuntime {
  readonly calls: string[] = [];
  failure: LaminaError | undefined;

  async kill(id: string, signal: number, { all = false } = {}): Promise<void> {
    this.#note(`kill ${id} ${signal}${all ? ' all' : ''}`);
  }

  async pause(id: string): Promise<void> {
    this.#note(`pause ${id}`);
  }

  async resume(id: string): Promise<void> {
    this.#note(`resume ${id}`);
  }

  async update(id: string, resources: Uint8Array): Promise<void> {
    this.#note(`update ${id} ${Buffer.from(resources)}`);
  }

  async ps(id: string): Promise<number[]> {
    this.#note(`ps ${id}`);
    return [5, 6];
  }

  #note(call: string): void {
    this.calls.push(call);
    if (this.failure !== undefined) throw this.failure;
  }
}

describe('the cgroup of a container whose group is not to be seen', () => {
  let runtime: RecordingRuntime;
  let cgroup: ContainerCgroup;

  beforeEach(() => {
    runtime = new RecordingRuntime();
    const settings = { id: 'web', bundle: '/nowhere', systemdCgroup: false };
    cgroup = new ContainerCgroup({
      settings: settings as ContainerSettings,
      runc: runtime as unknown as Runc,
      log: silentLogger,
      onOom: () => undefined,
      save: () => undefined,
      work: () => Promise.reject(new Error('nothing is written here')),
      limitsMs: 1_000,
    });
    cgroup.find(NOBODY);
  });

  it('has the runtime signal, pause, resume, update and list', async () => {
    await cgroup.signalAll(SIGTERM);
    await cgroup.pause();
    await cgroup.resume();
    await cgroup.update(Buffer.from('{}'));
    assert.deepEqual(await cgroup.pids(true), [5, 6]);
    assert.deepEqual(runtime.calls, ['kill web 15 all', 'pause web', 'resume web', 'update web {}', 'ps web']);
  });

  it('has the runtime kill what init has left', async () => {
    await cgroup.endLeftovers('kill');
    assert.deepEqual(runtime.calls, ['kill web 9 all']);
  });

  it('asks for no processes of an init that has ended', async () => {
    assert.deepEqual(await cgroup.pids(false), []);
    assert.deepEqual(runtime.calls, []);
  });

  it('passes on what the runtime could not do for a client', async () => {
    runtime.failure = new LaminaError(Code.FailedPrecondition, 'no');
    await assert.rejects(cgroup.signalAll(SIGKILL), { code: Code.FailedPrecondition });
    await assert.rejects(cgroup.pause(), { code: Code.FailedPrecondition });
    await cgroup.endLeftovers('kill');
  });

  it('has no statistics, and says so', () => {
    assert.throws(() => cgroup.stats(), { code: Code.NotFound });
  });

  it('refuses an update where the runtime would bring older limits back', async () => {
    cgroup.restore({ cgroup: '0::/lamina-nosuch\n', oomKills: '3', isShort: false, limits: { pids: { limit: 9 } } });
    await assert.rejects(cgroup.update(Buffer.from('{}')), { code: Code.Unavailable, subject: 'web' });
    assert.deepEqual(runtime.calls, []);
  });

  it('is recorded all the same, for a successor that can see it', () => {
    cgroup.restore({ cgroup: '0::/lamina-nosuch\n', oomKills: '3', isShort: true, limits: undefined });
    const { cgroup: membership, oomKills, isShort } = cgroup.record;
    assert.deepEqual([membership, oomKills, isShort], ['0::/lamina-nosuch\n', '3', true]);
  });
});
