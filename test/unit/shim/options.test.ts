import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { type Any, packMessage, runc, runtimeOptions } from '../../../src/api/index.js';
import { Code } from '../../../src/base/index.js';
import { DEFAULT_CONFIG } from '../../../src/shim/config.js';
import { decodeOptions, usesSystemdCgroup } from '../../../src/shim/options.js';

const RUNC_OPTIONS = runc.Options.decode(new Uint8Array());

function toml(text: string, configPath = ''): Any {
  return packMessage(runtimeOptions.Options, { typeUrl: '', configPath, configBody: Buffer.from(text) });
}

describe('decodeOptions', () => {
  it('uses the configured runtime and the stock root when nothing is sent', async () => {
    const options = await decodeOptions(undefined, { ...DEFAULT_CONFIG, runtime: 'crun' });
    assert.equal(options.binaryName, 'crun');
    assert.equal(options.root, '/run/containerd/runc');
    assert.equal(options.systemdCgroup, false);
  });

  it('takes the options of ctr and the Go client, with or without a URL prefix', async () => {
    const any = packMessage(runc.Options, { ...RUNC_OPTIONS, binaryName: '/opt/runc', systemdCgroup: true, ioUid: 7 });
    for (const typeUrl of [any.typeUrl, `type.googleapis.com/${any.typeUrl}`]) {
      const options = await decodeOptions({ ...any, typeUrl }, DEFAULT_CONFIG);
      assert.equal(options.binaryName, '/opt/runc');
      assert.equal(options.systemdCgroup, true);
      assert.equal(options.ioUid, 7);
      assert.equal(options.root, '/run/containerd/runc');
    }
  });

  it('takes the TOML that CRI sends', async () => {
    const any = toml('SystemdCgroup = true\nBinaryName = "crun"\nIoGid = 5\nTypeUrl = "x"\n');
    const options = await decodeOptions(any, DEFAULT_CONFIG);
    assert.deepEqual([options.systemdCgroup, options.binaryName, options.ioGid], [true, 'crun', 5]);
  });

  it('reads the file that Docker and ctr name', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'lamina-options-'));
    try {
      writeFileSync(join(dir, 'o.toml'), 'Root = "/run/other"\n');
      assert.equal((await decodeOptions(toml('', join(dir, 'o.toml')), DEFAULT_CONFIG)).root, '/run/other');
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  const bad: readonly (readonly [what: string, any: Any, message: RegExp])[] = [
    [
      'an unknown type',
      { typeUrl: 'some.Options', value: new Uint8Array() },
      /unsupported options type "some\.Options"/,
    ],
    ['an unknown key', toml('Colour = 1'), /unknown option "Colour"/],
    ['a wrong type', toml('SystemdCgroup = "yes"'), /SystemdCgroup is "yes", expected a boolean/],
    ['a negative id', toml('IoUid = -1'), /IoUid is -1, expected a number/],
    ['broken TOML', toml('SystemdCgroup ='), /runtime options: /],
    ['a relative path', toml('', 'o.toml'), /options file "o\.toml": not an absolute path/],
    ['a missing file', toml('', '/nonexistent/o.toml'), /options file "\/nonexistent\/o\.toml": .*no such file/],
    [
      'undecodable bytes',
      { typeUrl: 'containerd.runc.v1.Options', value: Buffer.of(0xff) },
      /containerd\.runc\.v1\.Options/,
    ],
  ];
  for (const [what, any, message] of bad) {
    it(`refuses ${what} and names it`, async () => {
      await assert.rejects(decodeOptions(any, DEFAULT_CONFIG), { message, code: Code.InvalidArgument });
    });
  }
});

describe('usesSystemdCgroup', () => {
  it('infers it from a path of the form slice:prefix:name', async () => {
    const options = await decodeOptions(undefined, DEFAULT_CONFIG);
    assert.equal(usesSystemdCgroup(options, 'system.slice:docker:abc'), true);
    assert.equal(usesSystemdCgroup(options, ':docker:abc'), true);
    assert.equal(usesSystemdCgroup(options, '/default/abc'), false);
    assert.equal(usesSystemdCgroup(options, '/a:b:c'), false);
    assert.equal(usesSystemdCgroup(options, undefined), false);
    assert.equal(usesSystemdCgroup({ ...options, systemdCgroup: true }, '/default/abc'), true);
  });
});
