import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { RESOURCE_FIELDS } from '../../../src/cgroups/resources/fields.js';
import { REPO } from '../../lib/repo.js';

const cell = (names: readonly string[]): string => names.map((name) => `\`${name}\``).join(', ') || '–';

describe('docs/cgroups.md', () => {
  it('lists every field with its files and property, and no other', () => {
    const text = readFileSync(join(REPO, 'docs/cgroups.md'), 'utf8');
    const [, table = ''] = text.split('| OCI field | cgroup v2 | cgroup v1 | systemd property |\n|---|---|---|---|\n');
    const rows = table.slice(0, table.indexOf('\n\n')).split('\n');
    const expected = RESOURCE_FIELDS.map(
      ({ field, v2, v1, systemd }) =>
        `| \`${field}\` | ${cell(v2)} | ${cell(v1)} | ${cell(systemd === undefined ? [] : [systemd])} |`,
    );
    assert.deepEqual(rows, expected);
  });
});
