/**
 * Runs containers out of memory again and again, or, with `kill`, kills containers that keep hitting their limit, and counts how often what was
 * told of an OOM is not what the kernel log says. Not part of any suite: races show in numbers.
 *
 *     node test/vm/run.mjs --timeout 1200 -- node dist/test/vm/guest/oom-loop.js docker|ctr oom|kill COUNT
 *
 * Both under systemd, whose scopes are gone the moment they are empty. LAMINA_TEST_RUNTIMES picks the runtimes; default: Lamina's.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun, runCommand } from '../../lib/command.js';
import { imageFolder } from '../../lib/image.js';
import { until } from '../../lib/wait.js';
import { cgroupOf, LAMINA, Machine, TaskEvents } from './machine.js';

const LIMIT = String(16 * 1024 * 1024);
const TIMEOUT_MS = 90_000;
const DOCKER_IMAGE = 'lamina.test/probe:loop';
/** Page cache of a file larger than the limit: every read hits it, and nobody has to die. */
const PRESSURE =
  'dd if=/dev/zero of=/big bs=64k count=512 conv=fsync && echo full && while :; do cat /big > /dev/null; done';
const COMMANDS = { oom: ['probe', 'hog', String(256 * 1024 * 1024)], kill: ['sh', '-c', PRESSURE] } as const;

type Kind = keyof typeof COMMANDS;

/**
 * Runs one container to its end.
 * @returns whether an OOM was told, and what the name of its scope contains
 */
type Round = (name: string, kind: Kind) => Promise<{ readonly told: boolean; readonly scope: string }>;

async function docker(args: readonly string[]): Promise<string> {
  return (await mustRun(['docker', ...args], { timeoutMs: TIMEOUT_MS })).trim();
}

/**
 * Waits until the scope has hit its limit so often that it goes on doing so. Does nothing more if
 * it ends meanwhile.
 */
async function waitForPressure(pid: number): Promise<void> {
  if (!existsSync(`/proc/${pid}`)) return;
  const events = join(cgroupOf(pid), 'memory.events');
  await until(
    'the limit is hit',
    () => !existsSync(events) || Number(/^max (\d+)$/m.exec(readFileSync(events, 'utf8'))?.[1]) > 20,
  );
}

/** Whether the kernel has killed somebody in a scope. */
async function wasOom(scope: string): Promise<boolean> {
  const log = await mustRun(['dmesg']);
  return log.split('\n').some((line) => line.includes('oom-kill:') && line.includes(`${scope}.scope,task=`));
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
      await runCommand(['docker', 'kill', name], { timeoutMs: TIMEOUT_MS });
    }
    await docker(['wait', name]);
    const scope = await docker(['inspect', '-f', '{{.Id}}', name]);
    const told = await docker(['inspect', '-f', '{{.State.OOMKilled}}', name]);
    await docker(['rm', name]);
    return { told: told === 'true', scope };
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
      await machine.ctr(['task', 'kill', '-s', 'SIGKILL', name]);
      await machine.waitStatus(name, 'STOPPED');
      await machine.remove(name);
    }
    const told = await events.waitFor(name, 'exit');
    return { told: told.includes('oom') && told.indexOf('oom') < told.indexOf('exit'), scope: `lamina-${name}` };
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
  let unexpected = 0;
  for (let i = 1; i <= Number(count); i += 1) {
    const { told, scope } = await round(`loop-${i}`, kind);
    const isTrue = await wasOom(scope);
    if (isTrue !== (kind === 'oom')) unexpected += 1;
    if (told === isTrue) continue;
    wrong += 1;
    console.log(`round ${i}: OOM ${told ? '' : 'not '}told`);
  }
  console.log(`${client} ${kind} with ${runtime}: ${wrong} of ${count} wrong, ${unexpected} not as intended`);
  failures += wrong;
}
process.exit(failures > 0 ? 1 : 0);
