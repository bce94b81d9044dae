import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Code, LaminaError } from '../../../src/base/index.js';
import {
  defaultSpec,
  parseJson,
  parseOptions,
  parseProcess,
  parseResources,
  parseSpec,
  readSpec,
  SpecError,
} from '../../../src/oci/index.js';
import { findJsonError } from '../../../src/oci/json.js';

const refusal = (parse: () => unknown): string => {
  try {
    parse();
  } catch (error) {
    assert.ok(error instanceof SpecError, String(error));
    assert.equal(error.code, Code.InvalidArgument);
    return error.message;
  }
  return 'accepted';
};

describe('OCI validation', () => {
  const specs: readonly [string, string][] = [
    ['{"linux":{"resources":{"memory":{"limit":"64M"}}}}', 'linux.resources.memory.limit: expected an integer'],
    ['{"linux":{"resources":{"memory":{"limit":1.5}}}}', 'linux.resources.memory.limit: expected an integer'],
    ['{"linux":{"resources":{"cpu":{"shares":-1}}}}', 'linux.resources.cpu.shares: expected a non-negative integer'],
    ['{"linux":{"resources":{"unified":{"memory.high":5}}}}', 'linux.resources.unified.memory.high: expected a string'],
    [
      '{"linux":{"resources":{"devices":[{"allow":true},{"allow":1}]}}}',
      'linux.resources.devices.1.allow: expected true or false',
    ],
    ['{"linux":[]}', 'linux: expected an object'],
    ['{"process":{"args":"sh"}}', 'process.args: expected a list'],
    ['{"process":{"args":["sh",null]}}', 'process.args.1: expected a string'],
    ['{"root":{}}', 'root.path: is missing'],
    ['{"annotations":{"a":1}}', 'annotations.a: expected a string'],
    ['[]', 'expected an object'],
    ['"x"', 'expected an object'],
  ];
  for (const [json, message] of specs) {
    it(`refuses ${json}`, () =>
      assert.equal(
        refusal(() => parseSpec(json)),
        `config.json: ${message}`,
      ));
  }

  it('names the field of a process and of resources', () => {
    assert.equal(
      refusal(() => parseProcess('{"user":{"uid":-1}}')),
      'process.user.uid: expected a non-negative integer',
    );
    assert.equal(
      refusal(() => parseResources('{"pids":{"limit":"5"}}')),
      'resources.pids.limit: expected an integer',
    );
    assert.equal(
      refusal(() => parseResources('7')),
      'resources: expected an object',
    );
  });

  it('passes what it does not know, and takes null for absent as Go does', () => {
    const json = '{"cwd":"/","args":["a"],"rlimits":[{"type":"X"}],"user":null,"env":null,"future":{"x":[1]}}';
    assert.deepEqual(parseProcess(json), { cwd: '/', args: ['a'], rlimits: [{ type: 'X' }], future: { x: [1] } });
    assert.deepEqual(parseResources(new TextEncoder().encode('{"memory":{"limit":-1}}')), { memory: { limit: -1 } });
    assert.deepEqual(parseSpec(JSON.stringify(defaultSpec())), defaultSpec());
  });

  it('names the file and the reason when a config.json cannot be read', () => {
    const bundle = mkdtempSync(join(tmpdir(), 'lamina-bundle-'));
    const path = join(bundle, 'config.json');
    try {
      assert.throws(() => readSpec(bundle), {
        code: Code.NotFound,
        message: `read ${path}: no such file or directory`,
        subject: path,
      });
      writeFileSync(path, '{\n  "root": }');
      assert.equal(
        refusal(() => readSpec(bundle)),
        `${path}: not JSON: unexpected "}" at line 2 column 11`,
      );
      writeFileSync(path, '{"root":{"path":1}}');
      assert.equal(
        refusal(() => readSpec(bundle)),
        `${path}: root.path: expected a string`,
      );
      writeFileSync(path, JSON.stringify(defaultSpec()));
      assert.equal(readSpec(bundle).root?.path, 'rootfs');
      rmSync(path);
      mkdirSync(path);
      assert.throws(
        () => readSpec(bundle),
        (error) => error instanceof LaminaError && error.message.startsWith(`read ${path}: EISDIR`),
      );
    } finally {
      rmSync(bundle, { recursive: true });
    }
  });

  it('never throws anything but LaminaError, for any text and any JSON', () => {
    const parsers = [parseSpec, parseProcess, parseResources, (json: string) => parseOptions(json)];
    const nearly = fc.object({
      key: fc.constantFrom(
        'process',
        'linux',
        'resources',
        'memory',
        'limit',
        'args',
        '__proto__',
        'constructor',
        'root',
      ),
      maxDepth: 5,
    });
    const json = fc.oneof(
      fc.string(),
      fc.json(),
      nearly.map((value) => JSON.stringify(value)),
    );
    fc.assert(
      fc.property(json, (text) => {
        for (const parse of parsers) {
          try {
            parse(text);
          } catch (error) {
            assert.ok(error instanceof LaminaError, String(error));
          }
        }
      }),
    );
  });
});

describe('parseJson', () => {
  const broken: readonly [string, string][] = [
    ['', 'end of input at line 1 column 1'],
    ['  \n', 'end of input at line 2 column 1'],
    ['{"a":1', 'end of input at line 1 column 7'],
    ['{"a" 1}', '"1" at line 1 column 6'],
    ['{"a":1,}', '"}" at line 1 column 8'],
    ['[1 2]', '"2" at line 1 column 4'],
    ['{"a":tru}', '"t" at line 1 column 6'],
    ['[1]\n]', '"]" at line 2 column 1'],
    ['[}', '"}" at line 1 column 2'],
    ['\u{1f600}', '"\u{1f600}" at line 1 column 1'],
    ['"a\tb"', '"\\"" at line 1 column 1'],
  ];
  for (const [text, where] of broken) {
    it(`locates the error in ${JSON.stringify(text)}`, () => {
      assert.equal(
        refusal(() => parseJson(text, 'x')),
        `x: not JSON: unexpected ${where}`,
      );
    });
  }

  it('finds no error in valid JSON, and one within any truncation of it', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        assert.equal(findJsonError(text), text.length);
        assert.equal(findJsonError(`${text} !`), text.length + 1);
      }),
    );
  });

  it('survives deep nesting', () => {
    assert.match(
      refusal(() => parseJson('['.repeat(200_000), 'x')),
      /end of input at line 1 column 200001$/,
    );
  });
});
