// What is taken from Debian for the VM tests, and from where: package lists per guest, and mmdebstrap runs.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Bound for one mmdebstrap run; a cold one takes under a minute on two cores with a near mirror. */
const BOOTSTRAP_TIMEOUT_MS = 10 * 60_000;

/** forky's snapshot of the Release file has run out; the signature is still checked. */
const APT_OPTIONS = [
  'Acquire::Check-Valid-Until "false"',
  'Acquire::Retries "3"',
  'Acquire::http::Timeout "60"',
  'Acquire::Languages "none"',
  'APT::Install-Recommends "false"',
];

/** Signs what is downloaded; Ubuntu does not have it by default. */
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

const GUEST_PACKAGES = [
  'systemd',
  'systemd-sysv',
  'dbus',
  'kmod',
  'iproute2',
  'procps',
  'containerd',
  'runc',
  'crun',
  'busybox-static',
];

/**
 * What runs a guest: a folder to chroot into, and where in it the kernel's modules are.
 *
 * uml: bookworm's 6.1 crashes on processors with AMX, so it comes from forky. qemu: from forky too, so that it is the same program and
 * firmware on every host; liblzma5 is for depmod, which has to read compressed modules.
 */
export const MACHINES = {
  uml: { suite: 'forky', packages: ['user-mode-linux', 'libc6', 'libgcc-s1'], modules: 'usr/lib/uml/modules' },
  qemu: {
    suite: 'forky',
    packages: ['qemu-system-x86', 'virtiofsd', 'linux-image-cloud-amd64', 'kmod', 'liblzma5'],
    modules: 'usr/lib/modules',
  },
};

/**
 * The guests. trixie has no Docker in its list on purpose: one Docker version is enough, and its daemon and client are half
 * of forky's download.
 */
export const GUESTS = {
  forky: { suite: 'forky', packages: [...GUEST_PACKAGES, 'docker.io', 'docker-cli'] },
  trixie: { suite: 'trixie', packages: GUEST_PACKAGES },
};

/**
 * The Debian mirror this machine uses, read from its apt sources, so that builds stay on the network path the machine was
 * given. `LAMINA_VM_MIRROR` overrides it. Undefined on a machine that is no Debian: mmdebstrap then uses its own default.
 */
export function findMirror() {
  const override = process.env.LAMINA_VM_MIRROR;
  if (override) return override;
  const folder = '/etc/apt/sources.list.d';
  const files = ['/etc/apt/sources.list'];
  if (existsSync(folder)) {
    files.push(
      ...readdirSync(folder)
        .filter((name) => /\.(list|sources)$/.test(name))
        .map((name) => join(folder, name)),
    );
  }
  for (const file of files.filter((path) => existsSync(path))) {
    for (const line of readFileSync(file, 'utf8').split('\n')) {
      const uri = /^(?:URIs:|deb(?:\s+\[[^\]]*\])?)\s*(\S+)/.exec(line)?.[1];
      // The security archive and other vendors' archives end differently; snapshots have a date after the name.
      if (uri && /^[a-z+]+:\/\/.*\/debian(\/\d{8}T\d{6}Z)?\/?$/.test(uri)) return uri;
    }
  }
  return undefined;
}

/** Installs what building needs and a bare Debian or Ubuntu machine lacks. */
export function ensureTools(say) {
  const wanted = { mmdebstrap: 'mmdebstrap', mke2fs: 'e2fsprogs', unshare: 'util-linux', setpriv: 'util-linux' };
  const missing = Object.entries(wanted).filter(([program]) => !findProgram(program));
  if (!existsSync(KEYRING)) missing.push([KEYRING, 'debian-archive-keyring']);
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map(([, name]) => name))];
  say(`installing ${packages.join(', ')} with apt-get`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  for (const args of [['update'], ['install', '-y', '--no-install-recommends', ...packages]]) {
    const { status } = spawnSync('apt-get', ['-q', ...args], { stdio: ['ignore', 'ignore', 'inherit'], env });
    if (status !== 0) throw new Error(`apt-get ${args[0]} failed: install ${packages.join(', ')} by hand`);
  }
}

/** Absolute path of a program, or undefined. The sbin folders are searched even when PATH lacks them. */
export function findProgram(name) {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/local/sbin', '/usr/sbin', '/sbin'];
  return folders
    .filter(Boolean)
    .map((folder) => join(folder, name))
    .find((path) => existsSync(path));
}

/**
 * Makes a Debian tree in the folder `target`.
 *
 * @param options.variant `extract` only unpacks; `minbase` gives a tree that boots
 * @throws with the last lines of mmdebstrap's output
 */
export async function bootstrap({ suite, packages, variant, target, hooks = [] }, say) {
  const mirror = findMirror();
  const args = [
    `--variant=${variant}`,
    `--include=${packages.join(',')}`,
    ...APT_OPTIONS.map((option) => `--aptopt=${option}`),
    '--dpkgopt=force-unsafe-io',
    ...['doc', 'man', 'info', 'locale'].map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`),
    ...hooks.map((hook) => `--customize-hook=${hook}`),
    suite,
    target,
    ...(mirror ? [mirror] : []),
  ];
  const child = spawn(findProgram('mmdebstrap'), args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: BOOTSTRAP_TIMEOUT_MS,
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' },
  });
  const tail = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      for (const line of text.split('\n').filter(Boolean)) {
        tail.push(line);
        if (tail.length > 25) tail.shift();
        // mmdebstrap's own steps are the progress; apt and dpkg are only of interest when they fail.
        if (line.startsWith('I: ') && /running|downloading|installing|extracting|success/.test(line)) {
          say(`${suite}: ${line.slice(3)}`);
        }
      }
    });
  }
  const [status, signal] = await new Promise((resolve, reject) => {
    child.once('error', reject).once('close', (...end) => resolve(end));
  });
  if (status !== 0) throw new Error(`mmdebstrap ${suite} ended with ${signal ?? status}:\n${tail.join('\n')}`);
}
