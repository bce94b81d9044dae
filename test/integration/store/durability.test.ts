/** Waits for the disk at a commit, and the size of the files. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { Store } from '../../../src/store/index.js';
import { requires } from '../../lib/requires.js';

const NS = 'default';
const BY = { command: 'test' };
const dir = mkdtempSync('/tmp/lamina-store-');
after(() => rmSync(dir, { recursive: true, force: true }));

describe('a commit', { skip: requires({ programs: ['strace'] }) }, () => {
  test('waits for the disk once or twice', () => {
    const module = new URL('../../../src/store/index.js', import.meta.url).href;
    const program = `
      import { writeSync } from 'node:fs';
      import { Store } from '${module}';
      using store = Store.open({ root: ${JSON.stringify(join(dir, 'traced'))} });
      const text = 'x'.repeat(3_000);
      for (let i = 0; i < 2_500; i += 1) {
        store.write({ command: 'test' }, (tx) => {
          writeSync(2, 'mark');
          tx.createLease('default', { id: 'l' + i, labels: { text } });
        });
      }
      writeSync(2, 'end');`;
    const log = join(dir, 'strace');
    const args = [
      '-f',
      '-o',
      log,
      '-e',
      'trace=fsync,fdatasync,write',
      process.execPath,
      '--input-type=module',
      '-e',
      program,
    ];
    const { status, stderr } = spawnSync('strace', args, { encoding: 'utf8', maxBuffer: 1 << 26 });
    assert.equal(status, 0, stderr);
    const [, ...commits] = (readFileSync(log, 'latin1').split(' write(2, "end"')[0] ?? '').split(' write(2, "mark"');
    const syncs = commits.map((text) => text.split('\n').filter((line) => /f(data)?sync\(/.test(line)).length);
    assert.equal(syncs.length, 2_500);
    const often = syncs.filter((count) => count > 2).length;
    assert.ok(Math.min(...syncs) >= 1, 'a commit that was not made durable');
    // A checkpoint, one for 4 MiB of log, is no part of a commit and has two of its own.
    assert.ok(often <= 30, `${often} of 2,500 commits waited more than twice`);
    assert.ok(Math.max(...syncs) <= 4, `one commit and its checkpoint waited ${Math.max(...syncs)} times`);
    assert.ok(syncs.reduce((sum, count) => sum + count, 0) / syncs.length < 1.1);
  });
});

describe('the files', () => {
  test('do not grow with what is made and deleted again and again', { timeout: 600_000 }, () => {
    const root = join(dir, 'grown');
    using store = Store.open({ root });
    const size = (): number =>
      ['', '-wal'].reduce((sum, suffix) => sum + statSync(join(root, `metadata.db${suffix}`)).size, 0);
    const round = (): void => {
      for (let i = 0; i < 60; i += 1) {
        store.write(BY, (tx) => {
          for (let j = 0; j < 500; j += 1) {
            tx.createLease(NS, { id: `${j}`, labels: { text: 'x'.repeat(100) } });
            tx.deleteLease(NS, `${j}`);
          }
        });
      }
    };
    // The journal is full after two.
    round();
    round();
    const before = size();
    round();
    round();
    assert.ok(size() < before * 1.1, `${before} bytes have become ${size()}`);
  });

  test('shrink when much was deleted', () => {
    const root = join(dir, 'shrunk');
    using store = Store.open({ root });
    store.write(BY, (tx) => {
      for (let i = 0; i < 20_000; i += 1) tx.createLease(NS, { id: `${i}`, labels: { text: 'x'.repeat(1_000) } });
    });
    store.write(BY, (tx) => {
      for (let i = 0; i < 20_000; i += 1) tx.deleteLease(NS, `${i}`);
    });
    store.maintain();
    store[Symbol.dispose]();
    const { size } = statSync(join(root, 'metadata.db'));
    assert.ok(size < 12_000_000, `${size} bytes for a journal of 40,000 entries`);
  });
});
