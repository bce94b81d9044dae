/**
 * What `lamina` says to somebody who has only the message: what is wrong, where, and what to do.
 */
import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { type CommandResult, runCommand } from '../../lib/command.js';
import { copyInstalled, LAMINA_LIBRARY, releaseDir } from '../../lib/installed.js';
import { keepers } from '../../lib/processes.js';
import { LAMINA_BIN } from '../../lib/repo.js';
import { FakeDaemon } from '../../lib/shim-client.js';

const NOBODY = 65534;
const SHIM = 'containerd-shim-lamina-v2';
const AS_NOBODY = ['setpriv', '--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups'];
const COMMAND = join(LAMINA_BIN, 'lamina');

interface Report {
  readonly engines: readonly { readonly pid: number }[];
  readonly keepers: readonly {
    readonly pid: number;
    readonly id: string;
    readonly build: string;
    readonly engine: number;
  }[];
  readonly build: string;
  readonly configurations: readonly { readonly path: string; readonly error: string | null }[];
}

describe('lamina engine, where it cannot look', () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'lamina-messages-'));
    chmodSync(dir, 0o755);
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  const lamina = async (how: readonly string[], args: readonly string[], stateDir: string): Promise<CommandResult> =>
    await runCommand([...how, COMMAND, ...args], { env: { LAMINA_STATE_DIR: stateDir } });

  it('fails for another user, and says who may', async () => {
    mkdirSync(join(dir, 'state'), { mode: 0o700 });
    mkdirSync(join(dir, 'hidden'), { mode: 0o700 });
    for (const place of ['state', 'hidden/state', 'absent']) {
      for (const args of [['engine', 'status'], ['engine', 'status', '--json'], ['engine', 'upgrade'], ['uninstall']]) {
        const { code, stdout, stderr } = await lamina(AS_NOBODY, args, join(dir, place));
        assert.equal(code, 1, `${place} ${args.join(' ')}: ${stdout}`);
        assert.equal(stdout, '');
        assert.match(stderr, /^lamina: .*run this as that user, usually root \(sudo lamina …\)\n$/);
        assert.ok(stderr.includes(join(dir, place)), stderr);
      }
    }
  });

  it('names a state directory that others can change, what is wrong with it and what to do', async () => {
    const path = join(dir, 'state');
    const places: readonly (readonly [RegExp, () => void])[] = [
      [
        /has mode 0777, so others may write there: chmod 0700 /,
        () => {
          mkdirSync(path);
          chmodSync(path, 0o777);
        },
      ],
      [/is a file, not a directory: remove it/, () => writeFileSync(path, '')],
      [/is a symbolic link, not a directory: remove it/, () => symlinkSync(dir, path)],
      [
        /belongs to uid 65534, not to uid 0: chown 0 /,
        () => {
          mkdirSync(path, { mode: 0o700 });
          chownSync(path, NOBODY, NOBODY);
        },
      ],
    ];
    for (const [pattern, make] of places) {
      make();
      for (const args of [
        ['engine', 'status'],
        ['engine', 'upgrade', '--dry-run'],
        ['uninstall', '--dry-run'],
      ]) {
        const { code, stderr } = await lamina([], args, path);
        assert.equal(code, 1);
        assert.match(stderr, pattern);
        assert.ok(stderr.startsWith(`lamina: state directory ${path} `), stderr);
      }
      rmSync(path, { recursive: true });
    }
  });

  it('answers a release that is not there with those that are', async () => {
    for (const release of ['nosuch', '../releases', '.', '']) {
      const { code, stderr } = await lamina([], ['engine', 'upgrade', '--to', release], join(dir, 'state'));
      assert.equal(code, 1);
      assert.match(stderr, /^lamina: .*is no release in \/.*; there are: \S/);
      assert.ok(stderr.includes(releaseDir().split('/').at(-1) ?? '?'), stderr);
      assert.equal(stderr.trim().split('\n').length, 1, stderr);
    }
  });
});

