import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { mustRun } from '../../lib/command.js';
import { Containerd } from '../../lib/containerd.js';
import { type ContainerOptions, type IdRange, K8S_NAMESPACE, Kubelet, type Pod } from '../../lib/kubelet.js';
import { Leaks } from '../../lib/leaks.js';
import { readProcess, readProcFile } from '../../lib/proc.js';
import { LAMINA_BIN } from '../../lib/repo.js';
import { requires } from '../../lib/requires.js';
import { until } from '../../lib/wait.js';

const SHIM = join(LAMINA_BIN, 'containerd-shim-lamina-v2');
const IDS: IdRange = { hostId: 65_536, length: 65_536 };
const WAITS = ['sh', '-c', 'trap "exit 7" TERM; echo up; while :; do sleep 0.05; done'];

// The plugin of containerd 1.6 knows no user namespaces.
const skip = requires({
  root: true,
  cgroup: 'v2',
  systemd: true,
  runc: '1.2',
  containerd: '2.0',
  programs: ['ctr'],
  files: { [SHIM]: 'scripts/install build/install' },
});

/** A daemon with CRI's plugin, and pods on it. */
class Node {
  readonly daemon: Containerd;
  readonly kubelet: Kubelet;
  readonly #leaks: Leaks;

  private constructor(daemon: Containerd, kubelet: Kubelet, leaks: Leaks) {
    this.daemon = daemon;
    this.kubelet = kubelet;
    this.#leaks = leaks;
  }

  static async start(shimPath: string): Promise<Node> {
    const daemon = await Containerd.start({ cri: true, shimPath });
    const leaks = new Leaks(daemon);
    for (const file of ['image.tar', 'pause.tar'] as const) await daemon.importImage(K8S_NAMESPACE, file);
    return new Node(daemon, await Kubelet.start(daemon), leaks);
  }

  /** Gives a test a pod, and takes it away whatever happens. */
  async inPod(handler: string, use: (pod: Pod) => Promise<void>, userns?: IdRange): Promise<void> {
    const pod = await this.kubelet.runPod(handler, userns === undefined ? {} : { userns });
    try {
      await use(pod);
    } finally {
      await pod.remove();
    }
  }

  /** What a command in a pod with a user namespace prints, as its log has it. */
  async logOf(handler: string, command: readonly string[], options: ContainerOptions = {}): Promise<string[]> {
    let lines: string[] = [];
    const use = async (pod: Pod): Promise<void> => {
      const container = await pod.start(command, options);
      const { exitCode } = await container.ended();
      lines = container.log();
      assert.equal(exitCode, 0, lines.join('\n'));
    };
    await this.inPod(handler, use, IDS);
    return lines;
  }

  async stop(): Promise<void> {
    this.kubelet.close();
    await this.daemon.stop();
    await this.kubelet.removeCgroupParent();
    await this.#leaks.check();
  }

  /** After a failure: whatever is left. */
  async clear(): Promise<void> {
    this.kubelet.close();
    await this.daemon.stop();
    this.#leaks.sweep();
    this.daemon.removeFolder();
  }
}

