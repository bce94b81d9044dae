import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { Code, LaminaError } from '../../../src/base/index.js';
import {
  type MountAllOptions,
  type MountSpec,
  mountAll as mountAllBy,
  readMountInfo,
  unmountRecursive as unmountRecursiveBy,
} from '../../../src/sys/index.js';
import { until } from '../../lib/wait.js';
import { runWork } from '../../lib/work.js';
import { expectNoLeaks, MOUNT_PREFIX } from './leaks.js';

const mountAll = (mounts: readonly MountSpec[], rootfs: string, options: Partial<MountAllOptions> = {}) =>
  mountAllBy(mounts, rootfs, { work: runWork, ...options });
const unmountRecursive = (path: string, options: { readonly busyTimeoutMs?: number } = {}) =>
  unmountRecursiveBy(path, { work: runWork, ...options });

function mountTmpfs(dir: string): void {
  execFileSync('mount', ['-t', 'tmpfs', 'none', dir], { stdio: 'ignore' });
}

/** Root inside a container may be without CAP_SYS_ADMIN. */
function canMount(): boolean {
  const dir = mkdtempSync(`${MOUNT_PREFIX}probe-`);
  try {
    mountTmpfs(dir);
    execFileSync('umount', [dir]);
    return true;
  } catch {
    return false;
  } finally {
    rmSync(dir, { recursive: true });
  }
}

const skip = canMount() ? false : 'needs to be allowed to mount';