describe('lamina engine status', () => {
  let daemon: FakeDaemon;
  beforeEach(async () => {
    daemon = await FakeDaemon.start(SHIM);
  });
  afterEach(async () => await daemon.stop());

  const environment = (): Record<string, string> => ({ LAMINA_STATE_DIR: daemon.env['LAMINA_STATE_DIR'] ?? '' });
  const status = async (...args: string[]): Promise<CommandResult> =>
    await runCommand([COMMAND, 'engine', 'status', '--timeout', '60', ...args], { env: environment() });
  const report = async (): Promise<Report> => JSON.parse((await status('--json')).stdout) as Report;

  it('shows each keeper with its build, the engine that serves it, and the build that is installed', async () => {
    const shims = [await daemon.launch({ args: ['true'] }), await daemon.launch({ args: ['true'] })];
    const found = await report();
    assert.deepEqual(new Set(found.keepers.map(({ id }) => id)), new Set(shims.map(({ id }) => id)));
    assert.deepEqual(new Set(found.keepers.map(({ pid }) => pid)), new Set(keepers(daemon)));
    assert.match(found.build, /^[0-9a-f]{16}$/);
    for (const keeper of found.keepers) {
      assert.equal(keeper.build, found.build);
      assert.deepEqual(
        [keeper.engine],
        found.engines.map(({ pid }) => pid),
      );
    }
    const { stdout, code } = await status();
    assert.equal(code, 0);
    for (const { id } of shims)
      assert.match(stdout, new RegExp(`^keeper \\d+ \\(.*/${id}\\): build ${found.build}$`, 'm'));
  });

  it('finds keepers by their sockets, whatever their program is called', async () => {
    const link = join(daemon.dir, 'containerd-shim-runc-v2');
    symlinkSync(join(LAMINA_BIN, SHIM), link);
    const renamed = await FakeDaemon.start(link);
    try {
      const { id } = await renamed.launch({ args: ['true'] });
      const env = { LAMINA_STATE_DIR: renamed.env['LAMINA_STATE_DIR'] ?? '' };
      const { stdout } = await runCommand([COMMAND, 'engine', 'status', '--json', '--timeout', '60'], { env });
      assert.deepEqual(
        (JSON.parse(stdout) as Report).keepers.map((keeper) => keeper.id),
        [id],
      );
    } finally {
      await renamed.stop();
    }
  });

  it('says that the configuration of the running engines is broken before the next one finds out', async () => {
    const config = daemon.env['LAMINA_CONFIG'] ?? '';
    await daemon.launch({ args: ['true'] });
    assert.deepEqual((await report()).configurations, [{ path: config, error: null }]);
    writeFileSync(config, 'engin = "shared"\n');
    const { code, stdout } = await status();
    assert.equal(code, 1);
    assert.match(
      stdout,
      /^configuration \S+lamina\.toml cannot be used, so .*: \S+lamina\.toml: unknown key "engin"$/m,
    );
    rmSync(config);
    assert.match((await status()).stdout, /configuration .*lamina\.toml cannot be used.*ENOENT.*LAMINA_CONFIG/);
    writeFileSync(config, '[timeouts]\nengine_idle_ms = 1000\nkeeper_idle_ms = 5000\n');
    assert.equal((await status()).code, 0);
  });

  it('says so of its own configuration where nothing runs', async () => {
    const config = join(daemon.dir, 'broken.toml');
    writeFileSync(config, 'engine = "none"\n');
    const env = { ...environment(), LAMINA_CONFIG: config };
    const { code, stdout } = await runCommand([COMMAND, 'engine', 'status'], { env });
    assert.equal(code, 1);
    assert.match(
      stdout,
      /no engine runs\nconfiguration .*broken\.toml cannot be used.*engine is "none", expected one of/,
    );
  });

  it('tells of a keeper that nobody serves, and of an engine that does not answer', async () => {
    const { id } = await daemon.launch({ args: ['true'] });
    const [engine] = (await report()).engines;
    process.kill(engine?.pid ?? 0, 'SIGSTOP');
    try {
      const { code, stdout } = await runCommand([COMMAND, 'engine', 'status', '--timeout', '1'], {
        env: environment(),
      });
      assert.equal(code, 1);
      assert.match(stdout, new RegExp(`^engine ${engine?.pid}: shared, does not answer`, 'm'));
      assert.match(
        stdout,
        new RegExp(`^keeper \\d+ \\(.*/${id}\\) is not served: no answer within 1000 ms; build`, 'm'),
      );
    } finally {
      process.kill(engine?.pid ?? 0, 'SIGCONT');
    }
  });
});

