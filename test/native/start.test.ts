import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Bed, eventually, FAKE_ENGINE, isGone, KEEPER, run, text } from './harness.js';

describe('start', () => {
  let bed: Bed;
  beforeEach(() => {
    bed = new Bed();
  });
  afterEach(() => bed.close());

  const hash = (group: string): string =>
    createHash('sha256')
      .update(join(bed.dir, 'grpc', 'test', group))
      .digest('hex');

  /** What a failed start must leave: the bundle as it was, no socket directory, no process. */
  const nothingLeft = (): void => {
    assert.deepEqual(
      readdirSync(bed.bundle).filter((name) => name !== 'config.json'),
      [],
    );
    assert.equal(existsSync(bed.socketDir), false);
  };

  it('answers bootstrap parameters with a protobuf result of version 3', async () => {
    const result = await bed.verb('start', { input: bed.params() });
    const address = `unix://${join(bed.socketDir, hash('one'))}`;
    const expected = Buffer.concat([Buffer.of(8, 3), text(2, address), text(3, 'ttrpc')]);
    assert.deepEqual(result, { code: 0, stdout: expected, stderr: '' });
    assert.equal(readFileSync(join(bed.bundle, 'address'), 'utf8'), address);
    assert.equal(readlinkSync(join(bed.bundle, 's')), bed.socketDir);
    assert.equal(statSync(bed.socketDir).mode & 0o777, 0o700);
    assert.equal(statSync(join(bed.socketDir, hash('one'))).mode & 0o777, 0o600);
    await bed.replayed(await bed.engine());
  });

  it('answers older daemons with a bare address, or JSON when told to', async () => {
    const options = Buffer.concat([text(1, 'containerd.runc.v1.Options'), text(2, '')]);
    for (const [input, env, expect] of [
      [Buffer.alloc(0), {}, (address: string) => address],
      [options, {}, (address: string) => address],
      [
        options,
        { LAMINA_BOOTSTRAP: 'json' },
        (address: string) => `{"version":3,"address":"${address}","protocol":"ttrpc"}`,
      ],
    ] as const) {
      const result = await bed.verb('start', { input, env });
      const path = join('/run/containerd/s', hash('one'));
      try {
        assert.deepEqual([result.code, result.stderr, result.stdout.toString()], [0, '', expect(`unix://${path}`)]);
        const engine = await bed.engine();
        const hello = await bed.replayed(engine);
        engine.send('EXIT');
        await eventually('keeper exit', () => isGone(hello.arg));
        assert.equal(existsSync(path), false);
        engine.kill();
      } finally {
        rmSync(path, { force: true });
      }
    }
  });

  it('refuses a command line or input it cannot understand, and leaves nothing', async () => {
    const refused = async (pattern: RegExp, code: number, ...args: Parameters<Bed['verb']>): Promise<void> => {
      const result = await bed.verb(...args);
      assert.match(result.stderr, pattern);
      assert.equal(result.code, code);
      assert.equal(result.stdout.length, 0);
      nothingLeft();
    };
    await refused(/^containerd-shim-lamina-v2: stdin holds neither/, 1, 'start', {
      input: Buffer.from('\xff\xff garbage'),
    });
    await refused(/flag provided but not defined: -what/, 2, 'start', { flags: ['-what'] });
    await refused(/^containerd-shim-lamina-v2: shim namespace cannot be empty\n$/, 1, 'start', {
      flags: ['-namespace='],
    });
    await refused(/shim id cannot be empty/, 1, 'start', { flags: ['--id', ''] });
    await refused(/unknown verb stop/, 1, 'stop');
    const { stderr, code } = await run(KEEPER, ['-namespace']);
    assert.deepEqual([stderr, code], ['containerd-shim-lamina-v2: flag needs an argument: -namespace\n', 2]);
  });

  it('names the config.json it cannot use', async () => {
    for (const [spec, pattern] of [
      ['{"annotations": {', /bundle\/config\.json: unexpected end|expected a key/],
      ['{"annotations": ["x"]}', /config\.json: not an object/],
      ['{"annotations": {"io.kubernetes.cri.sandbox-id": 7}}', /config\.json: .* is a number/],
      ['{"a": 01}', /config\.json: expected ',' or '}'/],
      ['{"a": "\u0001"}', /config\.json: control character/],
      ['{} x', /config\.json: text after the end/],
      [`${'['.repeat(500)}`, /config\.json/],
    ] as const) {
      bed.config(spec);
      const result = await bed.verb('start', { input: bed.params() });
      assert.equal(result.code, 1, spec);
      assert.match(result.stderr, pattern);
      nothingLeft();
    }
    rmSync(join(bed.bundle, 'config.json'));
    assert.match((await bed.verb('start', { input: bed.params() })).stderr, /config\.json: No such file or directory/);
  });

  it('groups by the annotations, the runc one first', async () => {
    const spec = (annotations: Record<string, string>): string =>
      JSON.stringify({ process: { args: ['"{'] }, annotations });
    for (const [annotations, group] of [
      [{ 'io.kubernetes.cri.sandbox-id': 'pöd\u{1f600}', other: 'x' }, 'pöd\u{1f600}'],
      [{ 'io.kubernetes.cri.sandbox-id': 'pod', 'io.containerd.runc.v2.group': 'group' }, 'group'],
    ] as const) {
      bed.config(spec(annotations).replace('\u{1f600}', '\\ud83d\\ude00'));
      const { hello, engine, socket } = await bed.keeper();
      assert.ok(hello.fields.some((field) => field.toString() === `group=${group}`));
      assert.equal(socket, join(bed.socketDir, hash(group)));
      engine.send('EXIT');
      await eventually('socket removed', () => !existsSync(socket));
      engine.kill();
    }
  });

  it('cleans the daemon address as Go does before it computes the path', async () => {
    const joined = (address: string): string => createHash('sha256').update(address).digest('hex');
    for (const [address, cleaned] of [
      [`${bed.dir}/x/..//./grpc/`, `${bed.dir}/grpc/test/one`],
      ['', 'test/one'],
      ['../a/../../b', '../../b/test/one'],
      ['/../..', '/test/one'],
      ['.', 'test/one'],
    ] as const) {
      const result = await bed.verb('start', { input: bed.params(), flags: [`-address=${address}`] });
      assert.equal(result.code, 0, result.stderr);
      assert.equal(readFileSync(join(bed.bundle, 'address'), 'utf8'), `unix://${join(bed.socketDir, joined(cleaned))}`);
    }
    const engine = await bed.engine();
    // The last one joins the second.
    for (let i = 0; i < 4; i++) await bed.replayed(engine);
  });

  it('joins the keeper of its group and starts nothing', async () => {
    const annotations = { 'io.kubernetes.cri.sandbox-id': 'pod' };
    bed.config({ annotations });
    const { socket, engine } = await bed.keeper();
    const second = join(bed.dir, 'second');
    bed.config({ annotations }, second);
    assert.equal(await bed.start({ id: 'two', bundle: second }), socket);
    await engine.next('ACCEPTED'); // the probe
    await engine.settled();
    assert.equal(engine.pendingOf('HELLO').length, 0);
  });

  it('replaces a socket nobody listens on', async () => {
    const path = join(bed.socketDir, hash('one'));
    mkdirSync(bed.socketDir);
    const dead = createServer().listen(path);
    await new Promise((done) => dead.once('listening', done));
    const inode = statSync(path).ino;
    // Node removes the file when it closes; a crashed shim does not.
    await run('/bin/sh', ['-c', `mv '${path}' '${path}.kept'`]);
    await new Promise((done) => dead.close(done));
    await run('/bin/sh', ['-c', `mv '${path}.kept' '${path}'`]);
    assert.equal(statSync(path).ino, inode);
    const { socket } = await bed.keeper();
    assert.equal(socket, path);
    (await bed.connect(socket)).destroy();
  });

  it('takes everything back when the reply cannot be written', async () => {
    const script = `exec "$0" -namespace test -address '${bed.dir}/grpc' -id one start > /dev/full`;
    const result = await run('/bin/sh', ['-c', script, KEEPER], { cwd: bed.bundle, env: bed.env, input: bed.params() });
    assert.equal(result.code, 1);
    assert.match(result.stderr, /write the reply: No space left on device/);
    nothingLeft();
  });

  it('refuses a socket path that is too long', async () => {
    const input = Buffer.concat([text(1, 'one'), text(2, 'test'), text(9, join(bed.dir, 'x'.repeat(50)))]);
    const result = await bed.verb('start', { input });
    assert.match(result.stderr, /is longer than 106 bytes/);
    nothingLeft();
  });

  it('says so when there is no node to run an engine with', async () => {
    bed.env['LAMINA_NODE'] = '/no/such/node';
    const result = await bed.verb('start', { input: bed.params() });
    assert.equal(result.code, 1);
    assert.match(result.stderr, /node: LAMINA_NODE is \/no\/such\/node: no such program/);
    nothingLeft();
  });

  it('runs the engine on the node of its release, else on that of the library', async () => {
    delete bed.env['LAMINA_NODE'];
    const library = join(bed.dir, 'lib');
    const release = join(library, 'releases/1');
    mkdirSync(release, { recursive: true });
    writeFileSync(join(release, 'engine.cjs'), '');
    rmSync(join(library, 'engine.cjs'));
    symlinkSync('releases/1/engine.cjs', join(library, 'engine.cjs'));
    copyFileSync(FAKE_ENGINE, join(library, 'node'));
    copyFileSync(FAKE_ENGINE, join(release, 'node'));
    const started = async (): Promise<string> => {
      const { socket, engine, pid } = await bed.keeper();
      const node = readlinkSync(`/proc/${engine.pid}/exe`);
      engine.send('EXIT');
      await eventually('keeper exit', () => isGone(pid) && !existsSync(socket));
      engine.kill();
      return node;
    };
    assert.equal(await started(), join(release, 'node'));
    rmSync(join(release, 'node'));
    assert.equal(await started(), join(library, 'node'));
  });

  it('runs no other node than its own: not one that is in PATH', async () => {
    delete bed.env['LAMINA_NODE'];
    copyFileSync(FAKE_ENGINE, join(bed.dir, 'node'));
    const result = await bed.verb('start', { input: bed.params(), env: { PATH: `${bed.dir}:/usr/bin:/bin` } });
    assert.equal(result.code, 1);
    assert.match(
      result.stderr,
      /node: not found in \/.*\/lib: install Lamina again, or let LAMINA_NODE name a node\n$/,
    );
    nothingLeft();
  });

  /** A copy of the program outside of any installation, with what scripts/install adds to one. */
  const copyProgram = (noted = ''): string => {
    const program = join(bed.dir, 'elsewhere/shim');
    mkdirSync(join(bed.dir, 'elsewhere'), { recursive: true });
    const note = noted === '' ? '' : `\nlamina-library:${noted}\n`;
    writeFileSync(program, Buffer.concat([readFileSync(KEEPER), Buffer.from(note)]), { mode: 0o755 });
    return program;
  };
  const startWith = (program: string): ReturnType<typeof run> => {
    const flags = ['-namespace', 'test', '-address', join(bed.dir, 'grpc'), '-id', 'one', 'start'];
    return run(program, flags, { cwd: bed.bundle, env: bed.env, input: bed.params() });
  };
  const usesLibrary = async (program: string, library: string): Promise<void> => {
    const result = await startWith(program);
    assert.deepEqual([result.code, result.stderr], [0, '']);
    const engine = await bed.engine();
    const { arg } = await bed.replayed(engine);
    assert.equal(engine.args.at(-1), join(library, 'engine.cjs'));
    engine.send('EXIT');
    await eventually('keeper exit', () => isGone(arg));
    engine.kill();
  };
  const makeLibrary = (path: string): string => {
    mkdirSync(join(bed.dir, path), { recursive: true });
    writeFileSync(join(bed.dir, path, 'engine.cjs'), '');
    return join(bed.dir, path);
  };

  it('finds the engine when it was copied or linked: beside itself, else where it was installed', async () => {
    delete bed.env['LAMINA_LIB'];
    const installed = makeLibrary('installed/lib/lamina');
    const program = copyProgram(installed);
    await usesLibrary(program, installed);
    const [symbolic, hard] = [join(bed.dir, 'symbolic'), join(bed.dir, 'hard')];
    symlinkSync(program, symbolic);
    linkSync(program, hard);
    await usesLibrary(symbolic, installed);
    await usesLibrary(hard, installed);
    await usesLibrary(program, makeLibrary('lib/lamina'));
  });

  it('finds the engine where the configuration says, and nowhere else then', async () => {
    delete bed.env['LAMINA_LIB'];
    const config = join(bed.dir, 'config.toml');
    bed.env['LAMINA_CONFIG'] = config;
    const named = makeLibrary('named');
    writeFileSync(config, `engine = "shared"\n  library = '${named}' # there\n[timeouts]\n`);
    const program = copyProgram(makeLibrary('installed/lib/lamina'));
    await usesLibrary(program, named);
    rmSync(named, { recursive: true });
    const { code, stderr } = await startWith(program);
    assert.equal(code, 1);
    assert.match(
      stderr,
      /engine: not found \(\/.*\/named: No such file or directory\): install Lamina, or let `library`/,
    );
    // In a table it is another key.
    writeFileSync(config, `[timeouts]\nlibrary = '/nowhere'\n`);
    await usesLibrary(program, join(bed.dir, 'installed/lib/lamina'));
  });

  it('names every place where it has looked for the engine', async () => {
    delete bed.env['LAMINA_LIB'];
    const { code, stderr } = await startWith(copyProgram('/no/such/place/lib/lamina'));
    assert.equal(code, 1);
    for (const place of [
      join(bed.dir, 'lib/lamina'),
      '/no/such/place/lib/lamina',
      '/usr/local/lib/lamina',
      '/usr/lib/lamina',
      '/opt/lamina/lib/lamina',
    ]) {
      assert.ok(stderr.includes(`${place}: No such file or directory`) || existsSync(place), `${place} in ${stderr}`);
    }
    nothingLeft();
  });

  it('runs nothing that others could have put there', { skip: process.geteuid?.() !== 0 && 'needs root' }, async () => {
    delete bed.env['LAMINA_LIB'];
    chmodSync(bed.dir, 0o755);
    const library = makeLibrary('installed/lib/lamina');
    const script = join(library, 'engine.cjs');
    const program = copyProgram(library);
    const refused = async (pattern: RegExp): Promise<void> => {
      const { code, stderr } = await startWith(program);
      assert.equal(code, 1);
      assert.match(stderr, pattern);
    };
    chmodSync(script, 0o666);
    await refused(/lib\/lamina\/engine\.cjs can be written by anybody/);
    chmodSync(script, 0o644);
    chmodSync(join(bed.dir, 'installed'), 0o777);
    await refused(/\/installed can be written by anybody/);
    // Nobody can replace what is another's there.
    chmodSync(join(bed.dir, 'installed'), 0o1777);
    await usesLibrary(program, library);
    chownSync(library, 65534, 65534);
    await refused(/lib\/lamina belongs to user 65534/);
    chownSync(library, 0, 0);
    // What a link leads to is what counts.
    symlinkSync(bed.dir, join(bed.dir, 'way'));
    const foreign = makeLibrary('foreign');
    chownSync(foreign, 65534, 65534);
    rmSync(script);
    symlinkSync(join(bed.dir, 'way/foreign/engine.cjs'), script);
    await refused(/\/foreign belongs to user 65534/);
  });

  it('accepts unknown flags with a value and says so in the log only', async () => {
    const log = join(bed.bundle, 'log');
    writeFileSync(log, '');
    const result = await bed.verb('start', { input: bed.params(), flags: ['-new-thing=1', '--debug=true'] });
    assert.deepEqual([result.code, result.stderr], [0, '']);
    const hello = await bed.replayed(await bed.engine());
    assert.ok(hello.fields.some((field) => field.toString() === 'debug=1'));
    assert.match(
      readFileSync(log, 'utf8'),
      /^time="[^"]+Z" level=warning msg="ignored the flag -new-thing=1" component=keeper\n$/,
    );
  });

  it('makes the keeper a session of its own, without standard descriptors, easier to kill than the daemon', async () => {
    const { pid } = await bed.keeper();
    const status = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    assert.equal(status[3], String(pid)); // session
    for (const fd of [0, 1, 2]) assert.equal(readlinkSync(`/proc/${pid}/fd/${fd}`), '/dev/null');
    assert.equal(readlinkSync(`/proc/${pid}/cwd`), '/');
    const ours = Number(readFileSync('/proc/self/oom_score_adj', 'utf8'));
    assert.equal(Number(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8')), Math.min(1000, ours + 1));
  });
});
