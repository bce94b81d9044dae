import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import fc from 'fast-check';
import { LaminaError, UndoStack } from '../../../src/base/index.js';
import { withUndo } from '../../../src/cgroups/create.js';
import { hierarchyPath, makeGroup } from '../../../src/cgroups/path.js';
import { countFds, FakeHierarchy } from './fake.js';

describe('the path of a group', () => {
  const mount = { mountPoint: '/sys/fs/cgroup', root: '/' };
  const own = () => '/system.slice/app.service';

  it('begins at the mount point, or beside or below the own group', () => {
    assert.equal(hierarchyPath('/jobs//./build-7/', mount, own, 'beside'), '/jobs/build-7');
    assert.equal(hierarchyPath('build-7', mount, own, 'beside'), '/system.slice/build-7');
    assert.equal(hierarchyPath('build-7', mount, own, 'below'), '/system.slice/app.service/build-7');
    assert.equal(
      hierarchyPath('a', mount, () => '/', 'beside'),
      '/a',
    );
    assert.equal(hierarchyPath('/a', { ...mount, root: '/docker/1' }, own, 'beside'), '/docker/1/a');
  });

  it('never leads out of the mount, and is refused in no other way than by a typed error', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('/', '.', 'a', '..', '\n', '\0', '-', 'ü') }), (path) => {
        let found: string;
        try {
          found = hierarchyPath(path, { mountPoint: '/m', root: '/r' }, () => '/r/own/x', 'beside');
        } catch (error) {
          assert.ok(error instanceof LaminaError && error.code === 3, String(error));
          return;
        }
        assert.ok(found.startsWith('/r/'), found);
        assert.ok(!found.split('/').includes('..'));
      }),
    );
  });
});

describe('making a group', () => {
  let fake: FakeHierarchy;
  let fds: number;
  let undo: UndoStack;
  const mount = () => ({ mountPoint: fake.root, root: '/' });

  beforeEach(() => {
    fds = countFds();
    fake = new FakeHierarchy();
    undo = new UndoStack();
  });

  afterEach(() => {
    fake[Symbol.dispose]();
    assert.equal(countFds(), fds, 'no descriptor is left');
  });

  it('makes what is missing, and undoes just that', async () => {
    fs.mkdirSync(join(fake.root, 'a'));
    const made = makeGroup(mount(), '/a/b/c', undo);
    assert.deepEqual(made, {
      dir: `${fake.root}/a/b/c`,
      levels: ['a', 'a/b', 'a/b/c'].map((level) => `${fake.root}/${level}`),
      isNew: true,
    });
    assert.equal(makeGroup(mount(), '/a/b/c', new UndoStack()).isNew, false);
    await undo.run((message) => assert.fail(message));
    assert.deepEqual(fs.readdirSync(fake.root, { recursive: true }), ['a']);
  });

  it('leaves what somebody else has begun to use meanwhile', async () => {
    makeGroup(mount(), '/a/b', undo);
    makeGroup(mount(), '/a/other', new UndoStack());
    await undo.run((message) => assert.fail(message));
    assert.deepEqual(fs.readdirSync(fake.root, { recursive: true }).sort(), ['a', 'a/other']);
  });

  it('does not follow links, nor enter what is no directory or another file system', () => {
    fs.symlinkSync('/tmp', join(fake.root, 'link'));
    fs.writeFileSync(join(fake.root, 'file'), '');
    for (const path of ['/link', '/link/a', '/file', '/file/a']) {
      assert.throws(() => makeGroup(mount(), path, undo), { code: 3, message: /it is no directory/ }, path);
    }
    // /proc and /sys/fs/cgroup are file systems of their own.
    const root = { mountPoint: '/', root: '/' };
    assert.throws(() => makeGroup(root, '/proc', undo), { code: 3, message: /something else is mounted there/ });
  });

  it('refuses what lies outside the mount', () => {
    assert.throws(() => makeGroup({ mountPoint: fake.root, root: '/docker/1' }, '/docker/2', undo), { code: 5 });
  });
});

describe('undoing a create', () => {
  it('keeps the error, and adds what could not be undone', async () => {
    const failing = withUndo((undo) => {
      undo.add('first', () => undefined);
      undo.add('second', () => {
        throw new Error('stuck');
      });
      throw new LaminaError(9, 'refused');
    });
    await assert.rejects(failing, { code: 9, message: 'refused; left behind: undo "second": stuck' });
    await assert.rejects(
      withUndo(() => Promise.reject(new LaminaError(7, 'plain'))),
      { code: 7, message: 'plain' },
    );
  });
});
