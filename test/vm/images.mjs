// Builds and caches what a VM run needs: one folder per machine to run it in, and one ext4 image per guest.
//
// Everything is named by a hash of what it was made from (package lists, guest files, the builder itself), so a change makes
// a new image and an unchanged one is never rebuilt. A build happens under a temporary name and is renamed at the end: a
// name that exists is whole.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { arch } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bootstrap, ensureTools, findProgram, GUESTS, MACHINES } from './debian.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));

/** Apparent size of a guest's file system; the file is sparse, so only what is used takes room. */
const IMAGE_SIZE = '3G';

const STALE_MS = 7 * 24 * 3600_000;

const MASKED_UNITS = [
  ...['configfs', 'drm', 'efi_pstore', 'fuse', 'dm_mod', 'loop'].map((name) => `modprobe@${name}.service`),
  'ldconfig.service',
  'systemd-binfmt.service',
  'systemd-hwdb-update.service',
  'systemd-journal-catalog-update.service',
  'systemd-journal-flush.service',
  'systemd-logind.service',
  'systemd-random-seed.service',
  'systemd-sysusers.service',
  'systemd-tpm2-setup.service',
  'systemd-tpm2-setup-early.service',
  'systemd-update-done.service',
  'systemd-user-sessions.service',
  'systemd-tmpfiles-clean.timer',
];

/** Folder with all cached images, `LAMINA_VM_CACHE` or /var/cache/lamina-vm. */
export function cacheFolder() {
  return process.env.LAMINA_VM_CACHE || '/var/cache/lamina-vm';
}

/**
 * Returns the machine's folder and the guest's image, building what is missing.
 *
 * @param guest   a key of GUESTS
 * @param machine a key of MACHINES
 * @param say     takes one line of progress
 */
export async function ensureImages(guest, machine, say) {
  const cache = cacheFolder();
  mkdirSync(cache, { recursive: true, mode: 0o755 });
  removeStale(cache);
  const builders = ['debian.mjs', 'images.mjs'];
  const folder = join(cache, `${machine}-${digest(MACHINES[machine], builders)}`);
  const recipe = { guest: GUESTS[guest], size: IMAGE_SIZE };
  const image = join(cache, `${guest}-${digest(recipe, [...builders, ...rootfsFiles()])}.ext4`);
  if (!existsSync(folder)) await build(folder, say, (path) => buildMachine(path, machine, say));
  if (!existsSync(image)) await build(image, say, (path) => buildGuest(path, guest, say));
  // Marks them as in use, for removeStale.
  for (const path of [folder, image]) utimesSync(path, new Date(), statSync(path).mtime);
  return { machine: folder, image };
}

/** Bytes really used by everything in the cache. */
export function cacheUsage() {
  const { stdout } = spawnSync('du', ['-sB1', cacheFolder()], { encoding: 'utf8' });
  return Number.parseInt(stdout, 10);
}

async function build(path, say, make) {
  const started = Date.now();
  const temporary = `${path}.tmp-${process.pid}`;
  say(`building ${basename(path)}`);
  ensureTools(say);
  try {
    await make(temporary);
    // Another runner may have been faster; its result is as good.
    if (!existsSync(path)) renameSync(temporary, path);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
    rmSync(`${temporary}.root`, { recursive: true, force: true });
  }
  say(`built ${basename(path)} in ${((Date.now() - started) / 1000).toFixed(1)} s`);
}

async function buildMachine(path, machine, say) {
  const { modules, ...packages } = MACHINES[machine];
  mkdirSync(path);
  await bootstrap({ ...packages, variant: 'extract', target: path }, say);
  // base-files, which is not needed otherwise, would bring these.
  for (const name of ['lib', 'lib64']) symlinkSync(`usr/${name}`, join(path, name));
  for (const folder of ['dev', 'proc', 'tmp', 'share/repo', 'share/images', 'share/run', 'share/modules']) {
    mkdirSync(join(path, folder), { recursive: true });
  }
  const [release] = readdirSync(join(path, modules));
  if (existsSync(join(path, modules, release, 'modules.dep'))) return;
  // Packages that are only unpacked have not run it.
  const { status, stderr } = spawnSync('chroot', [path, '/usr/sbin/depmod', release], { encoding: 'utf8' });
  if (status !== 0 || stderr !== '') throw new Error(`depmod ${release}: ${stderr.slice(0, 500)}`);
}

async function buildGuest(path, guest, say) {
  const root = `${path}.root`;
  mkdirSync(root);
  await bootstrap({ ...GUESTS[guest], variant: 'minbase', target: root }, say);
  cpSync(join(HERE, 'rootfs'), root, { recursive: true, verbatimSymlinks: true });
  trimBoot(root);
  for (const folder of ['host', 'out', 'share', 'usr/lib/modules']) mkdirSync(join(root, folder), { recursive: true });
  const made = spawnSync(findProgram('mke2fs'), [
    '-q',
    '-t',
    'ext4',
    '-O',
    '^has_journal',
    '-d',
    root,
    path,
    IMAGE_SIZE,
  ]);
  if (made.status !== 0) throw new Error(`mke2fs: ${made.stderr}`);
}

/**
 * Leaves out what a throw-away guest has no use for, a third of its boot: jobs of a first boot, kernel modules, timers. Docker
 * stays as the distribution has it, but is started by the tests that want it.
 */
function trimBoot(root) {
  for (const unit of MASKED_UNITS) symlinkSync('/dev/null', join(root, 'etc/systemd/system', unit));
  for (const wants of ['multi-user', 'sockets', 'timers'].map((name) =>
    join(root, `etc/systemd/system/${name}.target.wants`),
  )) {
    const enabled = existsSync(wants) ? readdirSync(wants) : [];
    for (const name of enabled.filter((unit) => /^docker|\.timer$/.test(unit))) rmSync(join(wants, name));
  }
  // Not a first boot, and nothing to update: both are conditions of many units.
  writeFileSync(join(root, 'etc/machine-id'), `${createHash('md5').update(root).digest('hex')}\n`);
  for (const folder of ['etc', 'var']) writeFileSync(join(root, folder, '.updated'), '');
}

function digest(recipe, files) {
  const hash = createHash('sha256').update(JSON.stringify([arch(), recipe]));
  for (const file of files) hash.update(readFileSync(join(HERE, file)));
  return hash.digest('hex').slice(0, 12);
}

function rootfsFiles() {
  return readdirSync(join(HERE, 'rootfs'), { recursive: true })
    .map((name) => join('rootfs', String(name)))
    .filter((name) => statSync(join(HERE, name)).isFile())
    .sort();
}

/**
 * Removes what killed runners left (the name tells whose it was) and what no run has used for a week. The time of use is the
 * access time: the kernel's block driver refuses an image whose modification time has changed under a guest's disk.
 */
function removeStale(cache) {
  for (const name of readdirSync(cache)) {
    const path = join(cache, name);
    const pid = /\.tmp-(\d+)(\.root)?$/.exec(name)?.[1] ?? /^run-(\d+)$/.exec(name)?.[1];
    const isDead = pid !== undefined && !existsSync(`/proc/${pid}`);
    const isOld =
      pid === undefined && /-[0-9a-f]{12}(\.ext4)?$/.test(name) && Date.now() - statSync(path).atimeMs > STALE_MS;
    if (isDead || isOld) rmSync(path, { recursive: true, force: true });
  }
}
