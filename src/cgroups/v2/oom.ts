/** OOM kills on v2: memory.events notifies of every change. Its counts include the groups below. */

import type { OnOom, OomWatch } from '../cgroup.js';
import type { FileChanges } from '../changes.js';
import { StatFile } from '../file.js';
import { kernelLog } from '../kmsg.js';
import { OomCounter, type OomReading } from '../oom.js';
import { parseKey } from '../parse.js';

/**
 * @param path of the group from the root of the hierarchy
 * @throws {CgroupFileError} NotFound if there is no memory.events
 */
export function watchOom(dir: string, path: string, changes: FileChanges, onOom: OnOom): OomWatch {
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
  counter = new OomCounter({ read, onOom, path, log: kernelLog(changes.kernel).watch() });
  return {
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
