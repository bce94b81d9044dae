/** What `lamina` says about itself: help, errors, completion, as a user gets them. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { COMMANDS } from '../../../src/cli/command/tree.js';
import { mustRun, runCommand } from '../../lib/command.js';
import { LAMINA_BIN } from '../../lib/repo.js';

const LAMINA = join(LAMINA_BIN, 'lamina');
const shown = COMMANDS.filter(({ isHidden }) => isHidden !== true);

describe('help', () => {
  it('lists every command, in lines that fit a terminal', async () => {
    const help = await mustRun([LAMINA, '--help']);
    for (const { words, summary } of shown) {
      assert.match(help, new RegExp(`^ +lamina ${words} `, 'm'));
      assert.ok(help.replace(/\s+/g, ' ').includes(summary), summary);
    }
    for (const line of help.split('\n')) assert.ok(line.length <= 80, line);
    assert.equal(await mustRun([LAMINA, 'help']), help);
    assert.equal(await mustRun([LAMINA, '-h']), help);
  });

  it('of each command has its arguments, options and examples, however it is asked for', async () => {
    for (const spec of shown) {
      const words = spec.words.split(' ');
      const help = await mustRun([LAMINA, ...words, '--help']);
      assert.ok(help.startsWith(`usage: lamina ${spec.words}`), help);
      for (const { name } of spec.args) assert.match(help, new RegExp(`^  ${name}\\b`, 'm'));
      for (const { flags } of spec.options) assert.ok(help.includes(flags), flags);
      assert.ok(spec.examples.length > 0, spec.words);
      for (const [line] of spec.examples) assert.ok(help.includes(`  $ ${line}`), line);
      assert.equal(await mustRun([LAMINA, 'help', ...words]), help);
    }
  });

  it('may be cut off by its reader', async () => {
    const { stderr, stdout } = await runCommand(['bash', '-c', `${LAMINA} --help | true; echo \${PIPESTATUS[0]}`]);
    assert.equal(stderr, '');
    assert.match(stdout, /^(0|141)\n$/);
  });

  it('that cannot be written is a failure', async () => {
    const { code, stderr } = await runCommand(['bash', '-c', `${LAMINA} --help > /dev/full`]);
    assert.equal(code, 1);
    assert.match(stderr, /ENOSPC/);
  });
});

describe('a wrong command line', () => {
  const wrong: readonly (readonly [line: string, says: RegExp])[] = [
    ['', /^lamina: no command\n\nusage: lamina COMMAND/],
    ['fly', /^lamina: unknown command fly\n\nusage: lamina COMMAND/],
    ['engine', /^lamina: no command after engine: expected status, upgrade\n\nusage: lamina engine/],
    ['engine fly', /^lamina: unknown command engine fly\n\nusage: lamina engine/],
    ['engine statu', /^lamina: unknown command engine statu \(Did you mean status\?\)\n/],
    ['engine status --what', /^lamina: unknown option '--what'\n\nusage: lamina engine status/],
    ['engine upgrade --to', /^lamina: option '--to RELEASE' argument missing\n\nusage: lamina engine upgrade/],
    ['engine status a b', /^lamina: too many arguments: a b\n\nusage: lamina engine status/],
    ['--root /x engine status', /^lamina: lamina engine status has no option --root\n\nusage: lamina engine status/],
    ['completion', /^lamina: missing required argument 'SHELL'\n\nusage: lamina completion/],
    ['help fly', /^lamina: unknown command fly\n/],
  ];

  for (const [line, says] of wrong) {
    it(`has exit status 2 and says how it is used: lamina ${line}`, async () => {
      const { code, stdout, stderr } = await runCommand([LAMINA, ...line.split(' ').filter(Boolean)]);
      assert.equal(code, 2, stderr);
      assert.equal(stdout, '');
      assert.match(stderr, says);
    });
  }
});

describe('completion', () => {
  let dir: string;
  before(async () => {
    dir = mkdtempSync(join(tmpdir(), 'lamina-completion-'));
    writeFileSync(join(dir, 'lamina.bash'), await mustRun([LAMINA, 'completion', 'bash']));
    writeFileSync(join(dir, 'a file'), '');
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  /** What a real bash offers behind these words. */
  async function offered(...words: string[]): Promise<string[]> {
    const script = `
      source '${dir}/lamina.bash'
      cd '${dir}'
      COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
      complete -p lamina | grep -q -- '-F _lamina' || exit 9
      _lamina
      printf '%s\\n' "\${COMPREPLY[@]}"`;
    const text = await mustRun(['bash', '-uc', script, 'bash', 'lamina', ...words]);
    return text.split('\n').filter(Boolean).toSorted();
  }

  it('knows commands, options and values, and where the command stands among options', async () => {
    const first = new Set([...shown.map(({ words }) => words.split(' ')[0] ?? ''), 'help']);
    assert.deepEqual(await offered(''), [...first].toSorted());
    assert.deepEqual(await offered('eng'), ['engine']);
    assert.deepEqual(await offered('engine', ''), ['status', 'upgrade']);
    assert.deepEqual(await offered('--root', '/x', '--json', 'engine', 'u'), ['upgrade']);
    assert.deepEqual(await offered('engine', 'upgrade', '--'), ['--dry-run', '--force', '--help', '--timeout', '--to']);
    assert.deepEqual(await offered('completion', ''), ['bash', 'fish', 'zsh']);
    assert.deepEqual(await offered('engine', 'upgrade', '--to', ''), []);
  });

  it('offers files and folders where they are meant', async () => {
    assert.deepEqual(await offered('--root', `${dir}/`), []);
    assert.deepEqual(await offered('--root', dir.slice(0, -2)), [dir]);
  });

  it('is there for zsh and fish, and for no other shell', async () => {
    for (const shell of ['zsh', 'fish']) {
      const text = await mustRun([LAMINA, 'completion', shell]);
      for (const { words } of shown) assert.ok(text.includes(`'${words}'`), `${shell}: ${words}`);
    }
    const { code, stderr } = await runCommand([LAMINA, 'completion', 'tcsh']);
    assert.equal(code, 1);
    assert.equal(stderr, 'lamina: completion for tcsh: there is one for bash, zsh, fish\n');
  });
});
