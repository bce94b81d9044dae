import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import fc from 'fast-check';
import { parseRuncLog, readRuncLog, runcLogSize } from '../../../src/oci/index.js';

let dir: string;
let log: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lamina-log-'));
  log = join(dir, 'log.json');
});
afterEach(() => rmSync(dir, { recursive: true }));

const line = (msg: string, level = 'error') => `${JSON.stringify({ level, msg })}\n`;

describe('parseRuncLog', () => {
  it('skips and counts what is no entry', () => {
    const part = parseRuncLog(`garbage\n${line('a')}\n[1]\nnull\n{"level":1,"msg":"x"}\n{"level":"error","msg":"to`);
    assert.deepEqual(part.entries, [{ level: 'error', msg: 'a', time: '' }]);
    assert.equal(part.garbageLines, 5);
  });

  it('reads entries that are spread over lines, as crun writes them', () => {
    const spread = (msg: string) => `${JSON.stringify({ msg, level: 'error' }, undefined, 2)}\n`;
    const torn = '{\n  "msg": "torn",\n';
    const part = parseRuncLog(`${spread('a')}${torn}${spread('b')}${line('c')}${torn}}\n${torn}`);
    assert.deepEqual(
      part.entries.map((entry) => entry.msg),
      ['a', 'b', 'c'],
    );
    assert.equal(part.garbageLines, 3);
  });

  it('finds every entry whatever stands between, and never throws', () => {
    const text = fc.string().filter((s) => !s.includes('\n'));
    fc.assert(
      fc.property(fc.array(fc.tuple(text, text)), (pairs) => {
        const part = parseRuncLog(pairs.map(([garbage, msg]) => `${garbage}\n${line(msg)}`).join(''));
        const messages = part.entries.map((entry) => entry.msg);
        assert.deepEqual(
          messages,
          pairs.map(([, msg]) => msg),
        );
      }),
    );
  });
});

describe('readRuncLog', () => {
  it('reads only what was appended', () => {
    writeFileSync(log, line('old'));
    const offset = runcLogSize(log);
    appendFileSync(log, line('new', 'warning'));
    assert.deepEqual(readRuncLog(log, offset).part.entries, [{ level: 'warning', msg: 'new', time: '' }]);
  });

  it('reads all of a log that was replaced by a shorter one', () => {
    writeFileSync(log, line('new'));
    assert.equal(readRuncLog(log, 1000).part.entries[0]?.msg, 'new');
  });

  it('reads the end of a very long log, from a whole line', () => {
    writeFileSync(log, line('x'.repeat(1000), 'debug').repeat(400) + line('last'));
    const { part, trouble } = readRuncLog(log, 0);
    assert.equal(part.entries.at(-1)?.msg, 'last');
    assert.equal(part.garbageLines, 0);
    assert.ok(part.entries.length < 400);
    assert.equal(trouble, undefined);
  });

  it('says why there is nothing', () => {
    assert.equal(runcLogSize(log), 0);
    assert.equal(readRuncLog(log, 0).trouble, `open ${log}: no such file or directory`);
    assert.match(readRuncLog(dir, 0).trouble ?? '', /^read .*EISDIR/);
    writeFileSync(log, 'nope\n');
    assert.equal(readRuncLog(log, 0).trouble, `${log}: 1 unreadable log entries`);
  });
});
