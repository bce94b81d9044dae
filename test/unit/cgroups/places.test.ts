import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { detectCgroups, parseCgroupMounts } from '../../../src/cgroups/detect.js';
import { CgroupNotFoundError } from '../../../src/cgroups/errors.js';
import { cgroupDirectory, parseMembership, readMembership } from '../../../src/cgroups/membership.js';
import { assertNotOurs } from '../../../src/cgroups/signal.js';

const HYBRID = `23 1 0:20 / /sys rw - sysfs sysfs rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,release_agent=/lib/x,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
50 23 0:29 / /mnt/with\\040space rw - cgroup cgroup rw,cpu,cpuacct
51 23 0:60 / /mnt/pids rw - cgroup cgroup rw,pids
`;

describe('parseCgroupMounts', () => {
  it('finds controllers, joint mounts, named hierarchies and the v2 mount', () => {
    const { unified, controllers } = parseCgroupMounts(HYBRID);
    assert.deepEqual(unified, [{ mountPoint: '/sys/fs/cgroup/unified', root: '/' }]);
    assert.deepEqual(new Set(controllers.keys()), new Set(['cpu', 'cpuacct', 'memory', 'name=systemd', 'pids']));
    assert.equal(controllers.get('cpu'), controllers.get('cpuacct'));
    assert.equal(controllers.get('cpu')?.mountPoint, '/sys/fs/cgroup/cpu,cpuacct');
    assert.deepEqual(controllers.get('memory'), { mountPoint: '/sys/fs/cgroup/memory', root: '/docker/abc' });
    assert.equal(controllers.get('pids')?.mountPoint, '/mnt/pids');
  });

  it('prefers the mount below the given directory, and undoes escapes', () => {
    assert.equal(parseCgroupMounts(HYBRID, '/mnt').controllers.get('cpu')?.mountPoint, '/mnt/with space');
  });

  it('takes arbitrary text', () => {
    fc.assert(
      fc.property(fc.string(), (text) => void parseCgroupMounts(`${text}\n1 2 3 / ${text} - cgroup x ${text}`)),
    );
  });
});

describe('detectCgroups', () => {
  it('is hybrid or legacy where v1 controllers are mounted, by a v2 mount beside them', () => {
    const root = '/nonexistent';
    assert.equal(detectCgroups({ root, mountInfo: HYBRID }).mode, 'hybrid');
    const legacy = HYBRID.split('\n').filter((line) => !line.includes('cgroup2'));
    assert.equal(detectCgroups({ root, mountInfo: legacy.join('\n') }).mode, 'legacy');
  });

  it('fails where nothing is mounted', () => {
    assert.throws(() => detectCgroups({ root: '/nonexistent', mountInfo: '' }), { name: 'LaminaError', code: 9 });
  });
});

describe('parseMembership', () => {
  it('reads the v2 line and the v1 lines, colons in paths included', () => {
    const text = '9:name=systemd:/\n4:cpu,cpuacct:/a:b\n3:memory:/process_api/x\n0::/system.slice:odd/c\n';
    const { unified, controllers } = parseMembership(text);
    assert.equal(unified, '/system.slice:odd/c');
    assert.deepEqual(Object.fromEntries(controllers), {
      'name=systemd': '/',
      cpu: '/a:b',
      cpuacct: '/a:b',
      memory: '/process_api/x',
    });
  });

  it('takes arbitrary text', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (a, b) => {
        const { unified, controllers } = parseMembership(`${a}\n1:${b}:/${a}\n0::/${b}`);
        for (const path of [unified ?? '/', ...controllers.values()]) assert.ok(path.startsWith('/'));
      }),
    );
  });

  it('says NotFound for a process that does not exist', () => {
    assert.throws(() => readMembership(2 ** 22 + 1), { name: 'LaminaError', code: 5 });
  });
});

describe('paths that are not ASCII', () => {
  it('are read from bytes: UTF-8, what is no UTF-8, and what a regular expression takes for the end of a line', () => {
    const line = (path: Uint8Array): Buffer =>
      Buffer.concat([Buffer.from('4:memory:/'), path, Buffer.from('\n0::/x\n')]);
    const memoryOf = (path: Uint8Array): string | undefined => parseMembership(line(path)).controllers.get('memory');
    assert.equal(memoryOf(Buffer.from('ünï')), '/ünï');
    assert.equal(memoryOf(Buffer.from([0x61, 0xff])), '/a\udcff');
    for (const odd of ['a\r', 'a\u2028b', 'a\u2029', 'a\u0085']) assert.equal(memoryOf(Buffer.from(odd)), `/${odd}`);
    assert.equal(parseMembership(line(Buffer.from('ü'))).unified, '/x');
  });

  it('are those of the mounts as well', () => {
    const { unified } = parseCgroupMounts('41 31 0:38 / /mnt/ü\\040\udcff rw - cgroup2 cgroup2 rw\n');
    assert.deepEqual(unified, [{ mountPoint: '/mnt/ü \udcff', root: '/' }]);
  });
});

describe('cgroupDirectory', () => {
  it('takes the part of the path that is below the mounted root', () => {
    const host = { mountPoint: '/sys/fs/cgroup', root: '/' };
    const inner = { mountPoint: '/sys/fs/cgroup/memory', root: '/docker/abc' };
    assert.equal(cgroupDirectory(host, '/'), '/sys/fs/cgroup');
    assert.equal(cgroupDirectory(host, '/default/web'), '/sys/fs/cgroup/default/web');
    assert.equal(cgroupDirectory(inner, '/docker/abc'), '/sys/fs/cgroup/memory');
    assert.equal(cgroupDirectory(inner, '/docker/abc/x'), '/sys/fs/cgroup/memory/x');
  });

  it('refuses what lies outside of the mount or of the cgroup namespace', () => {
    const inner = { mountPoint: '/m', root: '/docker/abc' };
    for (const path of ['/docker', '/docker/abcd', '/', '/../x', '/docker/abc/../x']) {
      assert.throws(() => cgroupDirectory(inner, path), CgroupNotFoundError, path);
    }
  });

  it('accepts names that only look like a way up', () => {
    assert.equal(cgroupDirectory({ mountPoint: '/m', root: '/' }, '/..x/a..'), '/m/..x/a..');
  });
});

describe('assertNotOurs', () => {
  it('refuses the group this process is in and every ancestor of it', () => {
    for (const path of ['/a/b', '/a', '/']) assert.throws(() => assertNotOurs('kill', path, '/a/b'), { code: 9 });
  });

  it('allows others', () => {
    for (const path of ['/a/b/c', '/a/bb', '/b']) assertNotOurs('kill', path, '/a/b');
    assertNotOurs('kill', '/a', undefined);
  });
});
