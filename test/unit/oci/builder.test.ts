import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  applyOptions,
  buildSpec,
  compose,
  DEFAULT_CAPABILITIES,
  defaultSpec,
  type OciSpec,
  withAddedCapabilities,
  withAnnotations,
  withArgs,
  withBindMount,
  withCapabilities,
  withCgroupsPath,
  withCpuQuota,
  withDevices,
  withEnv,
  withHostname,
  withMemoryLimit,
  withMounts,
  withNamespace,
  withNamespaces,
  withoutNamespace,
  withPidsLimit,
  withRlimits,
  withRootfs,
  withTty,
  withUser,
  withUserNamespace,
} from '../../../src/oci/index.js';

describe('spec builder', () => {
  it('gives every spec parts of its own', () => {
    const first = buildSpec(withAddedCapabilities('CAP_SYS_ADMIN'), withoutNamespace('pid'));
    first.mounts?.pop();
    first.linux?.maskedPaths?.pop();
    assert.deepEqual(buildSpec(), defaultSpec());
    assert.ok(!DEFAULT_CAPABILITIES.includes('CAP_SYS_ADMIN'));
  });

  it('sets what runs', () => {
    const { process, hostname, root } = buildSpec(
      withArgs('sh', '-c', 'true'),
      withEnv({ PATH: '/bin', A: 'b=c' }),
      withEnv({ A: undefined, B: '' }),
      withUser({ uid: 1, gid: 2, additionalGids: [3] }),
      withTty({ columns: 80, rows: 24 }),
      withRlimits({ type: 'RLIMIT_NOFILE', hard: 5, soft: 4 }, { type: 'RLIMIT_CORE', hard: 0, soft: 0 }),
      withHostname('h'),
      withRootfs('/r', { readonly: true }),
    );
    assert.deepEqual(process?.args, ['sh', '-c', 'true']);
    assert.deepEqual(process?.env, ['PATH=/bin', 'B=', 'TERM=xterm']);
    assert.deepEqual(process?.user, { uid: 1, gid: 2, additionalGids: [3] });
    assert.deepEqual([process?.terminal, process?.consoleSize], [true, { width: 80, height: 24 }]);
    assert.deepEqual(
      process?.rlimits?.map(({ type, hard }) => [type, hard]),
      [
        ['RLIMIT_NOFILE', 5],
        ['RLIMIT_CORE', 0],
      ],
    );
    assert.equal(hostname, 'h');
    assert.deepEqual(root, { path: '/r', readonly: true });
  });

  it('keeps a TERM that was set before', () => {
    assert.ok(buildSpec(withEnv({ TERM: 'vt100' }), withTty()).process?.env?.includes('TERM=vt100'));
  });

  it('replaces the mount of the same destination', () => {
    const tmpfs = { destination: '/dev/shm', type: 'tmpfs', source: 'shm' };
    const mounts = buildSpec(withMounts(tmpfs), withBindMount('/src', '/dst', { readonly: true })).mounts ?? [];
    assert.deepEqual(
      mounts.filter((mount) => mount.destination === '/dev/shm'),
      [tmpfs],
    );
    assert.deepEqual(mounts.at(-1), { destination: '/dst', type: 'bind', source: '/src', options: ['rbind', 'ro'] });
  });

  it('merges resources controller by controller', () => {
    const limits = [withMemoryLimit(100, 20), withCpuQuota(150_000), withPidsLimit(7), withMemoryLimit(200)];
    const resources = buildSpec(...limits).linux?.resources;
    assert.deepEqual(resources?.memory, { limit: 200, swap: 120 });
    assert.deepEqual(resources?.cpu, { quota: 150_000, period: 100_000 });
    assert.deepEqual(resources?.pids, { limit: 7 });
    assert.equal(resources?.devices?.length, 1);
  });

  it('sets namespaces one by one or all', () => {
    const linux = buildSpec(withNamespaces('pid', { type: 'network', path: '/n' }), withNamespace('pid', '/p')).linux;
    assert.deepEqual(linux?.namespaces, [
      { type: 'network', path: '/n' },
      { type: 'pid', path: '/p' },
    ]);
    const mapping = { containerID: 0, hostID: 1000, size: 10 };
    const mapped = buildSpec(withUserNamespace([mapping], [mapping])).linux;
    assert.deepEqual(mapped?.uidMappings, [mapping]);
    assert.deepEqual(mapped?.namespaces?.at(-1), { type: 'user' });
  });

  it('allows the devices it adds', () => {
    const device = { path: '/dev/fuse', type: 'c', major: 10, minor: 229 };
    const linux = buildSpec(withDevices(device)).linux;
    assert.deepEqual(linux?.devices, [device]);
    assert.deepEqual(linux?.resources?.devices?.at(-1), {
      allow: true,
      type: 'c',
      major: 10,
      minor: 229,
      access: 'rwm',
    });
  });

  it('builds upon any spec, creating the parts it needs', () => {
    const spec: OciSpec = { ociVersion: '1.0.2' };
    const option = compose(withArgs('a'), false, withCgroupsPath('/x/y'), undefined, withAnnotations({ k: 'v' }));
    assert.equal(applyOptions(spec, option, withCapabilities('CAP_KILL')), spec);
    const capabilities = { bounding: ['CAP_KILL'], effective: ['CAP_KILL'], permitted: ['CAP_KILL'] };
    assert.deepEqual(spec, {
      ociVersion: '1.0.2',
      process: { cwd: '/', args: ['a'], capabilities },
      linux: { cgroupsPath: '/x/y' },
      annotations: { k: 'v' },
    });
  });
});