describe('lamina, with an installation that lacks something', () => {
  let dir: string;
  let library: string;
  let release: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'lamina-lacks-'));
    library = join(dir, 'lib/lamina');
    copyInstalled(LAMINA_LIBRARY, library);
    release = releaseDir(library);
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  const lamina = async (args: readonly string[], env: Record<string, string> = {}): Promise<CommandResult> =>
    await runCommand([COMMAND, ...args], {
      env: { LAMINA_LIB: library, LAMINA_STATE_DIR: join(dir, 'state'), ...env },
    });

  it('says in status which part of the engine, and that no container can be made', async () => {
    for (const [path, missing] of [
      [join(release, 'lamina.node'), join(release, 'lamina.node')],
      [join(release, 'engine.js'), join(release, 'engine.js')],
      [join(library, 'engine.cjs'), join(library, 'engine.cjs')],
    ] as const) {
      renameSync(path, join(dir, 'away'));
      const { code, stdout } = await lamina(['engine', 'status']);
      assert.equal(code, 1);
      assert.ok(
        stdout.includes(`${missing} is missing, so containers cannot be created: install Lamina again\n`),
        stdout,
      );
      const upgraded = await lamina(['engine', 'upgrade', '--dry-run']);
      assert.equal(upgraded.code, 1);
      assert.match(upgraded.stderr, /missing: install Lamina again|does not start/);
      renameSync(join(dir, 'away'), path);
    }
    assert.equal((await lamina(['engine', 'status'])).code, 0);
  });

  it('says what of the command itself, without a stack trace', async () => {
    const cases: readonly (readonly [RegExp, Record<string, string>])[] = [
      [
        /^lamina: no \/nonexistent\/lamina\.mjs: install Lamina again, or let LAMINA_LIB/,
        { LAMINA_LIB: '/nonexistent' },
      ],
      [/^lamina: LAMINA_NODE is \/nonexistent: no such program: unset it/, { LAMINA_NODE: '/nonexistent' }],
      [/^lamina: state directory state is not an absolute path/, { LAMINA_STATE_DIR: 'state' }],
    ];
    for (const [pattern, env] of cases) {
      const { code, stderr } = await lamina(['engine', 'status'], env);
      assert.equal(code, 1, stderr);
      assert.match(stderr, pattern);
      assert.equal(stderr.trim().split('\n').length, 1, stderr);
    }
  });

  it('ends quietly when nobody reads on', async () => {
    const script = `"$0" --help | true; "$0" engine --help | true; "$0" engine status | true`;
    const { stderr } = await runCommand(['sh', '-c', script, COMMAND], {
      env: { LAMINA_LIB: library, LAMINA_STATE_DIR: join(dir, 'state') },
    });
    assert.equal(stderr, '');
  });
});

describe('a start with an installation that lacks something', () => {
  it('says which file, and to install again', async () => {
    const daemon = await FakeDaemon.start(SHIM);
    const library = join(daemon.dir, 'library');
    try {
      mkdirSync(library);
      for (const name of ['engine.cjs', 'engine.js', 'lamina-worker', 'node'])
        symlinkSync(join(releaseDir(), name), join(library, name));
      // A copy, so that it does not lead to a folder that has everything.
      rmSync(join(library, 'engine.cjs'));
      writeFileSync(join(library, 'engine.cjs'), '');
      const bundle = await daemon.bundle({ args: ['true'] });
      const { code, stderr } = await daemon.verb(bundle, ['start'], { env: { LAMINA_LIB: library } });
      assert.equal(code, 1);
      assert.equal(
        stderr,
        `${SHIM}: engine: ${library}/lamina.node is missing: install Lamina again (scripts/install PREFIX)\n`,
      );
      assert.notEqual(library, LAMINA_LIBRARY);
    } finally {
      await daemon.stop();
    }
  });
});
