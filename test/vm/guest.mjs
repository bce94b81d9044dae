// Boots a guest, runs one command in it, and takes everything down again. What differs between the machines a guest can be booted
// on (uml.mjs, qemu.mjs) is given as a `Machine`:
//
//   about        one line: what it is and why one would take it
//   launch       shell text that ends with running the machine, in the environment PRELUDE makes
//   bootMs       bound from spawning to the first line of the guest's script
//
// The machine is an ordinary process. It runs in its own mount and pid namespace: its mounts vanish with it, and killing the
// namespace's first process kills all of it. That happens also when the runner itself is killed (parent-death signal).
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { cacheFolder } from './images.mjs';

/** Size of the swap device that a guest has but does not use until a test says so; the file is sparse. */
const SWAP_BYTES = 64 * 1024 * 1024;

/**
 * The namespace's first process, up to the machine itself. `$root` is the machine's folder and becomes its root, with the repository,
 * the images and this run's folder in /share. The repository is read-only there: a guest cannot damage the checkout. Descriptor 3
 * takes what the guest writes to ttyS0, 1 and 2 what the machine has to say.
 */
const PRELUDE = `
set -e
root=$1 repository=$2 images=$3 run=$4 memory=$5 image=$6 parameters="$7 rw quiet systemd.show_status=0 systemd.getty_auto=no"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755,size=1M tmpfs "$root/dev"
for node in null zero full random urandom tty; do touch "$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=1777,exec,size="$((memory + 256))M" tmpfs "$root/tmp"
mount --bind "$repository" "$root/share/repo"
mount -o remount,bind,ro "$root/share/repo"
mount --bind "$images" "$root/share/images"
mount -o remount,bind,ro "$root/share/images"
mount --bind "$run" "$root/share/run"
export HOME=/tmp TMPDIR=/tmp
`;

/** The guest did not boot, or was gone before its command had ended. The next one may well do better. */
export class DeadGuestError extends Error {
  /** Nothing was run. */
  isHungBoot = false;
}

/**
 * Runs a command in a fresh guest.
 *
 * @param machine `UML` or `QEMU`
 * @param images  from `ensureImages`
 * @param options.repository folder shown at /host, where the command starts
 * @param options.command    program and arguments
 * @param options.env        variables for the command
 * @param options.memoryMiB  guest memory, taken from the host as it is used
 * @param options.timeoutMs  bound for the command, boot not counted
 * @param options.parameters added to the kernel's command line
 * @param options.keep       keep the run folder (disk, console, journal) and say where it is
 * @param options.results    folder of the host that gets what the command left in $LAMINA_TEST_RESULTS
 * @param options.onOutput   takes chunks of the command's output
 * @returns exit status of the command and the time to boot; a guest that dies or hangs rejects with the console's tail
 * @throws {DeadGuestError}
 */
export async function runInGuest(machine, images, options, say) {
  const run = join(cacheFolder(), `run-${process.pid}`);
  const out = join(run, 'out');
  mkdirSync(join(out, 'results'), { recursive: true });
  writeFileSync(join(out, 'job'), jobScript(options));
  if (options.keep) writeFileSync(join(out, 'collect-journal'), '');
  writeFileSync(join(run, 'swap'), '');
  truncateSync(join(run, 'swap'), SWAP_BYTES);
  const started = Date.now();
  const child = spawnNamespace([
    ...[`${PRELUDE}${machine.launch}`, 'sh', images.machine, options.repository, dirname(images.image), run],
    ...[String(options.memoryMiB), basename(images.image), options.parameters],
  ]);
  const stop = () => killGroup(child);
  // For a runner that is told to end; one that is killed leaves the folder to the next run.
  const leave = () => {
    stop();
    if (!options.keep) rmSync(run, { recursive: true, force: true });
  };
  process.once('exit', leave);
  const expired = new AbortController();
  expired.signal.addEventListener('abort', stop);
  let timer = setTimeout(() => expired.abort(), machine.bootMs);
  const times = [];
  const consoleText = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => consoleText.push(chunk));
  child.stdio[3].on('data', (chunk) => {
    if (times.push(Date.now() - started) === 1) {
      clearTimeout(timer);
      timer = setTimeout(() => expired.abort(), options.timeoutMs);
    }
    options.onOutput(chunk);
  });
  try {
    await new Promise((resolve, reject) => child.once('error', reject).once('close', resolve));
    const [bootMs] = times;
    takeResults(join(out, 'results'), options.results, say);
    if (!expired.signal.aborted && existsSync(join(out, 'status'))) {
      return { status: Number.parseInt(readFileSync(join(out, 'status'), 'utf8'), 10), bootMs };
    }
    const tail = consoleOf(run, consoleText).split('\n').slice(-30).join('\n');
    const what = `${verdict(bootMs, expired.signal.aborted, machine, options)}; end of its console:\n${tail}`;
    if (bootMs !== undefined && expired.signal.aborted) throw new Error(what);
    throw Object.assign(new DeadGuestError(what), { isHungBoot: expired.signal.aborted });
  } finally {
    clearTimeout(timer);
    stop();
    process.removeListener('exit', leave);
    writeFileSync(join(run, 'console'), consoleOf(run, consoleText));
    if (options.keep) say(`kept ${run}`);
    else rmSync(run, { recursive: true, force: true });
  }
}

function spawnNamespace(args) {
  const wrapper = ['--pdeathsig', 'KILL', 'unshare', '--mount', '--propagation', 'private', '--pid', '--fork'];
  return spawn('setpriv', [...wrapper, '--kill-child=KILL', 'sh', '-c', ...args], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    detached: true,
    cwd: '/',
  });
}

/** What the machine printed, and after it the guest's console where that is a file of its own. */
function consoleOf(run, printed) {
  const file = join(run, 'console');
  return Buffer.concat([...printed, existsSync(file) ? readFileSync(file) : Buffer.of()]).toString();
}

function takeResults(from, to, say) {
  const names = readdirSync(from);
  if (names.length === 0) return;
  mkdirSync(to, { recursive: true });
  cpSync(from, to, { recursive: true });
  say(`results in ${to}: ${names.join(', ')}`);
}

function verdict(bootMs, isExpired, machine, { timeoutMs }) {
  if (bootMs === undefined) return `the guest did not boot${isExpired ? ` in ${machine.bootMs / 1000} s` : ''}`;
  return isExpired ? `the command did not end in ${timeoutMs / 1000} s` : 'the guest died';
}

function jobScript({ command, env }) {
  const exports = Object.entries(env).map(([name, value]) => `export ${name}=${quote(value)}\n`);
  return `${exports.join('')}cd /host || exit 125\nexec ${command.map(quote).join(' ')}\n`;
}

function quote(word) {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

/** The group holds unshare and, through it, every process of the guest: they are gone when it is. */
function killGroup({ pid, exitCode, signalCode }) {
  if (pid === undefined || exitCode !== null || signalCode !== null) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}
