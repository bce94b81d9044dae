/** `lamina store fsck|backup|rebuild` */
import { resolve } from 'node:path';
import { type FsckReport, fsck } from '../../store/index.js';
import type { Invocation } from '../command/spec.js';
import { printJson, printLine, printText } from '../output/print.js';
import { openStore, rootOf } from './context.js';

/** @returns 1 when something is wrong, and was not repaired */
export async function runCheck(invocation: Invocation): Promise<number> {
  const report = await fsck({
    root: rootOf(invocation),
    repair: invocation.flag('repair'),
    verify: invocation.flag('digests'),
  });
  return show(invocation, report);
}

/** @returns 1 when something is wrong still */
export async function runRebuild(invocation: Invocation): Promise<number> {
  return show(invocation, await fsck({ root: rootOf(invocation), repair: true, rebuild: true }));
}

export async function runBackup(invocation: Invocation): Promise<undefined> {
  const file = resolve(invocation.arg(0) ?? '');
  using store = await openStore(invocation, { readOnly: true });
  store.backup(file);
  if (invocation.flag('json')) printJson({ file });
  else printLine(file);
}

function show(invocation: Invocation, { findings, isSound, blobs, rebuilt }: FsckReport): number {
  if (invocation.flag('json')) printJson({ isSound, blobs, findings, rebuilt: rebuilt ?? null });
  else {
    for (const { subject, problem, remedy } of findings) printText(`${subject}: ${problem}; ${remedy}`);
    if (rebuilt !== undefined) {
      const { kept, fromBackup, adopted, snapshots, losses, damaged } = rebuilt;
      printLine(
        `made anew: ${kept} records kept, ${fromBackup} from the last copy, ${adopted} blobs and ${snapshots} snapshots from their files`,
      );
      for (const loss of losses) printText(`lost: ${loss}`);
      if (damaged !== undefined) printText(`the damaged database is ${damaged}`);
    }
    printLine(
      `${blobs} blobs looked at: ${isSound ? 'sound' : 'not sound: lamina store fsck --repair mends what it can'}`,
    );
  }
  return isSound ? 0 : 1;
}
