/** The rows as a file that the host makes documentation of (test/vm/conformance-table.mjs). */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { mustRun } from '../../../lib/command.js';
import { PLACE } from '../../../lib/repo.js';
import { NOTHING } from './case.js';
import { MAKERS, type Row } from './compare.js';
import { findExpected } from './expected.js';
import type { Maker } from './groups.js';
import type { Settings } from './snapshot.js';

/**
 * Adds the rows to $LAMINA_TEST_RESULTS/conformance.json; without that variable nobody wants them.
 */
export async function saveRows(rows: readonly Row[]): Promise<void> {
  const folder = process.env['LAMINA_TEST_RESULTS'];
  if (folder === undefined) return;
  const file = join(folder, 'conformance.json');
  const earlier = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as { rows: object[] }).rows : [];
  const plain = rows.map((row) => plainRow(row, usual(rows, row)));
  writeFileSync(file, JSON.stringify({ place: PLACE, ...(await versions()), rows: [...earlier, ...plain] }, null, 1));
}

async function versions(): Promise<Record<string, string>> {
  const runc = /runc version (\S+)/.exec(await mustRun(['runc', '--version']))?.[1] ?? '?';
  const systemd = /^systemd (\d+)/.exec(await mustRun(['systemctl', '--version']))?.[1] ?? '?';
  return { kernel: release(), systemd, runc };
}

/** What runc's container without limits has: the rest is of interest. */
function usual(rows: readonly Row[], { driver }: Row): Settings {
  return rows.find((row) => row.driver === driver && row.name === NOTHING)?.settings.runc.set ?? new Map();
}

function plainRow(row: Row, common: Settings): object {
  const differing = new Set(row.differences.map(({ key }) => key));
  const interesting = (maker: Maker): Record<string, string> =>
    Object.fromEntries(
      [...row.settings[maker].set].filter(
        ([key, value]) => key !== 'outcome' && (common.get(key) !== value || differing.has(key)),
      ),
    );
  return {
    name: row.name,
    driver: row.driver,
    step: row.step,
    asked: row.asked,
    ...Object.fromEntries(MAKERS.map((maker) => [maker, interesting(maker)])),
    errors: row.errors,
    differences: row.differences.map((each) => ({ ...each, reason: findExpected(row, each)?.reason })),
  };
}
