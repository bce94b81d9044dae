/**
 * Builds the image all container tests use, without a registry: busybox and the programs of test/lib/programs, static.
 *
 * Results, in build/test-image: `rootfs/` (for --rootfs), `image.tar` and `pause.tar` (OCI layouts, for `ctr image import`), `bin/` (the
 * same programs for the host). Nothing is done if they are newer than their sources. Needs busybox-static, gcc and tar.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The images, by the name of their file: the same programs, and what runs when nothing else is asked for. */
const IMAGES = {
  image: { name: 'lamina.test/probe:latest', command: ['/bin/sh'] },
  // the first container of a Kubernetes pod
  pause: { name: 'lamina.test/pause:latest', command: ['/bin/sleep', '100000000'] },
};

const repo = fileURLToPath(new URL('..', import.meta.url));
const sources = join(repo, 'test/lib/programs');
const target = join(repo, 'build/test-image');

/** Static programs have no interpreter: with one, they would not run in a root file system that holds nothing else. */
function isStatic(file) {
  const elf = readFileSync(file);
  const offset = Number(elf.readBigUInt64LE(32));
  const size = elf.readUInt16LE(54);
  const count = elf.readUInt16LE(56);
  for (let i = 0; i < count; i += 1) {
    if (elf.readUInt32LE(offset + i * size) === 3) return false;
  }
  return true;
}

function findBusybox() {
  for (const path of ['/usr/bin/busybox', '/bin/busybox']) {
    if (existsSync(path) && isStatic(path)) return path;
  }
  throw new Error('no static busybox: install the package busybox-static');
}

/** Stores bytes under their digest, as an OCI layout does, and returns the descriptor. */
function putBlob(layout, bytes, mediaType) {
  const hash = createHash('sha256').update(bytes).digest('hex');
  writeFileSync(join(layout, 'blobs/sha256', hash), bytes);
  return { mediaType, digest: `sha256:${hash}`, size: bytes.length };
}

function buildRootfs(dir, busybox) {
  const rootfs = join(dir, 'rootfs');
  for (const folder of ['bin', 'dev', 'etc', 'proc', 'root', 'run', 'sys', 'tmp']) {
    mkdirSync(join(rootfs, folder), { recursive: true });
  }
  mkdirSync(join(dir, 'bin'));
  copyFileSync(busybox, join(rootfs, 'bin/busybox'));
  for (const applet of execFileSync(busybox, ['--list'], { encoding: 'utf8' }).trim().split('\n')) {
    if (applet !== 'busybox') symlinkSync('busybox', join(rootfs, 'bin', applet));
  }
  for (const source of readdirSync(sources).filter((name) => name.endsWith('.c'))) {
    const name = basename(source, '.c');
    const host = join(dir, 'bin', name);
    execFileSync('gcc', [
      '-std=gnu17',
      '-Wall',
      '-Wextra',
      '-Werror',
      '-O2',
      '-static',
      '-s',
      '-o',
      host,
      join(sources, source),
    ]);
    copyFileSync(host, join(rootfs, 'bin', name));
  }
  writeFileSync(join(rootfs, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/:/bin/sh\n');
  writeFileSync(join(rootfs, 'etc/group'), 'root:x:0:\nuser:x:1000:\n');
  writeFileSync(join(rootfs, 'bin/not-a-program'), 'no program\n', { mode: 0o644 });
  return rootfs;
}

function buildImage(dir, rootfs, [file, { name, command }]) {
  const layout = join(dir, 'layout');
  mkdirSync(join(layout, 'blobs/sha256'), { recursive: true });
  const layer = execFileSync(
    'tar',
    ['-C', rootfs, '--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '-cf', '-', '.'],
    { maxBuffer: 256 * 1024 * 1024 },
  );
  const layerDescriptor = putBlob(layout, layer, 'application/vnd.oci.image.layer.v1.tar');
  const config = putBlob(
    layout,
    Buffer.from(
      JSON.stringify({
        architecture: { x64: 'amd64', arm64: 'arm64' }[process.arch] ?? process.arch,
        os: 'linux',
        config: { Env: ['PATH=/bin', 'HOME=/root'], Cmd: command, WorkingDir: '/' },
        rootfs: { type: 'layers', diff_ids: [layerDescriptor.digest] },
      }),
    ),
    'application/vnd.oci.image.config.v1+json',
  );
  const manifestType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = putBlob(
    layout,
    Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: manifestType, config, layers: [layerDescriptor] })),
    manifestType,
  );
  manifest.annotations = { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': 'latest' };
  writeFileSync(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [manifest] }));
  execFileSync('tar', ['-C', layout, '-cf', join(dir, `${file}.tar`), 'oci-layout', 'index.json', 'blobs']);
  rmSync(layout, { recursive: true });
}

/** What the result depends on; busybox is left out so that a cached image needs neither it nor gcc. */
function sourceKey() {
  const hash = createHash('sha256').update(readFileSync(fileURLToPath(import.meta.url)));
  for (const name of readdirSync(sources).sort()) hash.update(name).update(readFileSync(join(sources, name)));
  return hash.digest('hex');
}

/** Makes the image unless it is there already, and returns its folder. */
export function makeImage() {
  const key = sourceKey();
  const keyFile = join(target, 'key');
  if (existsSync(keyFile) && readFileSync(keyFile, 'utf8') === key) return target;
  const dir = `${target}.${process.pid}`;
  rmSync(dir, { recursive: true, force: true });
  try {
    const rootfs = buildRootfs(dir, findBusybox());
    for (const image of Object.entries(IMAGES)) buildImage(dir, rootfs, image);
    writeFileSync(join(dir, 'key'), key);
    rmSync(target, { recursive: true, force: true });
    renameSync(dir, target);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
  return target;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(makeImage());
