// Boots a guest under user-mode Linux, runs one command in it, and takes everything down again.
//
// The kernel is an ordinary process. It runs in its own mount and pid namespace: its mounts vanish with it, and killing the
// namespace's first process kills all of it. That happens also when the runner itself is killed (parent-death signal).
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { cacheFolder } from './images.mjs';

/** From spawning to the first line of the guest's script; measured 6 s, so this is a hung boot. */
const BOOT_TIMEOUT_MS = 120_000;

/**
 * The namespace's first process. `$1` kernel folder, `$2` repository, `$3` folder of the images, `$4` run folder, `$5` memory
 * in MiB, `$6` image name. The repository is read-only there: a guest cannot damage the checkout. io_uring is off because this
 * kernel panics when the child of a process with a ring (Node 20 has one) unmaps it.
 */
const LAUNCH = `
set -e
root=$1
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755,size=1M tmpfs "$root/dev"
for node in null zero full random urandom tty; do touch "$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=1777,exec,size="$(($5 + 256))M" tmpfs "$root/tmp"
mount --bind "$2" "$root/share/repo"
mount -o remount,bind,ro "$root/share/repo"
mount --bind "$3" "$root/share/images"
mount -o remount,bind,ro "$root/share/images"
mount --bind "$4" "$root/share/run"
HOME=/tmp TMPDIR=/tmp chroot "$root" /usr/bin/linux.uml umid=lamina seccomp=on mem="$5M" \\
  ubd0="/share/run/disk.cow,/share/images/$6" root=/dev/ubda rw \\
  con0=null,fd:1 con=null ssl0=null,fd:3 ssl=null systemd.show_status=0 quiet \\
  sysctl.kernel.io_uring_disabled=2
`;

/**
 * Runs a command in a fresh guest.
 *
 * @param images  from `ensureImages`
 * @param options.repository folder shown at /host, where the command starts
 * @param options.command    program and arguments
 * @param options.env        variables for the command
 * @param options.memoryMiB  guest memory, taken from the host as it is used
 * @param options.timeoutMs  bound for the command, boot not counted
 * @param options.keep       keep the run folder (disk, console, journal) and say where it is
 * @param options.onOutput   takes chunks of the command's output
 * @returns exit status of the command and the time to boot; a guest that dies or hangs rejects with the console's tail
 */
export async function runInGuest(images, options, say) {
  const run = join(cacheFolder(), `run-${process.pid}`);
  const out = join(run, 'out');
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, 'job'), jobScript(options));
  if (options.keep) writeFileSync(join(out, 'collect-journal'), '');
  const started = Date.now();
  const child = spawn(
    'setpriv',
    [
      ...[
        '--pdeathsig',
        'KILL',
        'unshare',
        '--mount',
        '--propagation',
        'private',
        '--pid',
        '--fork',
        '--kill-child=KILL',
      ],
      ...['sh', '-c', LAUNCH, 'sh', images.kernel, options.repository, dirname(images.image), run],
      ...[String(options.memoryMiB), basename(images.image)],
    ],
    { stdio: ['ignore', 'pipe', 'pipe', 'pipe'], detached: true, cwd: '/' },
  );
  const stop = () => killGroup(child);
  // For a runner that is told to end; one that is killed leaves the folder to the next run.
  const leave = () => {
    stop();
    if (!options.keep) rmSync(run, { recursive: true, force: true });
  };
  process.once('exit', leave);
  const expired = new AbortController();
  expired.signal.addEventListener('abort', stop);
  let timer = setTimeout(() => expired.abort(), BOOT_TIMEOUT_MS);
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
    if (!expired.signal.aborted && existsSync(join(out, 'status'))) {
      return { status: Number.parseInt(readFileSync(join(out, 'status'), 'utf8'), 10), bootMs };
    }
    const tail = Buffer.concat(consoleText).toString().split('\n').slice(-30).join('\n');
    throw new Error(`${verdict(bootMs, expired.signal.aborted, options)}; end of its console:\n${tail}`);
  } finally {
    clearTimeout(timer);
    stop();
    process.removeListener('exit', leave);
    writeFileSync(join(run, 'console'), Buffer.concat(consoleText));
    if (options.keep) say(`kept ${run}`);
    else rmSync(run, { recursive: true, force: true });
  }
}

function verdict(bootMs, isExpired, { timeoutMs }) {
  if (bootMs === undefined) return `the guest did not boot${isExpired ? ` in ${BOOT_TIMEOUT_MS / 1000} s` : ''}`;
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