describe('mountAll', { skip }, () => {
  expectNoLeaks();
  let dir = '';
  let rootfs = '';
  beforeEach(() => {
    dir = realpathSync(mkdtempSync(`${MOUNT_PREFIX} mount-`));
    rootfs = join(dir, 'rootfs');
    mkdirSync(rootfs);
  });
  afterEach(async () => {
    await unmountRecursive(dir);
    rmSync(dir, { recursive: true });
  });

  const makeDir = (...names: string[]): string => {
    const path = join(dir, ...names);
    mkdirSync(path, { recursive: true });
    return path;
  };
  const mounts = () => readMountInfo().filter((info) => info.mountPoint.startsWith(dir));
  const tmpfs: MountSpec = { type: 'tmpfs', source: 'tmpfs', options: ['size=64k', 'nosuid'] };

  it('mounts a tmpfs with its options', async () => {
    await mountAll([tmpfs], rootfs);
    const [info] = mounts();
    assert.equal(info?.mountPoint, rootfs);
    assert.ok(info.options.includes('nosuid'));
    assert.ok(info.superOptions.includes('size=64k'));
    await unmountRecursive(rootfs);
    assert.deepEqual(mounts(), []);
  });

  it('binds read-only, with the attributes a bind takes only afterwards', async () => {
    const source = makeDir('source');
    await mountAll([{ type: 'bind', source, options: ['rbind', 'ro', 'nodev', 'noexec', 'rprivate'] }], rootfs);
    const [info] = mounts();
    for (const option of ['ro', 'nodev', 'noexec']) assert.ok(info?.options.includes(option), option);
    assert.throws(() => writeFileSync(join(rootfs, 'file'), ''), { code: 'EROFS' });
    writeFileSync(join(source, 'file'), 'still writable');
  });

  it('sets propagation in a call of its own', async () => {
    await mountAll([{ ...tmpfs, options: ['shared', 'ro'] }], rootfs);
    const [info] = mounts();
    assert.match(info?.propagation.join() ?? '', /shared:\d+/);
    assert.ok(info?.options.includes('ro'));
  });

  it('mounts an overlay', async () => {
    const [lower, upper, work] = [makeDir('lower'), makeDir('upper'), makeDir('work')];
    writeFileSync(join(lower, 'below'), 'lower');
    const options = [`lowerdir=${lower}`, `upperdir=${upper}`, `workdir=${work}`, 'X-containerd.mkdir.path=/x'];
    await mountAll([{ type: 'overlay', source: 'overlay', options }], rootfs);
    assert.equal(readFileSync(join(rootfs, 'below'), 'utf8'), 'lower');
    writeFileSync(join(rootfs, 'above'), 'upper');
    assert.equal(readFileSync(join(upper, 'above'), 'utf8'), 'upper');
  });

  it('mounts an overlay whose options are longer than a page', async () => {
    const lowers = Array.from({ length: 60 }, (_, i) =>
      makeDir('snapshots-of-a-daemon-with-a-long-name', `${i}`.padStart(60, 'x'), 'fs'),
    );
    writeFileSync(join(lowers[59] ?? '', 'deepest'), 'found');
    const options = [`lowerdir=${lowers.join(':')}`];
    assert.ok((options[0] ?? '').length > 4096);
    const cwd = process.cwd();
    await mountAll([{ type: 'overlay', source: 'overlay', options }], rootfs);
    assert.equal(readFileSync(join(rootfs, 'deepest'), 'utf8'), 'found');
    assert.equal(process.cwd(), cwd);
  });

  it('refuses options that do not fit in a page instead of losing their end', async () => {
    const options = [`lowerdir=${Array.from({ length: 500 }, (_, i) => `/${i}aaaa/b`).join(':')}`];
    await assert.rejects(mountAll([{ type: 'overlay', source: 'overlay', options }], rootfs), /do not fit in a page/);
  });

  it('mounts an image through a loop device that goes with the mount', async (t) => {
    const image = join(dir, 'disk.img');
    try {
      execFileSync('mke2fs', ['-q', '-t', 'ext4', image, '4M'], { stdio: 'ignore' });
    } catch {
      t.skip('needs mke2fs');
      return;
    }
    for (const options of [['loop'], ['loop', 'ro']]) {
      await mountAll([{ type: 'ext4', source: image, options }], rootfs);
      const [info] = mounts();
      assert.match(info?.source ?? '', /^\/dev\/loop\d+$/);
      const backing = `/sys/block/${info?.source.slice(5)}/loop/backing_file`;
      assert.equal(readFileSync(backing, 'utf8').trim(), image);
      assert.ok(existsSync(join(rootfs, 'lost+found')));
      await unmountRecursive(rootfs);
      // The kernel detaches it when the last reference to the filesystem goes, which may be after
      // umount(2) has returned.
      const attached = (): boolean => existsSync(backing) && readFileSync(backing, 'utf8').trim() === image;
      await until('the loop device is detached', () => !attached());
    }
  });

  it('names the file when a loop device cannot be attached', async () => {
    const source = join(dir, 'absent.img');
    await assert.rejects(mountAll([{ type: 'ext4', source, options: ['loop'] }], rootfs), {
      code: Code.NotFound,
      message: `failed to mount rootfs component: mount ${source} on ${rootfs}: open ${source}: no such file or directory`,
    });
  });

  it('mounts below the root filesystem, on directories and files', async () => {
    const source = makeDir('source');
    mkdirSync(join(source, 'sub'));
    writeFileSync(join(source, 'file'), 'covered');
    const file = join(dir, 'single');
    writeFileSync(file, 'single');
    await mountAll(
      [
        { type: 'bind', source, options: ['bind'] },
        { ...tmpfs, target: '/sub' },
        { type: 'bind', source: file, target: 'file', options: ['bind', 'ro'] },
      ],
      rootfs,
    );
    assert.deepEqual(
      mounts().map((info) => info.mountPoint),
      [rootfs, join(rootfs, 'sub'), join(rootfs, 'file')],
    );
    assert.equal(readFileSync(join(rootfs, 'file'), 'utf8'), 'single');
    assert.throws(() => writeFileSync(join(rootfs, 'file'), ''), { code: 'EROFS' });
  });

  it('is not led out of the root filesystem by symbolic links', async () => {
    makeDir('outside');
    makeDir('rootfs', 'inside');
    makeDir('rootfs', dir, 'outside');
    symlinkSync(join(dir, 'outside'), join(rootfs, 'absolute'));
    symlinkSync('../../../../../inside', join(rootfs, 'relative'));
    await mountAll(
      [
        { ...tmpfs, target: 'absolute' },
        { ...tmpfs, target: 'relative' },
      ],
      rootfs,
    );
    assert.deepEqual(
      mounts().map((info) => info.mountPoint),
      [join(rootfs, dir, 'outside'), join(rootfs, 'inside')],
    );
  });

  it('follows a link that is the root filesystem itself, and cleans up behind it', async () => {
    const link = join(dir, 'link');
    symlinkSync(rootfs, link);
    await assert.rejects(mountAll([tmpfs, { ...tmpfs, type: 'nosuchfs' }], link));
    assert.deepEqual(mounts(), []);
    await mountAll([tmpfs], link);
    assert.equal(mounts()[0]?.mountPoint, rootfs);
    await unmountRecursive(link);
    assert.deepEqual(mounts(), []);
  });

  it('leaves nothing when it fails half way', async () => {
    const source = makeDir('source');
    mkdirSync(join(source, 'sub'));
    const absent = join(dir, 'absent');
    const list: MountSpec[] = [
      { type: 'bind', source, options: ['rbind', 'ro'] },
      { ...tmpfs, target: 'sub' },
      { ...tmpfs },
      { type: 'bind', source: absent, options: ['bind'] },
    ];
    await assert.rejects(mountAll(list, rootfs), (error) => {
      assert.ok(error instanceof LaminaError);
      assert.equal(error.code, Code.NotFound);
      assert.equal(
        error.message,
        `failed to mount rootfs component: mount ${absent} on ${rootfs}: no such file or directory`,
      );
      return true;
    });
    assert.deepEqual(mounts(), []);
  });

  it('undoes a bind whose second call fails', async () => {
    await assert.rejects(mountAll([tmpfs, { ...tmpfs, options: ['size=1k', 'no-such-option'] }], rootfs), {
      message: /: invalid argument$/,
    });
    assert.deepEqual(mounts(), []);
  });

  it('does not unmount what was there before it', async () => {
    await mountAll([tmpfs], rootfs);
    await assert.rejects(mountAll([{ ...tmpfs, target: 'absent' }], rootfs), { code: Code.NotFound });
    assert.equal(mounts().length, 1);
  });

  it('leaves fuse types to a helper program, and undoes what that has mounted', async () => {
    const programs = makeDir('programs');
    const calls = join(dir, 'calls');
    const script = `#!/bin/sh\nprintf '%s\\n' "$@" >>${JSON.stringify(calls)}\nmount -t tmpfs fake "$2"\n`;
    writeFileSync(join(programs, 'mount.fuse3'), script, { mode: 0o755 });
    const path = process.env['PATH'];
    process.env['PATH'] = `${programs}:${path}`;
    try {
      const options = ['ro', 'X-containerd.x=1', 'allow_other'];
      const mount: MountSpec = { type: 'fuse3.sshfs', source: 'host:/', options };
      await mountAll([mount], rootfs);
      assert.deepEqual(readFileSync(calls, 'utf8').split('\n').slice(0, -1), [
        ...['host:/', rootfs, '-o', 'ro', '-o', 'allow_other', '-t', 'sshfs'],
      ]);
      assert.equal(mounts().length, 1);
      await unmountRecursive(rootfs);
      await assert.rejects(mountAll([mount, { ...tmpfs, type: 'nosuchfs' }], rootfs), /nosuchfs|no such device/);
      assert.deepEqual(mounts(), []);
    } finally {
      process.env['PATH'] = path;
    }
  });

  it('ends a helper that does not come back, and says which it was', async () => {
    const programs = makeDir('programs');
    writeFileSync(join(programs, 'mount.fuse'), '#!/bin/sh\nexec sleep 1000\n', { mode: 0o755 });
    writeFileSync(join(programs, 'mount.fuse3'), '#!/bin/sh\nexit 3\n', { mode: 0o755 });
    const path = process.env['PATH'];
    process.env['PATH'] = `${programs}:${path}`;
    try {
      await assert.rejects(mountAll([{ type: 'fuse.x', source: 's', options: [] }], rootfs, { helperTimeoutMs: 50 }), {
        code: Code.DeadlineExceeded,
        message: /mount s on .*: mount\.fuse: killed after 50 ms$/,
      });
      await assert.rejects(mountAll([{ type: 'fuse3.x', source: 's', options: [] }], rootfs), {
        message: /mount s on .*: mount\.fuse3: exit status 3$/,
      });
    } finally {
      process.env['PATH'] = path;
    }
  });
});