describe('pods with a user namespace', { skip }, () => {
  let node: Node;

  before(async () => {
    node = await Node.start(SHIM);
  });
  after(() => node?.clear());

  for (const handler of ['stock', 'lamina']) {
    it(`have the ids that were asked for, and a root file system of theirs [${handler}]`, async () => {
      const script = 'cat /proc/self/uid_map /proc/self/gid_map | tr -s " "; stat -c "%u %g" /root';
      const log = await node.logOf(handler, ['sh', '-c', script]);
      const map = `stdout  0 ${IDS.hostId} ${IDS.length}`;
      assert.deepEqual(log, [map, map, 'stdout 0 0']);
    });

    it(`may open their standard streams anew [${handler}]`, async () => {
      const script = 'echo one >/proc/self/fd/1; echo two >/proc/self/fd/2; stat -L -c "%u" /proc/self/fd/1';
      const log = await node.logOf(handler, ['sh', '-c', script]);
      assert.deepEqual(new Set(log), new Set(['stdout one', 'stderr two', 'stdout 0']));
    });

    it(`own what the volume’s owner on the node owns [${handler}]`, async () => {
      const hostPath = join(node.daemon.dir, `volume-${handler}`);
      mkdirSync(hostPath, { mode: 0o755 });
      const script = 'stat -c "%u %g" /mnt; echo here >/mnt/file; cat /mnt/file';
      const log = await node.logOf(handler, ['sh', '-c', script], { volume: { hostPath, path: '/mnt' } });
      assert.deepEqual(log, ['stdout 0 0', 'stdout here']);
      assert.equal((await mustRun(['stat', '-c', '%u', join(hostPath, 'file')])).trim(), '0');
    });

    it(`run commands, are measured, and stop when asked to [${handler}]`, async () => {
      const use = async (pod: Pod): Promise<void> => {
        const container = await pod.start(WAITS);
        const { stdout, code } = await container.exec(['sh', '-c', 'id -u; cut -c 1-40 /proc/self/uid_map']);
        assert.deepEqual([code, stdout.split('\n')[0]], [0, '0']);
        assert.match(stdout, new RegExp(`0 +${IDS.hostId}`));
        const init = await container.pid();
        assert.match(readProcFile(init, 'status'), new RegExp(`^Uid:\t${IDS.hostId}\t`, 'm'));
        assert.match(readProcFile(init, 'cgroup'), /\.slice\/cri-containerd-\w+\.scope$/m);
        assert.ok(((await container.stats()).memory?.workingSetBytes?.value ?? 0n) > 0n);
        await until('the trap is set', () => container.log().includes('stdout up'));
        await container.stop(60);
        assert.equal((await container.status()).exitCode, 7);
      };
      await node.inPod(handler, use, IDS);
    });
  }

  it('are what the other way of naming the shim does not have', async () => {
    const start = async (pod: Pod): Promise<void> => void (await pod.start(['true']));
    await node.inPod('lamina-type', start);
    await assert.rejects(node.inPod('lamina-type', start, IDS), /runtimeoptions\.v1\.Options/);
  });

  it('leave nothing behind', () => node.stop());
});

describe('a shim named by its path', { skip }, () => {
  let node: Node;
  const folder = '/opt/lamina-elsewhere';
  const copy = join(folder, 'shim');

  before(async () => {
    mkdirSync(folder, { recursive: true });
    copyFileSync(SHIM, copy);
    node = await Node.start(copy);
  });
  after(async () => {
    await node?.clear();
    await mustRun(['rm', '-rf', folder]);
  });

  it('serves pods from wherever it was copied to, and the command knows its keepers', async () => {
    await node.inPod('lamina', async (pod) => {
      const container = await pod.start(WAITS);
      const keeper = readProcess(await container.pid())?.ppid ?? 0;
      assert.ok(readProcess(keeper)?.commandLine.startsWith(`${copy} `), readProcess(keeper)?.commandLine);
      const env = { LAMINA_STATE_DIR: node.daemon.env['LAMINA_STATE_DIR'] ?? '' };
      const status = await mustRun([join(LAMINA_BIN, 'lamina'), 'engine', 'status'], { env });
      assert.match(status, new RegExp(`\\b${keeper}\\b`));
      await mustRun([join(LAMINA_BIN, 'lamina'), 'engine', 'upgrade'], { env });
      assert.equal((await container.exec(['echo', 'on'])).stdout, 'on\n');
    });
  });

  it('serves ctr by that path', async () => {
    const { daemon } = node;
    const namespace = await daemon.namespace('path');
    const flags = ['--runtime', copy, '--fifo-dir', join(daemon.dir, 'fifo')];
    daemon.track(namespace, 'by-path');
    const args = ['run', '--rm', ...flags, 'lamina.test/probe:latest', 'by-path', 'sh', '-c', 'echo out; exit 5'];
    assert.deepEqual(await daemon.ctr(namespace, args), { stdout: 'out\n', stderr: '', code: 5 });
  });

  it('leaves nothing behind', () => node.stop());
});
