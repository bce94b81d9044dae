import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Script } from 'node:vm';
import { releaseDir } from '../../lib/installed.js';

describe('the installed engine', () => {
  let copy: string;
  beforeEach(() => {
    copy = mkdtempSync(join(tmpdir(), 'lamina-installed-'));
    cpSync(releaseDir(), copy, { recursive: true });
  });
  afterEach(() => rmSync(copy, { recursive: true }));

  /** What the engine says of an empty request for the runtime's name. */
  const runtimeOf = (): string => {
    const run = spawnSync(process.execPath, [join(copy, 'engine.mjs'), '--print-runtime'], {
      input: '',
      encoding: 'utf8',
    });
    assert.equal(run.status, 0, run.stderr);
    return run.stdout;
  };

  it('has compiled code that this node takes', () => {
    const script = new Script(readFileSync(join(copy, 'engine.js'), 'utf8'), {
      filename: join(copy, 'engine.js'),
      cachedData: readFileSync(join(copy, 'engine.cache')),
    });
    assert.equal(script.cachedDataRejected, false);
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
