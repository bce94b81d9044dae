// Runs a command where cgroup v2, systemd, containerd and root are: on this machine if it is such a machine and may be used,
// else in a guest under user-mode Linux or qemu. `node test/vm/run.mjs --help` tells the options.
import '../../scripts/own-node.mjs';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { makeImage } from '../../scripts/make-image.mjs';
import { GUESTS } from './debian.mjs';
import { DeadGuestError, runInGuest } from './guest.mjs';
import { missingForHost, runOnHost } from './host.mjs';
import { cacheFolder, cacheUsage, ensureImages } from './images.mjs';
import { QEMU } from './qemu.mjs';
import { UML } from './uml.mjs';

const USAGE = `usage: node test/vm/run.mjs [options] [-- command...]

  --guest forky|trixie    Debian release of the guest (default forky: containerd 2.1; trixie: 1.7)
  --machine uml|qemu      what runs the guest (default uml: quick; qemu: also cpuset, hugetlb, PSI, I/O control, two processors)
  --on auto|host|guest    where to run; auto takes the host only if it can and CI is set (default auto)
  --memory MIB            memory of the guest (default 1536)
  --timeout SECONDS       bound for the command (default 2400)
  --bare                  do not start containerd (it takes seconds under qemu)
  --keep                  keep disk, console and journal of the guest
  --again                 run everything once more in a fresh guest if the guest itself dies, and note it as flaky
  --build-only            build the images and stop
  --where                 say "host" or "guest", and stop

The command (default: node scripts/test.mjs vm-guest) starts as root in the repository, which is read-only in a guest.
What it leaves in the folder $LAMINA_TEST_RESULTS comes to build/vm/MACHINE-GUEST.
LAMINA_VM_CACHE: folder of the images (default /var/cache/lamina-vm). LAMINA_VM_MIRROR: Debian mirror to build from.
`;

const MACHINES = { uml: UML, qemu: QEMU };
const REPOSITORY = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

/** Where files that a command leaves for the host go, by place. */
const RESULTS = join(REPOSITORY, 'build/vm');

function parse() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      guest: { type: 'string', default: 'forky' },
      machine: { type: 'string', default: 'uml' },
      on: { type: 'string', default: 'auto' },
      memory: { type: 'string', default: '1536' },
      timeout: { type: 'string', default: '2400' },
      bare: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      again: { type: 'boolean', default: false },
      'build-only': { type: 'boolean', default: false },
      where: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const numbers = { memory: Number(values.memory), timeout: Number(values.timeout) };
  for (const [name, value] of Object.entries(numbers)) {
    if (!(value > 0)) throw new Error(`--${name} "${values[name]}": want a positive number`);
  }
  if (!Object.hasOwn(GUESTS, values.guest)) throw new Error(`--guest "${values.guest}": know ${Object.keys(GUESTS)}`);
  if (!Object.hasOwn(MACHINES, values.machine)) {
    throw new Error(`--machine "${values.machine}": know ${Object.keys(MACHINES)}`);
  }
  if (!['auto', 'host', 'guest'].includes(values.on)) throw new Error(`--on "${values.on}": know auto, host, guest`);
  const command = positionals.length > 0 ? positionals : ['node', 'scripts/test.mjs', 'vm-guest'];
  return { ...values, ...numbers, command };
}

function say(line) {
  process.stderr.write(`vm: ${line}\n`);
}

function guestOn({ machine }) {
  return `${MACHINES[machine].about} (--machine ${machine})`;
}

/** Whether to run on this machine itself; says why. */
function decideHost(options) {
  if (options.on === 'guest' || options['build-only']) return false;
  const missing = missingForHost();
  if (missing.length > 0) {
    if (options.on === 'host') throw new Error(`cannot run on this machine: ${missing.join(', ')}`);
    say(`using a guest under ${guestOn(options)}, because this machine has ${missing.join(', ')}`);
    return false;
  }
  if (options.on === 'host' || process.env.CI) {
    say('this machine has all that is needed: running on it directly');
    return true;
  }
  say(
    `using a guest under ${guestOn(options)}; --on host would run on this machine and restart its containerd and Docker`,
  );
  return false;
}

/** For the summary (scripts/summary.mjs): a guest that dies is as bad as a test that is not stable. */
function noteDeath(results, place, { message }) {
  const flaky = [{ name: 'the guest lives to the end', error: message }];
  const file = { suite: 'test/vm', file: 'test/vm/run.mjs', passed: 0, skipped: [], failures: [], flaky, ms: 0 };
  mkdirSync(results, { recursive: true });
  writeFileSync(join(results, `tests-guest-${process.pid}.json`), JSON.stringify({ place, files: [file] }));
}

async function main() {
  const options = parse();
  if (options.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  if (options.where) {
    console.log(decideHost(options) ? 'host' : 'guest');
    return 0;
  }
  if (process.getuid() !== 0) throw new Error('must be root, to build images and to run a guest in its own namespaces');
  const env = {
    LAMINA_TEST_PLACE: `${options.machine === 'uml' ? 'vm' : options.machine}-${options.guest}`,
    LAMINA_TEST_ALONE: '1',
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => name.startsWith('LAMINA_TEST_'))),
  };
  const job = { repository: REPOSITORY, command: options.command, env, timeoutMs: options.timeout * 1000 };
  // Made here and not in the guest, which has no compiler and sees the repository read-only.
  if (!options['build-only']) makeImage();
  if (decideHost(options)) {
    const results = join(RESULTS, 'host');
    mkdirSync(results, { recursive: true });
    const own = { LAMINA_TEST_PLACE: 'host', LAMINA_TEST_ALONE: '0', LAMINA_TEST_RESULTS: results };
    return await runOnHost({ ...job, env: { ...env, ...own } });
  }

  const images = await ensureImages(options.guest, options.machine, say);
  say(`images in ${cacheFolder()}: ${(cacheUsage() / 1e6).toFixed(0)} MB`);
  if (options['build-only']) return 0;
  const machine = MACHINES[options.machine];
  const guest = {
    ...job,
    memoryMiB: options.memory,
    parameters: options.bare ? 'systemd.mask=containerd.service' : '',
    keep: options.keep,
    results: join(RESULTS, `${options.machine}-${options.guest}`),
    onOutput: (chunk) => process.stdout.write(chunk),
  };
  const ended = await runInGuest(machine, images, guest, say).catch((error) => {
    // A boot that hangs was seen once in some forty under user-mode Linux, before systemd. Nothing of ours has run by then.
    if (!(error instanceof DeadGuestError) || !(error.isHungBoot || options.again)) throw error;
    say(`${error.message}\nstarting it once more`);
    if (!error.isHungBoot) noteDeath(guest.results, env.LAMINA_TEST_PLACE, error);
    return runInGuest(machine, images, guest, say);
  });
  const seconds = (ended.bootMs / 1000).toFixed(1);
  say(`${options.guest} under ${machine.about}: booted in ${seconds} s, exit status ${ended.status}`);
  return ended.status;
}

// A signal must end the guest too: `exit` runs its clean-up.
for (const [signal, number] of [
  ['SIGINT', 2],
  ['SIGTERM', 15],
  ['SIGHUP', 1],
]) {
  process.once(signal, () => process.exit(128 + number));
}

try {
  process.exitCode = await main();
} catch (error) {
  say(error.message);
  process.exitCode = 1;
}
