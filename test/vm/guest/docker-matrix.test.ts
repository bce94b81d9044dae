import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { mustRun, runCommand } from '../../lib/command.js';
import { imageFolder } from '../../lib/image.js';
import { type Choice, chosenCases, HOWS, type How, STREAMS } from '../../lib/matrix/cases.js';
import { writeData } from '../../lib/matrix/data.js';
import type { Client } from '../../lib/matrix/player.js';
import { playAll } from '../../lib/matrix/suite.js';
import { requires } from '../../lib/requires.js';
import { Leftovers } from './leftovers.js';
import { missingShim, RUNTIMES, STOCK } from './machine.js';

const IMAGE = 'lamina.test/probe:matrix';

/** Clients that run at the same time. */
const AT_ONCE = 4;

/** A guest is slow: for the stock shim, as the witness, one size will do. */
const CHOICES: Readonly<Record<How, Choice>> = {
  exec: { first: [40, 15_000, 1_000_000], later: [40] },
  run: { first: [15_000], later: [] },
};
const WITNESS: Readonly<Record<How, Choice>> = { exec: { first: [40], later: [] }, run: { first: [40], later: [] } };

for (const runtime of RUNTIMES) {
  const skip =
    requires({ root: true, cgroup: 'v2', systemd: true, docker: true, programs: ['script'] }) || missingShim(runtime);
  describe(`bytes through docker with ${runtime}`, { skip }, () => {
    const name = 'vm-matrix';
    let leftovers: Leftovers;
    let wasRunning = false;
    let client: Client;
    let folder = '';

    before(async () => {
      wasRunning = (await runCommand(['systemctl', 'is-active', '-q', 'docker'])).code === 0;
      await mustRun(['systemctl', 'start', 'docker']);
      const rootfs = join(imageFolder(), 'rootfs');
      await mustRun(['sh', '-c', `tar -C '${rootfs}' -c . | docker import -c 'ENV PATH=/bin' - ${IMAGE}`]);
      leftovers = new Leftovers();
      folder = mkdtempSync(join(tmpdir(), 'lamina-matrix-'));
      writeData(folder);
      const flags = ['--runtime', runtime, '--network', 'none', '--volume', `${folder}:/data:ro`];
      await mustRun(['docker', 'run', '-d', '--name', name, ...flags, IMAGE, 'sleep', '1000000']);
      client = {
        folder,
        argv(test, argv, terminal) {
          const how = terminal ? '-it' : '-i';
          return test.how === 'exec'
            ? ['docker', 'exec', how, name, ...argv]
            : ['docker', 'run', '--rm', how, ...flags, IMAGE, ...argv];
        },
      };
    });

    after(async () => {
      await runCommand(['docker', 'rm', '-f', name]);
      rmSync(folder, { recursive: true, force: true });
      await leftovers.check();
      await runCommand(['docker', 'rmi', '-f', IMAGE]);
      if (!wasRunning) await mustRun(['systemctl', 'stop', 'docker.socket', 'docker']);
    });

    const choices = runtime === STOCK ? WITNESS : CHOICES;
    for (const how of HOWS) {
      for (const stream of STREAMS) {
        it(`arrive as they were sent: ${how}, ${stream}`, async () => {
          await playAll(client, chosenCases(how, stream, choices[how]), AT_ONCE);
          const running = await mustRun(['docker', 'inspect', '-f', '{{.State.Running}}', name]);
          assert.equal(running.trim(), 'true');
        });
      }
    }
  });
}
