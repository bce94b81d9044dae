import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import fc from 'fast-check';
import { Code } from '../../../src/base/index.js';
import {
  bundlePaths,
  formatOptions,
  parseOptions,
  readOptions,
  readPidFile,
  readRuntime,
  writeFileAtomic,
  writeOptions,
  writeRuntime,
} from '../../../src/oci/index.js';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lamina-bundle-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

describe('bundle', () => {
  it('knows the names containerd and the Go shim use', () => {
    const paths = bundlePaths('/b');
    assert.equal(paths.runtimeLog, '/b/log.json');
    assert.equal(paths.initPid, '/b/init.pid');
    assert.equal(paths.execPid('e1'), '/b/e1.pid');
  });

  it('replaces a file in one step and leaves nothing beside it', () => {
    const path = join(dir, 'address');
    writeFileAtomic(path, 'old');
    writeFileAtomic(path, 'new', 0o644);
    assert.equal(readFileSync(path, 'utf8'), 'new');
    assert.equal(statSync(path).mode & 0o777, 0o644);
    assert.throws(() => writeFileAtomic(dir, 'x'), { code: 'EISDIR' });
    assert.deepEqual(readdirSync(dir), ['address']);
  });

  it('reads pid files', () => {
    const path = join(dir, 'init.pid');
    writeFileSync(path, '4242\n');
    assert.equal(readPidFile(path), 4242);
    assert.throws(() => readPidFile(join(dir, 'none')), { code: Code.NotFound });
    for (const text of ['', '0', '-1', '1.5', '99999999999', '2147483648', '12 13', 'x']) {
      writeFileSync(path, text);
      assert.throws(() => readPidFile(path), {
        code: Code.DataLoss,
        message: `read ${path}: ${JSON.stringify(text)} is not a pid`,
      });
    }
  });
});

describe('runtime options', () => {
  it('are written with the keys of the Go shim, without zero values', () => {
    const options = { binaryName: 'crun', root: '', systemdCgroup: true, noPivotRoot: false, ioUid: 0, ioGid: 5 };
    writeOptions(dir, options);
    assert.equal(
      readFileSync(join(dir, 'options.json'), 'utf8'),
      '{"io_gid":5,"binary_name":"crun","systemd_cgroup":true}',
    );
    assert.equal(statSync(join(dir, 'options.json')).mode & 0o777, 0o600);
    assert.deepEqual(readOptions(dir), { binaryName: 'crun', systemdCgroup: true, ioGid: 5 });
  });

  it('come back as they were written', () => {
    const name = fc.string({ minLength: 1 });
    const options = fc.record(
      { noPivotRoot: fc.constant(true), shimCgroup: name, ioUid: fc.integer({ min: 1, max: 2 ** 32 - 1 }), root: name },
      { requiredKeys: [], noNullPrototype: true },
    );
    fc.assert(
      fc.property(options, (value) => {
        assert.deepEqual(parseOptions(formatOptions(value)), value);
      }),
    );
  });

  it('ignore unknown keys and name a bad one', () => {
    assert.deepEqual(parseOptions('{"future":1,"root":"/r"}'), { root: '/r' });
    assert.throws(() => parseOptions('{"systemd_cgroup":"yes"}'), {
      message: 'options.json: systemd_cgroup: expected a boolean',
    });
    assert.throws(() => parseOptions('[]'), { message: 'options.json: expected an object' });
  });

  it('may be absent', () => {
    assert.equal(readOptions(dir), undefined);
    assert.equal(readRuntime(dir), undefined);
    writeRuntime(dir, '');
    assert.equal(readRuntime(dir), undefined);
    writeRuntime(dir, '/usr/bin/crun');
    assert.equal(readRuntime(dir), '/usr/bin/crun');
  });
});