describe('identity-mapped mounts', { skip }, () => {
  let dir = '';
  let rootfs = '';
  before(() => {
    dir = realpathSync(mkdtempSync(`${MOUNT_PREFIX}idmap-`));
    rootfs = join(dir, 'rootfs');
    for (const name of ['rootfs', 'layers']) mkdirSync(join(dir, name));
  });
  after(async () => {
    await unmountRecursive(dir);
    rmSync(dir, { recursive: true });
  });
  // After the hooks above: hooks run in the order of their registration.
  expectNoLeaks();

  const maps = ['uidmap=0:100000:1000', 'gidmap=0:200000:1000'];

  it('show mapped owners in overlay layers and in binds, and leave no temporary mounts', async () => {
    mountTmpfs(join(dir, 'layers'));
    const paths = ['lower1', 'lower2', 'upper', 'work'].map((name) => join(dir, 'layers', name));
    for (const path of paths) mkdirSync(path);
    const [lower1 = '', lower2 = '', upper, work] = paths;
    writeFileSync(join(lower1, 'file'), '');
    chownSync(join(lower1, 'file'), 7, 8);
    const before = readdirSync(tmpdir());
    const options = [`lowerdir=${lower1}:${lower2}`, `upperdir=${upper}`, `workdir=${work}`];
    await mountAll([{ type: 'overlay', source: 'overlay', options: [...options, ...maps] }], rootfs);
    const { uid, gid } = statSync(join(rootfs, 'file'));
    assert.deepEqual([uid, gid], [100007, 200008]);
    await unmountRecursive(rootfs);
    await mountAll([{ type: 'bind', source: lower1, options: ['bind', 'ro', ...maps] }], rootfs);
    assert.equal(statSync(join(rootfs, 'file')).uid, 100007);
    assert.throws(() => writeFileSync(join(rootfs, 'new'), ''), { code: 'EROFS' });
    await unmountRecursive(rootfs);
    mkdirSync(join(rootfs, 'inside'));
    await mountAll([{ type: 'bind', source: lower1, target: 'inside', options: ['bind', ...maps] }], rootfs);
    assert.equal(statSync(join(rootfs, 'inside/file')).uid, 100007);
    await unmountRecursive(rootfs);
    assert.deepEqual(
      readMountInfo().filter((info) => info.mountPoint.startsWith(rootfs) || info.mountPoint.includes('lamina-idmap')),
      [],
    );
    assert.deepEqual(
      readdirSync(tmpdir()).filter((name) => name.startsWith('lamina-idmap-') && !before.includes(name)),
      [],
    );
  });

  it('need both maps, well formed', async () => {
    const bind = (...options: string[]) =>
      mountAll([{ type: 'bind', source: dir, options: ['bind', ...options] }], rootfs);
    await assert.rejects(bind('uidmap=0:1:2'), { code: Code.InvalidArgument, message: /only together/ });
    await assert.rejects(bind('uidmap=0:1', 'gidmap=0:1:2'), { code: Code.InvalidArgument, message: /uidmap=0:1/ });
    await assert.rejects(bind('uidmap=0:1:2,1:5:2', 'gidmap=0:1:2'), { code: Code.Unknown, message: /uid_map/ });
    assert.deepEqual(
      readMountInfo().filter((info) => info.mountPoint.startsWith(rootfs)),
      [],
    );
  });
});

