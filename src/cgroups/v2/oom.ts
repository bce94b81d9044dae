/** OOM kills on v2: memory.events notifies of every change. Its counts include the groups below. */

import type { OomWatch } from '../cgroup.js';
import type { FileChanges } from '../changes.js';
import { StatFile } from '../file.js';
import { kernelLog } from '../kmsg.js';
import { OomCounter, type OomPlace, type OomReading } from '../oom.js';
import { parseKey } from '../parse.js';

/** @throws {CgroupFileError} NotFound if there is no memory.events */
export function watchOom({ dir, path, onOom, from }: OomPlace, changes: FileChanges): OomWatch {
  const events = `${dir}/memory.events`;
  const file = new StatFile(events);
  const read = (): OomReading | undefined => {
    const text = file.readText();
    if (text === undefined) return undefined;
    const count = (key: string): bigint => parseKey(text, key) ?? 0n;
    return { kills: count('oom_kill'), shortages: count('max') + count('oom') };
  };
  // Watched before the baseline is read: a kill in between is part of neither otherwise.
  let counter: OomCounter | undefined;
  const watch = changes.watch(events, () => counter?.check());
  counter = new OomCounter({ read, onOom, path, from, log: kernelLog(changes.kernel).watch() });
  counter.check();
  return {
    get counted() {
      return counter.counted;
    },
    isShort: false,
    drain(exit) {
      // Notifications that wait in the queue outlive the file.
      changes.flush();
      counter.drain(exit);
    },
    [Symbol.dispose]() {
      counter.end();
      watch[Symbol.dispose]();
      file.close();
    },
  };
}
