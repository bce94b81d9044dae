import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { makeFolders } from '../../../src/base/index.js';

describe('makeFolders', () => {
  let dir: string;
  before(() => {
    dir = mkdtempSync(join(tmpdir(), 'lamina-folders-'));
    writeFileSync(join(dir, 'file'), '');
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  it('makes what is missing, all with the mode, and leaves what is there', () => {
    makeFolders(join(dir, 'a/b/c'), 0o700);
    for (const path of ['a', 'a/b', 'a/b/c']) assert.equal(statSync(join(dir, path)).mode & 0o777, 0o700, path);
    makeFolders(join(dir, 'a/b/c'), 0o755);
    assert.equal(statSync(join(dir, 'a/b/c')).mode & 0o777, 0o700);
  });

  it('refuses a name that something else has', () => {
    assert.throws(() => makeFolders(join(dir, 'file'), 0o700), { code: 'EEXIST' });
  });

  it('says what was in the way, and not that something is missing', () => {
    assert.throws(() => makeFolders(join(dir, 'file/below/it'), 0o700), { code: 'ENOTDIR' });
    assert.throws(() => makeFolders('/proc/none/below', 0o700), { code: 'ENOENT' });
  });
});
