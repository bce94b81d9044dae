import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { LM_ENGINE_OPTIONS } from '../../../src/sys/index.js';
import { mustRun, runCommand } from '../../lib/command.js';
import { copyInstalled, LAMINA_NODE, releaseDir } from '../../lib/installed.js';
import { LAMINA_BIN, REPO } from '../../lib/repo.js';
import { until } from '../../lib/wait.js';

describe('the installed engine', () => {
  let copy: string;
  beforeEach(() => {
    copy = mkdtempSync(join(tmpdir(), 'lamina-installed-'));
    copyInstalled(releaseDir(), copy);
  });
  afterEach(() => rmSync(copy, { recursive: true }));

  /** What the engine says of an empty request for the runtime's name. */
  const runtimeOf = (): string => {
    const run = spawnSync(LAMINA_NODE, [join(copy, 'engine.cjs'), '--print-runtime'], {
      input: '',
      encoding: 'utf8',
    });
    assert.equal(run.status, 0, run.stderr);
    return run.stdout;
  };

  it('has compiled code that this node takes, as keepers start it', () => {
    const code = `const { readFileSync } = require('node:fs');
      const [filename, cache] = process.argv.slice(1);
      const script = new (require('node:vm').Script)(readFileSync(filename, 'latin1'), { filename, cachedData: readFileSync(cache) });
      process.stdout.write(String(script.cachedDataRejected));`;
    const args = [...LM_ENGINE_OPTIONS.split(' '), '-e', code, join(copy, 'engine.js'), join(copy, 'engine.cache')];
    assert.equal(spawnSync(LAMINA_NODE, args, { encoding: 'utf8' }).stdout, 'false');
    assert.equal(runtimeOf(), 'runc');
  });

  it('runs all the same without it, and with one that is damaged', () => {
    writeFileSync(join(copy, 'engine.cache'), readFileSync(join(copy, 'engine.cache')).subarray(0, 1000));
    assert.equal(runtimeOf(), 'runc');
    rmSync(join(copy, 'engine.cache'));
    assert.equal(runtimeOf(), 'runc');
    assert.ok(!existsSync(join(copy, 'engine.cache')));
  });
});

describe('scripts/install', () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'lamina-install-'));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  /**
   * A checkout with a build of its own, which can be given another version; what is installed is
   * what the tests use.
   */
  const makeCheckout = (): void => {
    mkdirSync(join(dir, 'build/lib'), { recursive: true });
    for (const name of ['scripts', 'package.json']) cpSync(join(REPO, name), join(dir, name), { recursive: true });
    for (const name of readdirSync(releaseDir())) {
      if (/^(engine|lamina|lamina-run)\.[cm]?js$/.test(name))
        cpSync(join(releaseDir(), name), join(dir, 'build/lib', name));
    }
    symlinkSync(join(REPO, 'node_modules'), join(dir, 'node_modules'));
    cpSync(join(releaseDir(), 'lamina.node'), join(dir, 'build/lamina.node'));
    cpSync(join(releaseDir(), 'lamina-worker'), join(dir, 'build/lamina-worker'));
    cpSync(join(LAMINA_BIN, 'containerd-shim-lamina-v2'), join(dir, 'build/containerd-shim-lamina-v2'));
  };
  const install = async (version: string): Promise<string> => {
    const script = join(dir, 'build/lib/engine.js');
    // Of the same length: code compiled for the other would be taken for this one's.
    writeFileSync(script, readFileSync(script, 'utf8').replace(/(var VERSION=[^;]*)"[^"]+";/, `$1"${version}";`));
    await mustRun([join(dir, 'scripts/install'), join(dir, 'prefix'), '--no-build']);
    return readlinkSync(join(library(), 'engine.cjs')).split('/')[1] ?? '';
  };
  const library = (): string => join(dir, 'prefix/lib/lamina');

  it('replaces everything in one step: an engine that starts meanwhile is the old one or the new one', async () => {
    makeCheckout();
    const installed = [await install('0.0.1')];
    const wrong: string[] = [];
    const seen = new Set<string>();
    let isOver = false;
    writeFileSync(join(dir, 'config.toml'), '');
    const starts = (async () => {
      while (!isOver) {
        const { stdout, stderr, code } = await runCommand(
          [join(library(), 'node'), join(library(), 'engine.cjs'), '--check'],
          {
            env: { LAMINA_CONFIG: join(dir, 'config.toml') },
          },
        );
        if (code === 0) seen.add((JSON.parse(stdout) as { version: string }).version);
        else wrong.push(`${code}: ${stdout}${stderr}`);
      }
    })();
    for (const version of ['0.0.2', '0.0.1', '0.0.3']) {
      installed.push(await install(version));
      await until(`${version} starts`, () => seen.has(version) || wrong.length > 0);
    }
    isOver = true;
    await starts;
    assert.deepEqual(wrong, []);
    assert.ok(
      [...seen].every((version) => ['0.0.1', '0.0.2', '0.0.3'].includes(version)),
      [...seen].join(),
    );
    // The one before stays, to go back to; nothing else does.
    assert.deepEqual(readdirSync(join(library(), 'releases')).toSorted(), installed.slice(-2).toSorted());
    assert.deepEqual(readdirSync(library()).toSorted(), ['engine.cjs', 'engine.mjs', 'lamina.mjs', 'node', 'releases']);
    assert.deepEqual(readdirSync(join(dir, 'prefix/bin')).toSorted(), ['containerd-shim-lamina-v2', 'lamina']);
  });

  it('gives every release its own node, which is one file where it is the same', async () => {
    makeCheckout();
    const releases = [await install('0.0.1'), await install('0.0.2')];
    const inode = (path: string): number => statSync(path).ino;
    const [first, second] = releases.map((release) => inode(join(library(), 'releases', release, 'node')));
    assert.equal(first, second);
    assert.equal(inode(join(library(), 'node')), second);
    const said = await mustRun([join(library(), 'node'), '-p', 'process.version']);
    const { optionalDependencies } = JSON.parse(readFileSync(join(REPO, 'package.json'), 'utf8')) as {
      optionalDependencies: Record<string, string>;
    };
    for (const version of Object.values(optionalDependencies)) assert.equal(said.trim(), `v${version}`);
  });

  it('brings a command and an engine that need no node in PATH', async () => {
    makeCheckout();
    const release = await install('0.0.1');
    // What a shell script needs, and a node that is no good.
    const bin = join(dir, 'bin');
    mkdirSync(bin);
    for (const name of ['sh', 'dirname', 'readlink']) symlinkSync(`/usr/bin/${name}`, join(bin, name));
    writeFileSync(join(bin, 'node'), '#!/bin/sh\nexit 70\n', { mode: 0o755 });
    const env = { PATH: bin, LAMINA_STATE_DIR: join(dir, 'state') };
    const said = await mustRun([join(dir, 'prefix/bin/lamina'), 'engine', 'status'], { env });
    const echo = join(dir, 'echo');
    writeFileSync(echo, '#!/bin/sh\necho "$1"\n', { mode: 0o755 });
    const told = await mustRun([join(dir, 'prefix/bin/lamina'), 'engine'], { env: { ...env, LAMINA_NODE: echo } });
    assert.equal(told, '--disable-sigusr1\n');
    assert.match(said, new RegExp(`release ${release} \\(installed\\)`));
  });
});
