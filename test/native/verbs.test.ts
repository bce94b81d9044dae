import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { LM_ENGINE_OPTIONS } from '../../src/sys/index.js';
import { Bed, KEEPER, type RunResult, run, text } from './harness.js';

/** Fields of a protobuf message: varints as bigint, the rest as bytes. */
function decode(bytes: Buffer): Map<number, bigint | Buffer> {
  const fields = new Map<number, bigint | Buffer>();
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      assert.ok(byte !== undefined, 'whole varint');
      value |= BigInt(byte & 0x7f) << shift;
      if ((byte & 0x80) === 0) return value;
    }
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    if ((tag & 7) === 0) {
      fields.set(tag >> 3, varint());
    } else {
      assert.equal(tag & 7, 2);
      const length = Number(varint());
      fields.set(tag >> 3, bytes.subarray(at, at + length));
      at += length;
      assert.ok(at <= bytes.length);
    }
  }
  return fields;
}

describe('delete', () => {
  let bed: Bed;
  let runtime: string;
  let root: string;
  beforeEach(() => {
    bed = new Bed();
    root = join(bed.dir, 'root');
    // Stands in for runc: writes down how it was called.
    runtime = join(bed.dir, 'fake-runc');
    writeFileSync(runtime, `#!/bin/sh\necho "$@" > ${bed.dir}/called\n[ -z "$FAKE_RUNC" ] || eval "$FAKE_RUNC"\n`);
    chmodSync(runtime, 0o755);
    writeFileSync(join(bed.bundle, 'runtime'), runtime);
    writeFileSync(join(bed.bundle, 'options.json'), JSON.stringify({ root, systemd_cgroup: true, other: [1] }));
  });
  afterEach(() => bed.close());

  const remove = (options: Parameters<Bed['verb']>[1] = {}): Promise<RunResult> => bed.verb('delete', options);

  const answer = (result: RunResult): { pid: bigint; status: bigint; seconds: bigint; nanos: bigint } => {
    assert.equal(result.code, 0);
    const fields = decode(result.stdout);
    const time = decode(fields.get(3) as Buffer);
    const number = (map: Map<number, bigint | Buffer>, n: number): bigint => (map.get(n) as bigint | undefined) ?? 0n;
    return { pid: number(fields, 1), status: number(fields, 2), seconds: number(time, 1), nanos: number(time, 2) };
  };

  it('removes a container that the runtime still knows', async () => {
    mkdirSync(join(root, 'test', 'one'), { recursive: true });
    const result = await remove();
    assert.equal(result.stderr, '');
    assert.equal(
      readFileSync(join(bed.dir, 'called'), 'utf8'),
      `--root ${root}/test --systemd-cgroup delete --force one\n`,
    );
    const { pid, status, seconds } = answer(result);
    assert.deepEqual([pid, status], [0n, 137n]);
    assert.ok(Math.abs(Number(seconds) - Date.now() / 1000) < 60);
  });

  it('runs nothing for one it does not know, and may be repeated', async () => {
    writeFileSync(join(bed.bundle, 'init.pid'), '4711');
    assert.equal(answer(await remove()).pid, 4711n);
    assert.equal(answer(await remove()).pid, 4711n);
    assert.equal(existsSync(join(bed.dir, 'called')), false);
  });

  it('tells how init really ended when the engine has written it down', async () => {
    const exit = { pid: 12, exitStatus: 3, exitedAtSeconds: 1700000000, exitedAtNanos: 123456789 };
    writeFileSync(join(bed.bundle, 'lamina-exit.json'), JSON.stringify(exit));
    assert.deepEqual(answer(await remove()), { pid: 12n, status: 3n, seconds: 1700000000n, nanos: 123456789n });
    writeFileSync(join(bed.bundle, 'lamina-exit.json'), '{"exitStatus":');
    const broken = await remove();
    assert.match(broken.stderr, /warning: lamina-exit\.json: unexpected end/);
    assert.equal(answer(broken).status, 137n);
  });

  it('answers within its budget when the runtime fails or hangs', async () => {
    mkdirSync(join(root, 'test', 'one'), { recursive: true });
    const failed = await remove({ env: { FAKE_RUNC: 'echo no way >&2; exit 4' } });
    assert.match(failed.stderr, /warning: .*fake-runc delete --force one: exit status 4: no way\n$/);
    assert.equal(answer(failed).status, 137n);
    const hung = await remove({ env: { FAKE_RUNC: 'sleep 1000 & sleep 1000' } });
    assert.match(hung.stderr, /killed after 4000 ms/);
    assert.equal(answer(hung).status, 137n);
    rmSync(runtime);
    assert.match((await remove()).stderr, /warning: delete of one: execve .*fake-runc: No such file/);
  });

  it('unmounts everything under rootfs, with blanks in the names, and nothing else', async () => {
    const bundle = join(bed.dir, 'odd bundle');
    mkdirSync(join(bundle, 'rootfs', 'a b'), { recursive: true });
    mkdirSync(join(bundle, 'rootfs-not'));
    const script = `
      set -e
      mount -t tmpfs one "$B/rootfs"; mkdir -p "$B/rootfs/a b"; mount -t tmpfs two "$B/rootfs/a b"
      mount -t tmpfs three "$B/rootfs"; mount -t tmpfs other "$B/rootfs-not"
      sleep 1000 < "$B/rootfs" & P=$!
      cd "$B"; "$K" -namespace test -address x -id one -bundle "$B" delete > ../reply
      kill $P
      grep -c "$(basename "$B" | sed 's/ /.040/')/rootfs" /proc/self/mountinfo; grep -q rootfs-not /proc/self/mountinfo`;
    const result = await run('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script], {
      env: { ...bed.env, B: bundle, K: KEEPER },
    });
    assert.deepEqual([result.stderr, result.stdout.toString(), result.code], ['', '1\n', 0]);
  });

  it('does not follow a rootfs that is a link', async () => {
    const target = join(bed.dir, 'elsewhere');
    mkdirSync(target);
    symlinkSync(target, join(bed.bundle, 'rootfs'));
    const script = `mount -t tmpfs x "$T" && "$K" -namespace test -id one -bundle "$B" delete >/dev/null; grep -c "$T" /proc/self/mountinfo`;
    const result = await run('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script], {
      env: { ...bed.env, B: bed.bundle, T: target, K: KEEPER },
    });
    assert.deepEqual([result.stdout.toString(), result.stderr], ['1\n', '']);
  });

  it('removes a dead socket and leaves a live one', async () => {
    const path = join(bed.dir, 'sock');
    writeFileSync(join(bed.bundle, 'address'), `unix://${path}`);
    const server = createServer().listen(path);
    await new Promise((done) => server.once('listening', done));
    await remove();
    assert.ok(statSync(path).isSocket());
    await run('mv', [path, `${path}.kept`]);
    await new Promise((done) => server.close(done));
    await run('mv', [`${path}.kept`, path]);
    await remove();
    assert.equal(existsSync(path), false);
  });

  it('looks at the bundle of its id, wherever it is run, and does without one', async () => {
    writeFileSync(join(bed.bundle, 'init.pid'), '99');
    const other = join(bed.dir, 'other');
    mkdirSync(other);
    assert.equal(answer(await remove({ id: 'bundle', bundle: other })).pid, 99n);
    assert.equal(answer(await remove({ flags: [`-bundle=${bed.dir}/gone`] })).pid, 0n);
    for (const id of ['..', '../x', '.']) assert.match((await remove({ id })).stderr, /is not a usable id/);
  });
});

