import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Code, LaminaError } from '../../../../src/base/index.js';
import {
  escapeUnitName,
  expandSlice,
  parseSystemdPath,
  unitFromCgroupPath,
  unitObjectPath,
  unitPath,
} from '../../../../src/cgroups/systemd/names.js';

const invalid = (error: unknown): boolean => error instanceof LaminaError && error.code === Code.InvalidArgument;

describe('slice:prefix:name', () => {
  const good: [string, string, string][] = [
    ['system.slice:runc:web', 'system.slice', 'runc-web.scope'],
    [':runc:web', 'system.slice', 'runc-web.scope'],
    ['a-b.slice:cri-containerd:0123', 'a-b.slice', 'cri-containerd-0123.scope'],
    ['-.slice:p:n', '-.slice', 'p-n.scope'],
    // runc joins the two whatever they are.
    ['system.slice::n', 'system.slice', '-n.scope'],
    ['system.slice:ignored:kube-pod1.slice', 'system.slice', 'kube-pod1.slice'],
    ['system.slice:p:a b/c', 'system.slice', 'p-a\\x20b\\x2fc.scope'],
    ['system.slice:p:é', 'system.slice', 'p-\\xc3\\xa9.scope'],
    ['system.slice:p:x@y', 'system.slice', 'p-x\\x40y.scope'],
  ];
  for (const [path, slice, unit] of good) {
    it(`${path} is ${unit} in ${slice}`, () => assert.deepEqual(parseSystemdPath(path), { slice, unit }));
  }

  const bad = [
    '',
    'web',
    '/default/web',
    'system.slice:web',
    'system.slice:a:b:c',
    'system:a:b',
    'a--b.slice:a:b',
    '-a.slice:a:b',
    'a/b.slice:a:b',
    '.slice:a:b',
    'system.slice:a:',
    'system.slice:a:x--y.slice',
    `system.slice:a:${'n'.repeat(250)}`,
    `system.slice:a:${' '.repeat(63)}`,
  ];
  for (const path of bad) {
    it(`refuses ${JSON.stringify(path.slice(0, 40))}`, () => assert.throws(() => parseSystemdPath(path), invalid));
  }

  it('takes another default slice', () => {
    assert.equal(parseSystemdPath(':a:b', 'user.slice').slice, 'user.slice');
  });

  it('makes a valid name of any text, or refuses it', () => {
    const text = fc.oneof(fc.string(), fc.string({ unit: 'grapheme' }), fc.string({ unit: 'binary' }));
    fc.assert(
      fc.property(text, text, (prefix, name) => {
        try {
          const { unit } = parseSystemdPath(`system.slice:${prefix}:${name}`);
          assert.match(unit, /^[A-Za-z0-9:\-_.\\]+\.(scope|slice)$/);
          assert.ok(unit.length <= 255);
          assert.equal(escapeUnitName(unit), unit, 'an escaped name stays as it is');
        } catch (error) {
          if (!invalid(error)) throw error;
        }
      }),
    );
  });

  it('takes 255 bytes, not 256', () => {
    assert.equal(escapeUnitName(`${'n'.repeat(249)}.scope`).length, 255);
    assert.throws(() => escapeUnitName(`${'n'.repeat(250)}.scope`), invalid);
  });
});

describe('the path of a slice', () => {
  const good: [string, string][] = [
    ['-.slice', '/'],
    ['system.slice', '/system.slice'],
    ['a-b-c.slice', '/a.slice/a-b.slice/a-b-c.slice'],
    ['kubepods-burstable-pod1.slice', '/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice'],
    // cgroupfs would take these for files of its own.
    ['memory.slice', '/_memory.slice'],
    ['cpu-x.slice', '/_cpu.slice/cpu-x.slice'],
    ['_a.slice', '/__a.slice'],
  ];
  for (const [slice, path] of good) it(`${slice} is ${path}`, () => assert.equal(expandSlice(slice), path));
  for (const slice of [
    '',
    '.slice',
    'slice',
    'a',
    'a.scope',
    'a--b.slice',
    '-a.slice',
    'a-.slice',
    'a/b.slice',
    '--.slice',
  ]) {
    it(`refuses ${JSON.stringify(slice)}`, () => assert.throws(() => expandSlice(slice), invalid));
  }
  it('is refused or begins with a slash, for any text', () => {
    fc.assert(
      fc.property(fc.string(), (name) => {
        try {
          assert.match(expandSlice(`${name}.slice`), /^\//);
        } catch (error) {
          if (!invalid(error)) throw error;
        }
      }),
    );
  });
});

describe('the path of a unit', () => {
  it('is below its slice', () => {
    assert.equal(unitPath({ slice: 'a-b.slice', unit: 'p-n.scope' }), '/a.slice/a-b.slice/p-n.scope');
    assert.equal(unitPath({ slice: '-.slice', unit: 'p-n.scope' }), '/p-n.scope');
    assert.equal(unitPath({ slice: 'system.slice', unit: 'memory.scope' }), '/system.slice/_memory.scope');
  });
  it('of a slice follows from its name', () => {
    assert.equal(unitPath({ slice: 'system.slice', unit: 'a-b.slice' }), '/a.slice/a-b.slice');
  });
  it('is refused for what is neither scope nor slice', () => {
    assert.throws(() => unitPath({ slice: 'system.slice', unit: 'x.service' }), invalid);
  });
});

describe('the unit of a cgroup path', () => {
  const table: [string, string | undefined, string][] = [
    ['/system.slice/runc-web.scope', 'runc-web.scope', ''],
    ['/a.slice/a-b.slice/x.scope/init.scope', 'x.scope', '/init.scope'],
    ['/a.slice/a-b.slice', 'a-b.slice', ''],
    ['/system.slice/_memory.scope', 'memory.scope', ''],
    ['/system.slice/docker.service/child', 'docker.service', '/child'],
    ['/a.slice/plain', 'a.slice', '/plain'],
    ['/init.scope', 'init.scope', ''],
    ['/default/web', undefined, ''],
    ['/', undefined, ''],
  ];
  for (const [path, unit, below] of table) {
    it(`${path}: ${unit}${below}`, () => {
      const found = unitFromCgroupPath(path);
      assert.equal(found?.unit, unit);
      if (found !== undefined) assert.equal(found.below, below);
    });
  }
  it('undoes unitPath', () => {
    const name = fc.stringMatching(/^[a-z0-9._:]{1,20}$/);
    fc.assert(
      fc.property(
        fc.array(fc.stringMatching(/^[a-z0-9._]{1,8}$/), { minLength: 1, maxLength: 4 }),
        name,
        (parts, id) => {
          const slice = `${parts.join('-')}.slice`;
          const unit = `p-${id}.scope`;
          assert.deepEqual(unitFromCgroupPath(unitPath({ slice, unit })), { slice, unit, below: '' });
        },
      ),
    );
  });
});

it('object paths are escaped byte by byte', () => {
  assert.equal(unitObjectPath('a-b.scope'), '/org/freedesktop/systemd1/unit/a_2db_2escope');
  assert.equal(unitObjectPath('1\\x20.scope'), '/org/freedesktop/systemd1/unit/_31_5cx20_2escope');
});
