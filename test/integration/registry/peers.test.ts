/** Beside containerd's client: the same registry, the same configuration, the same result. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { formatReference, parseReference, Registry, RegistryError } from '../../../src/registry/index.js';
import { Containerd } from '../../lib/containerd.js';
import { Authority } from '../../lib/registry/certificates.js';
import { DebianRegistry } from '../../lib/registry/debian.js';
import { collect, emptyLayer, makeImage, pushImage } from '../../lib/registry/image.js';
import { requires } from '../../lib/requires.js';

const skip = requires({ root: true, containerd: true, programs: ['docker-registry', 'openssl'] });

describe('beside ctr', { skip }, () => {
  let daemon: Containerd;
  let namespace: string;
  let plain: DebianRegistry;
  let secure: DebianRegistry;
  let folder: string;
  const { layer, diffId } = emptyLayer();
  const image = makeImage([layer], { os: 'linux', architecture: 'amd64' }, [diffId]);

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'lamina-peers-'));
    const authority = new Authority(join(folder, 'ca'));
    plain = await DebianRegistry.start();
    secure = await DebianRegistry.start({ tls: authority.issue('server') });
    const own = join(folder, 'hosts', `${secure.host.replace(':', '_')}_`);
    mkdirSync(own, { recursive: true });
    // containerd 1.6 reads no file that has no host.
    writeFileSync(join(own, 'hosts.toml'), `[host."https://${secure.host}"]\nca = "${authority.ca.cert}"\n`);
    mkdirSync(join(folder, 'hosts', 'images.test'));
    const mirror = `[host."https://${secure.host}"]\ncapabilities = ["pull", "resolve"]\nca = "${authority.ca.cert}"\n`;
    writeFileSync(join(folder, 'hosts/images.test/hosts.toml'), `server = "http://127.0.0.1:1"\n${mirror}`);
    daemon = await Containerd.start();
    namespace = `${daemon.marker}-registry`;
  });
  after(async () => {
    await daemon.stop();
    daemon.removeFolder();
    await plain.stop();
    await secure.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  it('each fetches what the other pushed', async () => {
    using registry = new Registry();
    const ours = `${plain.host}/ours/image:one`;
    await pushImage(registry, ours, image, 'one');
    const fetched = await daemon.ctr(namespace, ['content', 'fetch', '--plain-http', ours]);
    assert.equal(fetched.code, 0, fetched.stderr);
    const theirs = `${plain.host}/theirs/image:two`;
    const pushed = await daemon.ctr(namespace, ['images', 'push', '--plain-http', theirs, ours]);
    assert.equal(pushed.code, 0, pushed.stderr);
    const repository = registry.repository(theirs);
    const found = await repository.image('two', { platform: { os: 'linux', architecture: 'amd64' } });
    assert.equal(found.manifest.descriptor.digest, image.digest);
    for (const descriptor of found.manifest.content.layers) {
      assert.deepEqual(await collect(repository.readBlob(descriptor)), layer);
    }
  });

  it('both read the same hosts.toml: authorities, mirrors, the namespace', async () => {
    const hostsDir = join(folder, 'hosts');
    using registry = new Registry({ hostsDir, retry: { attempts: 1 } });
    await pushImage(registry, `${secure.host}/mirrored`, image, 'tag');
    for (const reference of [`${secure.host}/mirrored:tag`, 'images.test/mirrored:tag']) {
      const theirs = await daemon.ctr(namespace, ['content', 'fetch', '--hosts-dir', hostsDir, reference]);
      assert.equal(theirs.code, 0, theirs.stderr);
      assert.equal((await registry.repository(reference).resolve('tag')).digest, image.digest);
    }
    for (const reference of ['images.test/never:tag', `${secure.host}/mirrored:never`]) {
      const theirs = await daemon.ctr(namespace, ['content', 'fetch', '--hosts-dir', hostsDir, reference]);
      assert.notEqual(theirs.code, 0);
      const tag = parseReference(reference).tag ?? '';
      await assert.rejects(registry.repository(reference).resolve(tag), (error) => error instanceof RegistryError);
    }
  });

  it('both take names for the same, where ctr takes them', async () => {
    using registry = new Registry();
    const full = `${plain.host}/names/a_b--c.d:T-1`;
    await pushImage(registry, full, image, 'T-1');
    assert.equal(formatReference(parseReference(full)), full);
    const theirs = await daemon.ctr(namespace, ['content', 'fetch', '--plain-http', full]);
    assert.equal(theirs.code, 0, theirs.stderr);
  });
});