describe('unmountRecursive', { skip }, () => {
  let dir = '';
  before(() => {
    dir = realpathSync(mkdtempSync(`${MOUNT_PREFIX}unmount-`));
  });
  after(async () => {
    await unmountRecursive(dir);
    rmSync(dir, { recursive: true });
  });
  // After the hooks above: hooks run in the order of their registration.
  expectNoLeaks();
  const mounts = () => readMountInfo().filter((info) => info.mountPoint.startsWith(dir));

  it('unmounts nested and stacked mounts, and leaves namesakes alone', async () => {
    const [root, sibling] = [join(dir, 'root'), join(dir, 'root-2')];
    for (const path of [root, sibling]) mkdirSync(path);
    mountTmpfs(sibling);
    for (let i = 0; i < 2; i += 1) {
      mountTmpfs(root);
      mkdirSync(join(root, 'a b', 'c'), { recursive: true });
      mountTmpfs(join(root, 'a b'));
    }
    assert.equal(mounts().length, 5);
    await unmountRecursive(root);
    assert.deepEqual(
      mounts().map((info) => info.mountPoint),
      [sibling],
    );
  });

  it('is fine with nothing there', async () => {
    await unmountRecursive(join(dir, 'absent'));
    await unmountRecursive(dir);
    await unmountRecursive(dir);
  });

  it('waits for a busy mount, but not for ever', async () => {
    const path = join(dir, 'busy');
    mkdirSync(path);
    mountTmpfs(path);
    const fd = openSync(path, 'r');
    await assert.rejects(unmountRecursive(path, { busyTimeoutMs: 0 }), { code: 'EBUSY', syscall: 'umount', path });
    const unmounted = unmountRecursive(path);
    setImmediate(() => closeSync(fd));
    await unmounted;
    assert.deepEqual(
      mounts().filter((info) => info.mountPoint === path),
      [],
    );
  });
});
