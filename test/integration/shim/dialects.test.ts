import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import * as api from '../../../src/api/index.js';
import { createClient } from '../../../src/ttrpc/index.js';
import { LAMINA } from '../../lib/box.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon } from '../../lib/shim-client.js';

const skip = requires({ root: true, runc: '1.1' }) || LAMINA.skip;

// The stock shim here speaks 1.6 only, so this is Lamina's alone.
describe('the start verb', { skip }, () => {
  let daemon: FakeDaemon;
  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
  });
  after(() => daemon.stop());

  /** Connects to what `start` gave, and lets the shim go. */
  const visit = async (id: string, address: string): Promise<void> => {
    const connection = await daemon.connect(address);
    const task = createClient(api.taskV2.TaskDefinition, connection);
    assert.ok((await task.connect({ id })).shimPid > 0);
    await task.shutdown({ id, now: false }).catch(() => undefined);
    connection.close();
  };

  it('prints a bare address to containerd 1.6, which says nothing', async () => {
    const bundle = await daemon.bundle({ args: ['/bin/true'] });
    const reply = await daemon.verb(bundle, ['start']);
    assert.equal(reply.stderr, '');
    assert.equal(reply.stdout.toString('utf8').trim(), `unix://${daemon.socketPath(bundle.id)}`);
    await visit(bundle.id, reply.stdout.toString('utf8').trim());
  });

  it('prints a bare address to daemons that send options as an Any', async () => {
    const bundle = await daemon.bundle({ args: ['/bin/true'] });
    const options = api.packMessage(api.runc.Options, api.runc.Options.fromPartial({ binaryName: 'runc' }));
    const reply = await daemon.verb(bundle, ['start'], { stdin: api.Any.encode(options).finish() });
    assert.equal(reply.stderr, '');
    await visit(bundle.id, reply.stdout.toString('utf8').trim());
  });

  it('answers BootstrapParams of 2.3 with a BootstrapResult', async () => {
    const bundle = await daemon.bundle({ args: ['/bin/true'] });
    const params = api.bootstrap.BootstrapParams.fromPartial({
      instanceId: bundle.id,
      namespace: daemon.namespace,
      containerdVersion: '2.3.0',
      containerdTtrpcAddress: `${daemon.address}.ttrpc`,
      containerdGrpcAddress: daemon.address,
      containerdBinary: '/bin/true',
    });
    const reply = await daemon.verb(bundle, ['start'], {
      stdin: api.bootstrap.BootstrapParams.encode(params).finish(),
    });
    assert.equal(reply.stderr, '');
    const result = api.bootstrap.BootstrapResult.decode(reply.stdout);
    assert.equal(result.protocol, 'ttrpc');
    assert.equal(result.version, 3);
    await visit(bundle.id, result.address);
  });

  it('refuses what is neither, on stderr, and leaves no shim', async () => {
    const bundle = await daemon.bundle({ args: ['/bin/true'] });
    const reply = await daemon.verb(bundle, ['start'], {
      stdin: Buffer.from('not protobuf at all \xff\xff', 'latin1'),
    });
    assert.equal(reply.code, 1);
    assert.equal(reply.stdout.length, 0);
    assert.notEqual(reply.stderr, '');
  });

  it('stays silent whatever the daemon has in its environment for Node', async () => {
    const bundle = await daemon.bundle({ args: ['/bin/true'] });
    const env = { NODE_OPTIONS: '--trace-warnings', NODE_PENDING_DEPRECATION: '1', NODE_DEBUG: 'net' };
    const reply = await daemon.verb(bundle, ['start'], { env });
    assert.equal(reply.stderr, '');
    await visit(bundle.id, reply.stdout.toString('utf8').trim());
  });

  it('says what is wrong without a config.json', async () => {
    const reply = await daemon.verb({ id: `none-${daemon.marker}`, path: daemon.dir }, ['start']);
    assert.equal(reply.code, 1);
    assert.match(reply.stderr, /config\.json/);
  });
});