describe('-info', () => {
  let bed: Bed;
  beforeEach(() => {
    bed = new Bed();
  });
  afterEach(() => bed.close());

  const info = (input: Buffer, env: NodeJS.ProcessEnv = {}): Promise<RunResult> =>
    run(KEEPER, ['-info'], { cwd: '/', input, env: { ...bed.env, ...env } });
  const script = (name: string, body: string): string => {
    const path = join(bed.dir, name);
    writeFileSync(path, `#!/bin/sh\n${body}\n`);
    chmodSync(path, 0o755);
    return path;
  };
  const runcOptions = (binary: string): Buffer => {
    const value = text(6, binary);
    return Buffer.concat([text(1, 'x/containerd.runc.v1.Options'), Buffer.of(0x12, value.length), value]);
  };

  it('describes the shim and the runtime of the given options', async () => {
    const options = runcOptions(script('rt', 'echo "{\\"args\\": \\"$*\\"}"'));
    const result = await info(options);
    assert.deepEqual([result.code, result.stderr], [0, '']);
    const fields = decode(result.stdout);
    assert.equal(String(fields.get(1)), 'io.containerd.lamina.v2');
    assert.match(String(decode(fields.get(2) as Buffer).get(1)), /^\d+\.\d+\.\d+$/);
    assert.deepEqual(fields.get(3), options);
    const features = decode(fields.get(4) as Buffer);
    assert.equal(String(features.get(1)), 'types.containerd.io/opencontainers/runtime-spec/1/features/Features');
    assert.deepEqual(JSON.parse(String(features.get(2))), { args: 'features' });
  });

  it('leaves features out for a runtime without that command, and fails for one that is missing', async () => {
    const without = decode((await info(runcOptions(script('rt', 'echo usage; exit 1')))).stdout);
    assert.deepEqual([...without.keys()], [1, 2, 3]);
    const missing = await info(runcOptions('/no/runtime'));
    assert.deepEqual([missing.code, missing.stdout.length], [1, 0]);
    assert.equal(missing.stderr, 'containerd-shim-lamina-v2: execve /no/runtime: No such file or directory\n');
    assert.match((await info(Buffer.from('\xff'))).stderr, /stdin holds no options/);
  });

  it('asks the engine where TOML names the runtime', async () => {
    const runtime = script('rt', 'echo "{}"');
    const node = script(
      'node',
      `cat > ${bed.dir}/stdin; echo "$@" > ${bed.dir}/args; echo ${runtime}; exit $LAMINA_FAKE_CODE`,
    );
    const options = Buffer.concat([text(1, 'runtimeoptions.v1.Options'), text(2, 'toml')]);
    const fields = decode((await info(options, { LAMINA_NODE: node })).stdout);
    assert.ok(fields.has(4));
    assert.deepEqual(readFileSync(join(bed.dir, 'stdin')), options);
    assert.equal(
      readFileSync(join(bed.dir, 'args'), 'utf8'),
      `${LM_ENGINE_OPTIONS} ${bed.dir}/lib/engine.cjs --print-runtime\n`,
    );
    const configured = decode((await info(Buffer.alloc(0), { LAMINA_NODE: node, LAMINA_CONFIG: '/x.toml' })).stdout);
    assert.deepEqual([...configured.keys()], [1, 2, 4]);
    const failed = await info(options, { LAMINA_NODE: node, LAMINA_FAKE_CODE: '3' });
    assert.deepEqual([failed.code, failed.stderr], [1, 'containerd-shim-lamina-v2: configuration: exit status 3: \n']);
  });
});

describe('-v', () => {
  it('prints name, version, revision and build', async () => {
    for (const flag of ['-v', '--version', '-version=true']) {
      const { code, stdout, stderr } = await run(KEEPER, [flag]);
      assert.deepEqual([code, stderr], [0, '']);
      assert.match(
        stdout.toString(),
        /^containerd-shim-lamina-v2:\n {2}Version: {2}\d+\.\d+\.\d+\n {2}Revision: \S+\n {2}Build: {4}[0-9a-f]{16}\n\n$/,
      );
    }
  });
});
