import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { testRuntimes } from '../../lib/box.js';
import { Containerd } from '../../lib/containerd.js';
import { K8S_NAMESPACE, Kubelet, type Pod } from '../../lib/kubelet.js';
import { Leaks } from '../../lib/leaks.js';
import { isAlive, listProcesses, readProcFile } from '../../lib/proc.js';
import { keepers, replaceEngine } from '../../lib/processes.js';
import { ALONE, USE_SYSTEMD } from '../../lib/repo.js';
import { requires } from '../../lib/requires.js';
import { until } from '../../lib/wait.js';

const skip = requires({ root: true, runc: '1.1', containerd: '1.6', programs: ['ctr'] });

/** Writes a line, then waits for SIGTERM and ends with 7. */
const SERVER = ['sh', '-c', 'trap "echo bye; exit 7" TERM; echo here; echo error >&2; while :; do sleep 0.05; done'];
const MIB = 2n ** 20n;

// In the guest, where everything is slow, Lamina is tried; on a machine itself it is compared.
const runtimes = testRuntimes().filter((runtime) => runtime.label === 'lamina' || !ALONE);

for (const runtime of runtimes) {
  describe(`Kubernetes' pods with ${runtime.name}`, { skip: skip || runtime.skip }, () => {
    let daemon: Containerd;
    let leaks: Leaks;
    let kubelet: Kubelet;

    before(async () => {
      daemon = await Containerd.start({ cri: true });
      leaks = new Leaks(daemon);
      for (const file of ['image.tar', 'pause.tar'] as const) await daemon.importImage(K8S_NAMESPACE, file);
      kubelet = await Kubelet.start(daemon);
    });

    after(async () => {
      kubelet?.close();
      await daemon?.stop();
      leaks?.sweep();
      daemon?.removeFolder();
    });

    /** Gives a test a pod, and takes it away whatever happens. */
    async function inPod(
      use: (pod: Pod) => Promise<void>,
      options: { readonly sharePid?: boolean } = {},
    ): Promise<void> {
      const pod = await kubelet.runPod(runtime.label === 'stock' ? 'stock' : daemon.laminaHandler, options);
      try {
        await use(pod);
      } finally {
        await pod.remove();
      }
    }

    it('keeps all containers of a pod with one shim, and their output and statuses apart', async () => {
      await inPod(async (pod) => {
        const first = await pod.start(SERVER);
        const second = await pod.start(['sh', '-c', 'echo one; exit 3']);
        const third = await pod.start(['true']);
        assert.equal(
          listProcesses().filter((info) => info.commandLine.includes(pod.id) && /shim/.test(info.commandLine)).length,
          1,
        );
        assert.equal(keepers(daemon).length, runtime.label === 'lamina' ? 1 : 0);

        const failed = await second.ended();
        assert.equal(failed.exitCode, 3);
        assert.equal(failed.reason, 'Error');
        assert.deepEqual(second.log(), ['stdout one']);
        const done = await third.ended();
        assert.equal(done.exitCode, 0);
        assert.equal(done.reason, 'Completed');
        // when it started is noted after it has: a short life is over by then
        assert.ok(done.createdAt <= done.startedAt && done.createdAt <= done.finishedAt);

        await until('both lines are logged', () => first.log().length === 2);
        assert.deepEqual(new Set(first.log()), new Set(['stderr error', 'stdout here']));
        await first.stop(30);
        const stopped = await first.status();
        assert.equal(stopped.exitCode, 7);
        assert.deepEqual(first.log().slice(2), ['stdout bye']);
        await second.remove();
        await assert.rejects(second.status(), /not found/);
      });
    });

    it('runs commands in a container, and ends those that take too long', async () => {
      await inPod(async (pod) => {
        const container = await pod.start(SERVER);
        const result = await container.exec(['sh', '-c', 'echo out; echo err >&2; exit 5']);
        assert.deepEqual(result, { stdout: 'out\n', stderr: 'err\n', code: 5 });
        await assert.rejects(container.exec(['sleep', '12345'], 1), /timeout 1s exceeded/);
        await until('the command is gone', async () => !(await container.exec(['ps'])).stdout.includes('12345'));
        await assert.rejects(container.exec(['/no/such/program']), /no such file or directory/);
        const large = await container.exec(['sh', '-c', 'head -c 3000000 /dev/zero | tr "\\0" x']);
        assert.equal(large.stdout.length, 3_000_000);
      });
    });

    it('tells what a container uses, and changes its limits', async () => {
      await inPod(async (pod) => {
        const limits = { cpuPeriod: 100_000n, cpuQuota: 50_000n, cpuShares: 512n, memoryLimitInBytes: 64n * MIB };
        const container = await pod.start(SERVER, { resources: limits });
        const place = readProcFile(await container.pid(), 'cgroup');
        assert.match(place, USE_SYSTEMD ? /\.slice\/cri-containerd-\w+\.scope$/m : /-pods\/\w+$/m);
        const { cpu, memory } = await container.stats();
        assert.ok((cpu?.usageCoreNanoSeconds?.value ?? 0n) > 0n);
        assert.ok((memory?.workingSetBytes?.value ?? 0n) > 0n && (memory?.workingSetBytes?.value ?? 0n) <= 64n * MIB);
        await container.update({ ...limits, memoryLimitInBytes: 96n * MIB });
        const file = ['/sys/fs/cgroup/memory/memory.limit_in_bytes', '/sys/fs/cgroup/memory.max'];
        const { stdout } = await container.exec(['sh', '-c', `cat ${file.join(' ')} 2>/dev/null || true`]);
        assert.equal(BigInt(stdout.trim()), 96n * MIB);
      });
    });

    it('says that a container ran out of memory', async () => {
      await inPod(async (pod) => {
        const container = await pod.start(['probe', 'hog', String(64n * MIB)], {
          resources: { memoryLimitInBytes: 16n * MIB },
        });
        assert.equal((await container.ended()).exitCode, 137);
        // The event that says so may be told after the exit; the stock shim may never tell it.
        if (runtime.label === 'stock') return;
        await until('the reason is known', async () => (await container.status()).reason === 'OOMKilled');
      });
    });

    it('ends what is left of a container in a shared pid namespace', async () => {
      // no other process has this in its command line
      const sleep = `sleep ${1_000_000 + process.pid}`;
      const sleepers = (): number => listProcesses().filter((info) => info.commandLine === sleep).length;
      await inPod(
        async (pod) => {
          const container = await pod.start(['sh', '-c', `${sleep} & ${sleep} & wait`]);
          await until('the processes are there', () => sleepers() === 2);
          await container.stop(0);
          assert.equal((await container.status()).exitCode, 137);
          await until('the others are gone', () => sleepers() === 0);
        },
        { sharePid: true },
      );
    });

    it('finds pods in working order when containerd comes back', async () => {
      await inPod(async (pod) => {
        const stays = await pod.start(SERVER);
        const ends = await pod.start(SERVER);
        await until('the traps are set', () => stays.log().length === 2 && ends.log().length === 2);
        const init = await ends.pid();
        await daemon.killHard();
        process.kill(init, 'SIGTERM');
        await until('the container has ended', () => !isAlive(init));
        await daemon.restart();
        await kubelet.reconnect();
        // the plugin of containerd 1.7 and later gives up on what has ended meanwhile, with either
        // shim
        const codes = daemon.version.startsWith('1.6') ? [7] : [7, 255];
        assert.ok(codes.includes((await ends.ended()).exitCode));
        assert.equal((await stays.exec(['echo', 'on'])).stdout, 'on\n');
        await stays.stop(30);
        assert.equal((await stays.status()).exitCode, 7);
      });
    });

    if (runtime.label === 'lamina') {
      it('keeps pods through the death of the engine', async () => {
        await inPod(async (pod) => {
          const container = await pod.start(SERVER);
          await until('the trap is set', () => container.log().length === 2);
          const running = container.exec([
            'sh',
            '-c',
            'echo begin; while [ ! -e /go ]; do sleep 0.05; done; echo end; exit 4',
          ]);
          await until('the command runs', async () => (await container.exec(['ps'])).stdout.includes('echo begin'));
          await replaceEngine(daemon);
          assert.equal((await container.exec(['touch', '/go'])).code, 0);
          assert.deepEqual(await running, { stdout: 'begin\nend\n', stderr: '', code: 4 });
          await container.stop(30);
          assert.equal((await container.status()).exitCode, 7);
        });
        await until('its keeper has gone', () => keepers(daemon).length === 0);
      });
    }

    it('leaves nothing behind', async () => {
      kubelet.close();
      await daemon.stop();
      await kubelet.removeCgroupParent();
      await leaks.check();
    });
  });
}
