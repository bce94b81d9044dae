// Builds and caches what a VM run needs: a folder to run the kernel in, and one ext4 image per guest.
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
import { bootstrap, ensureTools, findProgram, GUESTS, KERNEL } from './debian.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));

/** Apparent size of a guest's file system; the file is sparse, so only what is used takes room. */
const IMAGE_SIZE = '3G';

const STALE_MS = 7 * 24 * 3600_000;

/** Modules the guest may need, by folder: all of them would be 166 MB. */
const MODULE_FOLDERS = [
  'net',
  'lib',
  'crypto',
  'fs/overlayfs',
  'fs/fuse',
  'fs/autofs',
  'fs/configfs',
  'drivers/net',
  'drivers/block',
];

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
 * Returns the kernel's folder and the guest's image, building what is missing.
 *
 * @param guest a key of GUESTS
 * @param say   takes one line of progress
 */
export async function ensureImages(guest, say) {
  const cache = cacheFolder();
  mkdirSync(cache, { recursive: true, mode: 0o755 });
  removeStale(cache);
  const kernel = join(cache, `kernel-${digest(KERNEL, ['debian.mjs', 'images.mjs'])}`);
  const recipe = { kernel: basename(kernel), guest: GUESTS[guest], size: IMAGE_SIZE, modules: MODULE_FOLDERS };
  const image = join(cache, `${guest}-${digest(recipe, ['debian.mjs', 'images.mjs', ...rootfsFiles()])}.ext4`);
  if (!existsSync(kernel)) await build(kernel, say, (path) => buildKernel(path, say));
  if (!existsSync(image)) await build(image, say, (path) => buildGuest(path, { guest, kernel }, say));
  // Marks them as in use, for removeStale.
  for (const path of [kernel, image]) utimesSync(path, new Date(), statSync(path).mtime);
  return { kernel, image };
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

async function buildKernel(path, say) {
  mkdirSync(path);
  await bootstrap({ ...KERNEL, variant: 'extract', target: path }, say);
  // base-files, which is not needed otherwise, would bring these.
  for (const name of ['lib', 'lib64']) symlinkSync(`usr/${name}`, join(path, name));
  for (const folder of ['dev', 'proc', 'tmp', 'share/repo', 'share/images', 'share/run']) {
    mkdirSync(join(path, folder), { recursive: true });
  }
}

async function buildGuest(path, { guest, kernel }, say) {
  const root = `${path}.root`;
  mkdirSync(root);
  await bootstrap({ ...GUESTS[guest], variant: 'minbase', target: root }, say);
  copyModules(kernel, root);
  cpSync(join(HERE, 'rootfs'), root, { recursive: true, verbatimSymlinks: true });
  trimBoot(root);
  for (const folder of ['host', 'out']) mkdirSync(join(root, folder));
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

function copyModules(kernel, root) {
  const source = join(kernel, 'usr/lib/uml/modules');
  const [release] = readdirSync(source);
  const target = join(root, 'usr/lib/modules', release);
  mkdirSync(target, { recursive: true });
  for (const name of readdirSync(join(source, release)).filter((entry) => entry.startsWith('modules.'))) {
    cpSync(join(source, release, name), join(target, name));
  }
  for (const folder of MODULE_FOLDERS) {
    const from = join(source, release, 'kernel', folder);
    if (existsSync(from)) cpSync(from, join(target, 'kernel', folder), { recursive: true });
  }
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
