/**
 * What scripts/install leaves, whoever runs it and how, and that `lamina uninstall` takes it back.
 */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { type CommandResult, mustRun, runCommand, shellQuote } from '../../lib/command.js';
import { releaseDir } from '../../lib/installed.js';
import { engines } from '../../lib/processes.js';
import { LAMINA_BIN, REPO } from '../../lib/repo.js';
import { FakeDaemon } from '../../lib/shim-client.js';
import { until } from '../../lib/wait.js';

const SHIM = 'containerd-shim-lamina-v2';
const OTHERS_MAY_WRITE = 0o022;

describe('an installation', () => {
  let dir: string;
  let prefix: string;
  beforeEach(() => {
    // Not in /tmp, which everybody may write to.
    dir = mkdtempSync('/var/lib/lamina-install-');
    prefix = join(dir, 'opt/deep/prefix');
    makeCheckout();
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  const makeCheckout = (): void => {
    const checkout = join(dir, 'checkout');
    mkdirSync(join(checkout, 'build/lib'), { recursive: true });
    for (const name of ['scripts', 'package.json']) cpSync(join(REPO, name), join(checkout, name), { recursive: true });
    symlinkSync(join(REPO, 'node_modules'), join(checkout, 'node_modules'));
    const own = new Set([SHIM, 'lamina.node', 'lamina-worker', 'node', 'engine.cache', 'LICENSE-node', 'MANIFEST']);
    for (const name of readdirSync(releaseDir())) {
      if (!own.has(name)) cpSync(join(releaseDir(), name), join(checkout, 'build/lib', name));
    }
    for (const name of ['lamina.node', 'lamina-worker'])
      cpSync(join(releaseDir(), name), join(checkout, 'build', name));
    cpSync(join(LAMINA_BIN, SHIM), join(checkout, 'build', SHIM));
  };
  const install = async (umask = '022'): Promise<CommandResult> => {
    const script = join(dir, 'checkout/scripts/install');
    const result = await runCommand(['sh', '-c', `umask ${umask}; exec ${script} ${shellQuote(prefix)} --no-build`]);
    assert.equal(result.code, 0, result.stderr);
    return result;
  };
  const lamina = async (args: readonly string[], env: Record<string, string> = {}): Promise<CommandResult> =>
    await runCommand([join(prefix, 'bin/lamina'), ...args], { env: { LAMINA_STATE_DIR: join(dir, 'state'), ...env } });
  const all = (folder: string): string[] => [
    folder,
    ...readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name)),
  ];
  const releases = (): string[] => readdirSync(join(prefix, 'lib/lamina/releases')).toSorted();

  it('is writable for nobody else, whatever the umask was, then or at an installation before', async () => {
    await install('000');
    const open = (): string[] =>
      all(join(dir, 'opt')).filter((path) => {
        const { mode, uid } = statSync(path);
        return (mode & OTHERS_MAY_WRITE) !== 0 || uid !== process.geteuid?.();
      });
    assert.deepEqual(open(), []);
    // As an installation of before this was minded left it.
    for (const path of all(join(prefix, 'lib/lamina'))) if (existsSync(path)) chmodSync(path, 0o777);
    chmodSync(join(prefix, 'bin'), 0o777);
    const { stderr } = await install('000');
    assert.deepEqual(open(), [join(prefix, 'bin')]);
    assert.match(stderr, /warning: everybody may write to \S+\/bin, .*: chmod o-w /);
  });

  it('can be read and run by everybody, whatever the umask was', async () => {
    await install('077');
    for (const path of all(join(dir, 'opt'))) assert.equal(statSync(path).mode & 0o444, 0o444, path);
  });

  it('has the licences of all that is in it', async () => {
    await install();
    const release = join(prefix, 'lib/lamina/releases', releases()[0] ?? '');
    const licences = readFileSync(join(release, 'THIRD-PARTY-LICENSES'), 'utf8');
    // The engine's text has no comments left that name them; its map does.
    const sources = ['engine.js.map', 'lamina-run.cjs.map'].flatMap(
      (name): string[] => JSON.parse(readFileSync(join(release, name), 'utf8')).sources,
    );
    const packages = new Set(sources.flatMap((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? []));
    assert.ok(packages.size >= 4, [...packages].join());
    for (const name of packages) assert.match(licences, new RegExp(`^={80}\n${name} \\d`, 'm'));
    assert.match(licences, /GNU C Library .*\nLGPL-2\.1-or-later/);
    assert.match(licences, /Copyright 2008 Google Inc/);
    assert.match(readFileSync(join(release, 'LICENSE-node'), 'utf8'), /Node\.js is licensed/);
    assert.equal(readFileSync(join(release, 'LICENSE'), 'utf8'), readFileSync(join(REPO, 'LICENSE'), 'utf8'));
  });

  it('has another release id when the keeper alone is another, and goes back to the keeper too', async () => {
    await install();
    const [first = ''] = releases();
    appendFileSync(join(dir, 'checkout/build', SHIM), 'x');
    await install();
    assert.equal(releases().length, 2);
    const keeper = (): Buffer => readFileSync(join(prefix, 'bin', SHIM));
    const before = readFileSync(join(prefix, 'lib/lamina/releases', first, SHIM));
    assert.ok(!keeper().equals(before));
    const { code, stderr } = await lamina(['engine', 'upgrade', '--to', first]);
    assert.equal(code, 0, stderr);
    assert.ok(keeper().equals(before));
    assert.equal(statSync(join(prefix, 'bin', SHIM)).mode & 0o777, 0o755);
  });

  it('is removed by uninstall, with nothing else', async () => {
    mkdirSync(join(prefix, 'bin'), { recursive: true });
    writeFileSync(join(prefix, 'bin/other'), '');
    await install();
    appendFileSync(join(dir, 'checkout/build', SHIM), 'x');
    await install();
    writeFileSync(join(prefix, 'lib/lamina/mine'), '');
    const before = all(prefix);
    const dry = await lamina(['uninstall', '--dry-run']);
    assert.equal(dry.code, 0, dry.stderr);
    assert.deepEqual(all(prefix), before);
    const { code, stdout, stderr } = await lamina(['uninstall']);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /left \S+\/lib\/lamina\/: not empty \(mine\)\n/);
    const left = ['', 'bin', 'bin/other', 'lib', 'lib/lamina', 'lib/lamina/mine'];
    assert.deepEqual(new Set(all(prefix)), new Set(left.map((name) => join(prefix, name))));
  });

  it('is removed by uninstall to the last folder where it was alone', async () => {
    await install();
    assert.equal((await lamina(['uninstall'])).code, 0);
    assert.ok(!existsSync(prefix));
  });

  it('is not removed while a container needs it: uninstall names each, and ends an engine that nobody needs', async () => {
    await install();
    const daemon = await FakeDaemon.start(join(prefix, 'bin', SHIM));
    const stateDir = { LAMINA_STATE_DIR: daemon.env['LAMINA_STATE_DIR'] ?? '' };
    try {
      const shim = await daemon.launch({ args: ['sleep', '1000'] });
      // From its own state directory, and from another, where it is not registered.
      for (const env of [stateDir, {}]) {
        const { code, stdout, stderr } = await lamina(['uninstall'], env);
        assert.equal(code, 1, stdout);
        assert.match(
          stderr,
          new RegExp(
            `1 shim of this installation still runs; nothing was removed:\n {2}keeper \\d+ \\(.*/${shim.id}\\)`,
          ),
        );
      }
      assert.ok(existsSync(join(prefix, 'bin', SHIM)));
      await shim.task.shutdown({ id: shim.id, now: true });
      await until('the keeper has gone', async () => (await lamina(['uninstall', '--dry-run'], stateDir)).code === 0);
      const removed = await lamina(['uninstall'], stateDir);
      assert.equal(removed.code, 0, removed.stderr);
      assert.deepEqual(engines(daemon), []);
    } finally {
      await daemon.stop();
    }
  });

  it('is not removed by a manifest that names what is not its own', async () => {
    await install();
    const manifest = join(prefix, 'lib/lamina/releases', releases()[0] ?? '', 'MANIFEST');
    const own = readFileSync(manifest, 'utf8');
    for (const strange of ['../../../../etc/passwd', '/etc/passwd', 'bin/../../x', 'etc/passwd']) {
      writeFileSync(manifest, `${own}${strange}\n`);
      const { code, stderr } = await lamina(['uninstall']);
      assert.equal(code, 1);
      assert.ok(stderr.includes(`names ${strange}`), stderr);
    }
    rmSync(manifest);
    assert.match((await lamina(['uninstall'])).stderr, /run scripts\/install .* once more/);
    assert.ok((await mustRun([join(prefix, 'bin/lamina'), '--version'])).startsWith('lamina '));
  });
});
