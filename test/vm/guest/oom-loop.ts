/**
 * Runs containers out of memory again and again, and counts how often that was not told; with `kill`, kills containers that keep hitting
 * their limit, and counts how often an OOM was told that there was not. Not part of any suite: races show in numbers.
 *
 *     node test/vm/run.mjs --timeout 1200 -- node dist/test/vm/guest/oom-loop.js docker|ctr oom|kill COUNT
 *
 * Both under systemd, whose scopes are gone the moment they are empty. LAMINA_TEST_RUNTIMES picks the runtimes; default: Lamina's.
 */
import { join } from 'node:path';
import { mustRun } from '../../lib/command.js';
import { imageFolder } from '../../lib/image.js';
import { LAMINA, Machine, TaskEvents } from './machine.js';

const LIMIT = String(16 * 1024 * 1024);
const TIMEOUT_MS = 90_000;
const DOCKER_IMAGE = 'lamina.test/probe:loop';
/** Page cache of a file larger than the limit: every read hits it, and nobody has to die. */
const PRESSURE = 'dd if=/dev/zero of=/big bs=1M count=32 && echo full && while :; do cat /big > /dev/null; done';
const COMMANDS = { oom: ['probe', 'hog', String(256 * 1024 * 1024)], kill: ['sh', '-c', PRESSURE] } as const;

type Kind = keyof typeof COMMANDS;

/** Runs one container to its end. @returns whether an OOM was told */
type Round = (name: string, kind: Kind) => Promise<boolean>;

async function docker(args: readonly string[]): Promise<string> {
  return (await mustRun(['docker', ...args], { timeoutMs: TIMEOUT_MS })).trim();
}

/** Waits until the scope has hit its limit at least so often. */
async function waitForPressure(pid: number): Promise<void> {
  const script =
    'f=/sys/fs/cgroup$(cut -d: -f3 /proc/$0/cgroup)/memory.events; until [ "$(sed -n "s/^max //p" $f)" -gt 20 ]; do :; done';
  await mustRun(['sh', '-c', script, String(pid)], { timeoutMs: TIMEOUT_MS });
}

async function dockerRounds(runtime: string): Promise<Round> {
  await mustRun(['systemctl', 'start', 'docker'], { timeoutMs: TIMEOUT_MS });
  const rootfs = join(imageFolder(), 'rootfs');
  await mustRun(['sh', '-c', `tar -C '${rootfs}' -c . | docker import -c 'ENV PATH=/bin' - ${DOCKER_IMAGE}`]);
  return async (name, kind) => {
    const flags = ['--network', 'none', '--memory', LIMIT, '--memory-swap', LIMIT];
    await docker(['run', '-d', '--runtime', runtime, '--name', name, ...flags, DOCKER_IMAGE, ...COMMANDS[kind]]);
    if (kind === 'kill') {
      await waitForPressure(Number(await docker(['inspect', '-f', '{{.State.Pid}}', name])));
      await docker(['kill', name]);
    }
    const code = await docker(['wait', name]);
    if (code !== '137') throw new Error(`${name} exited with ${code}`);
    const told = await docker(['inspect', '-f', '{{.State.OOMKilled}}', name]);
    await docker(['rm', name]);
    return told === 'true';
  };
}

async function ctrRounds(runtime: string): Promise<Round> {
  const machine = new Machine(runtime);
  await machine.importImage();
  const events = await TaskEvents.start(machine);
  return async (name, kind) => {
    const options = { cgroup: `system.slice:lamina:${name}`, flags: ['--memory-limit', LIMIT] };
    if (kind === 'oom') await machine.run(name, COMMANDS.oom, options);
    else {
      await waitForPressure(await machine.start(name, COMMANDS.kill, options));
      await machine.must(['task', 'kill', '-s', 'SIGKILL', name]);
      await machine.waitStatus(name, 'STOPPED');
      await machine.remove(name);
    }
    const told = await events.waitFor(name, 'exit');
    return told.includes('oom') && told.indexOf('oom') < told.indexOf('exit');
  };
}

const [client = '', kind = '', count = '40'] = process.argv.slice(2);
if (!['docker', 'ctr'].includes(client) || (kind !== 'oom' && kind !== 'kill')) {
  throw new Error('usage: oom-loop docker|ctr oom|kill [COUNT]');
}
let failures = 0;
for (const runtime of (process.env['LAMINA_TEST_RUNTIMES'] ?? LAMINA).split(',')) {
  const round = client === 'docker' ? await dockerRounds(runtime) : await ctrRounds(runtime);
  let wrong = 0;
  for (let i = 1; i <= Number(count); i += 1) {
    const told = await round(`loop-${i}`, kind);
    if (told === (kind === 'oom')) continue;
    wrong += 1;
    console.log(`round ${i}: OOM ${told ? '' : 'not '}told`);
  }
  console.log(`${client} ${kind} with ${runtime}: ${wrong} of ${count} wrong`);
  failures += wrong;
}
process.exit(failures > 0 ? 1 : 0);
